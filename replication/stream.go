package replication

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/outboxstream/streamer/internal/failure"
)

// Kind says what a Message carries.
type Kind uint8

const (
	// None means that everything received has been handed out.
	None Kind = iota
	// Data is one pgoutput message.
	Data
	// Keepalive is a position up to which the server has decoded and sent
	// everything. Every commit below it came earlier in the stream.
	Keepalive
)

// Message is one item of the stream.
type Message struct {
	Kind Kind
	// LSN is the position of a Keepalive. For Data it is the WAL position in the
	// header, which is not in stream order: for error messages only.
	LSN LSN
	// ReplyRequested is set on a Keepalive that the server wants answered.
	ReplyRequested bool
	// Data is the pgoutput message. It is valid until the next call of Next
	// or Wait.
	Data []byte
}

const (
	sendTime        = 1 + 8 + 8     // in 'w', after WAL start and WAL end
	xlogDataHeader  = sendTime + 8  // the message follows
	keepaliveLength = 1 + 8 + 8 + 1 // 'k', WAL end, send time, reply
	messageOverhead = 64 << 10      // what a row's message holds besides the row
)

var (
	// ErrServerSilent ends a session whose server has sent neither data nor
	// keepalives for longer than wal_sender_timeout. The connection is half open,
	// and only a new one can tell (P-15).
	ErrServerSilent = errors.New("server has been silent for longer than wal_sender_timeout")
	// ErrServerStopped reports that the server ended the stream cleanly.
	ErrServerStopped = errors.New("server ended the replication stream")
)

// Stream is a running START_REPLICATION. One goroutine owns it; only Wake may
// be called from others.
type Stream struct {
	feed
	waker
	horizon
	lateness
	began LSN // commit LSN of the last transaction that has begun
}

// Open connects a walsender and starts the stream at start, which must be the
// position of the caller's checkpoint. The server silently begins at the slot's
// own position if that is later, so the slot must have been checked.
func Open(ctx context.Context, c Config, server Server, start LSN) (*Stream, error) {
	s := &Stream{feed: feed{config: c}, horizon: horizonAt(start)}
	conn, in, err := connectReplication(ctx, c, server.Encoding, s.onNotice)
	if err != nil {
		return nil, err
	}
	s.conn, s.frames = conn, in
	if err := s.start(ctx, server, start); err != nil {
		closeQuietly(conn)
		return nil, err
	}
	return s, nil
}

func (s *Stream) start(ctx context.Context, server Server, start LSN) error {
	here, err := pglogrepl.IdentifySystem(ctx, s.conn)
	if err != nil {
		return fmt.Errorf("identify system: %w", err)
	}
	if here.SystemID != server.SystemID || here.Timeline != server.Timeline {
		return failure.Advise(
			fmt.Errorf(
				"replication connection reached system %s timeline %d, but the SQL connection reached system %s timeline %d",
				here.SystemID, here.Timeline, server.SystemID, server.Timeline,
			),
			"name a single server in postgres.dsn or set target_session_attrs=read-write",
		)
	}
	publication, err := inEncoding(s.config.Publication, server.Encoding)
	if err != nil {
		return err
	}
	arguments := []string{"proto_version '1'", "publication_names " + quoteLiteral(quoteIdentifier(publication))}
	if s.config.Binary {
		arguments = append(arguments, "binary 'true'")
	}
	if s.config.readsMessages() {
		arguments = append(arguments, "messages 'true'")
	}
	err = pglogrepl.StartReplication(ctx, s.conn, quoteIdentifier(s.config.Slot), start,
		pglogrepl.StartReplicationOptions{Mode: pglogrepl.LogicalReplication, PluginArgs: arguments})
	if err != nil {
		return s.explainStart(err)
	}
	s.lastReceived = time.Now()
	return nil
}

func (s *Stream) explainStart(err error) error {
	pgErr, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		return fmt.Errorf("start replication on slot %q: %w", s.config.Slot, err)
	}
	base := fmt.Errorf("start replication on slot %q: %s (SQLSTATE %s)", s.config.Slot, pgErr.Message, pgErr.Code)
	switch pgErr.Code {
	case "55006":
		return fmt.Errorf("%w: %w", ErrSlotActive, base)
	case "42704":
		return failure.Refuse(failure.Advise(fmt.Errorf("%w: %w", ErrSlotMissing, base), "see `streamer doctor`"))
	}
	return base
}

// Next returns the next message that has been received, or Kind None when
// there is none. It never blocks.
func (s *Stream) Next() (Message, error) {
	for {
		if s.notice != nil {
			return Message{}, s.notice
		}
		kind, body, ok, err := s.frames.next()
		if err != nil {
			return Message{}, s.explainFrame(err)
		}
		if !ok {
			return Message{}, nil
		}
		if kind == 'd' {
			return s.copyData(body)
		}
		if err := s.control(kind, body); err != nil {
			return Message{}, err
		}
	}
}

func (s *Stream) copyData(body []byte) (Message, error) {
	switch {
	case len(body) >= xlogDataHeader && body[0] == pglogrepl.XLogDataByteID:
		s.begun(body[sendTime:], body[xlogDataHeader:])
		s.note(body[xlogDataHeader:])
		return Message{Kind: Data, LSN: LSN(binary.BigEndian.Uint64(body[1:])), Data: body[xlogDataHeader:]}, nil
	case len(body) == keepaliveLength && body[0] == pglogrepl.PrimaryKeepaliveMessageByteID:
		at := LSN(binary.BigEndian.Uint64(body[1:]))
		s.received = max(s.received, at)
		return Message{Kind: Keepalive, LSN: at, ReplyRequested: body[17] != 0}, nil
	case len(body) == 0:
		return Message{}, errors.New("empty copy data message from the server")
	}
	return Message{}, fmt.Errorf("unknown copy data message %q of %d bytes from the server", body[0], len(body))
}

// note records which transaction a message begins.
func (s *Stream) note(message []byte) {
	if len(message) >= 1+8 && message[0] == 'B' {
		s.began = LSN(binary.BigEndian.Uint64(message[1:]))
	}
}

// ofEncoding reports whether the server could not convert a value: to UTF-8
// (22P05), or because it is invalid in the database's own encoding (22021).
func ofEncoding(err *pgconn.PgError) bool { return err.Code == "22P05" || err.Code == "22021" }

// explainEncoding names the transaction that can never be read. The encoding is
// one with several bytes for a character: see Charset.
func (s *Stream) explainEncoding(base error) error {
	if s.began == 0 {
		return failure.Refuse(failure.Advise(base, "see docs/how-to/incidents.md#a-value-that-the-server-cannot-convert"))
	}
	return failure.Refuse(failure.Advise(
		fmt.Errorf("a row of the transaction committing at %s cannot be converted to UTF-8, in whichever column: %w", s.began, base),
		"correct the row in its table, pass over the transaction with `streamer checkpoint set %s --yes`, start `streamer run`, and publish "+
			"its outbox rows with `streamer replay --missing` (docs/how-to/incidents.md#a-value-that-the-server-cannot-convert)", s.began+1,
	))
}

// control handles messages other than copy data.
func (s *Stream) control(kind byte, body []byte) error {
	switch kind {
	case 'E':
		pgErr, err := serverError(body)
		if err != nil {
			return err
		}
		if ofEncoding(pgErr) {
			return s.explainEncoding(s.explainEnd(pgErr))
		}
		return s.explainEnd(pgErr)
	case 'N':
		return s.noticed(body)
	case 'c', 'C', 'Z':
		return ErrServerStopped
	case 'S', 'A':
		return nil
	}
	return fmt.Errorf("unexpected message of type %q in the replication stream", kind)
}

// Wait blocks until more has been received, Wake is called or until has passed,
// whichever comes first.
func (s *Stream) Wait(until time.Time) error {
	if s.config.BulkReads {
		s.rest(s.frames.lastRead)
	}
	came, err := s.fill(&s.feed, until)
	if err != nil {
		return err
	}
	if came {
		s.lastReceived = time.Now()
		return nil
	}
	if silence := time.Since(s.lastReceived); silence > s.config.SenderTimeout {
		return fmt.Errorf("%w (%s)", ErrServerSilent, silence.Round(time.Second))
	}
	return nil
}

// Confirm tells the server that everything below lsn is durably published, so
// that it never has to be sent again. lsn must be a saved checkpoint. With ping
// the server is asked to answer.
func (s *Stream) Confirm(lsn LSN, ping bool) error {
	if err := s.confirmable(lsn); err != nil {
		return err
	}
	if err := s.conn.Conn().SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return fmt.Errorf("confirm %s: %w", lsn, err)
	}
	err := pglogrepl.SendStandbyStatusUpdate(context.Background(), s.conn, pglogrepl.StandbyStatusUpdate{
		WALWritePosition: lsn, WALFlushPosition: lsn, WALApplyPosition: lsn, ReplyRequested: ping,
	})
	if err != nil {
		return fmt.Errorf("confirm %s: %w", lsn, err)
	}
	return nil
}

// Finish ends the stream cleanly. It tells the server that the streamer is done
// and waits, until the deadline, for the answer, so that the last confirmation
// has been processed when Finish returns. What the server sent in the meantime
// is dropped: it is above the confirmed position and will be sent again.
func (s *Stream) Finish(deadline time.Time) error {
	conn := s.conn.Conn()
	if err := conn.SetDeadline(deadline); err != nil {
		return fmt.Errorf("finish replication stream: %w", err)
	}
	s.conn.Frontend().Send(&pgproto3.CopyDone{})
	if err := s.conn.Frontend().Flush(); err != nil {
		return fmt.Errorf("finish replication stream: %w", err)
	}
	for {
		kind, body, ok, err := s.frames.next()
		if err != nil {
			return fmt.Errorf("finish replication stream: %w", err)
		}
		if ok && kind == 'E' {
			return s.control(kind, body) // the server has not read what was sent
		}
		if ok && kind == 'Z' {
			return nil // only now is the slot free again
		}
		if ok {
			continue
		}
		if err := s.frames.fill(); err != nil {
			return fmt.Errorf("finish replication stream: %w", err)
		}
	}
}

// Close closes the connection. It is safe after any error.
func (s *Stream) Close() { s.close() }

// closeQuietly closes a connection whose remaining errors mean nothing: all
// that matters has been confirmed or will be sent again.
func closeQuietly(conn interface{ Close(context.Context) error }) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = conn.Close(ctx)
}
