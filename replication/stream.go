package replication

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/outboxstream/streamer/internal/failure"
)

// Kind tells what a Message carries.
type Kind uint8

const (
	// None means that everything received has been handed out.
	None Kind = iota
	// Data is one pgoutput message.
	Data
	// Keepalive is a position up to which the server has decoded and sent
	// everything; every commit below it came earlier in the stream.
	Keepalive
)

// Message is one item of the stream.
type Message struct {
	Kind Kind
	// LSN is the position of a Keepalive. For Data it is the WAL position in
	// the header, which is not in stream order: for error messages only.
	LSN LSN
	// ReplyRequested is set on a Keepalive that the server wants answered.
	ReplyRequested bool
	// Data is the pgoutput message. It is valid until the next call of Next
	// or Wait.
	Data []byte
}

const (
	xlogDataHeader  = 1 + 8 + 8 + 8 // 'w', WAL start, WAL end, send time
	keepaliveLength = 1 + 8 + 8 + 1 // 'k', WAL end, send time, reply
	messageOverhead = 64 << 10      // what a row's message holds besides the row
	writeTimeout    = 10 * time.Second
)

var (
	// ErrServerSilent ends a session whose server has sent neither data nor
	// keepalives for longer than wal_sender_timeout: the connection is half
	// open, and only a new one can tell (P-15).
	ErrServerSilent = errors.New("server has been silent for longer than wal_sender_timeout")
	// ErrServerStopped is the server ending the stream in good order.
	ErrServerStopped = errors.New("server ended the replication stream")
	// ErrPublicationSkipped is PostgreSQL 18's way of saying that the
	// publication did not exist where the log is being read (P-24). It would
	// deliver nothing and go on.
	ErrPublicationSkipped = errors.New("publication did not exist at this point of the log, its rows cannot be decoded")
)

// Stream is a running START_REPLICATION. One goroutine owns it; only Wake may
// be called from others.
type Stream struct {
	conn   *pgconn.PgConn
	frames *frames
	config Config
	notice error // a notice that must end the session

	received     LSN       // highest position that may be confirmed
	lastReceived time.Time // when the server was last heard

	wake struct {
		sync.Mutex
		pending  bool      // Wake was called and not yet noticed
		waiting  bool      // Wait is in a read
		deadline time.Time // what the connection's read deadline is
	}
}

// Open connects a walsender and starts the stream at start, which must be the
// position of the caller's checkpoint: the server silently begins at the slot's
// own position if that is later, so the slot must have been checked.
func Open(ctx context.Context, c Config, server Server, start LSN) (*Stream, error) {
	s := &Stream{config: c, received: start, lastReceived: time.Now()}
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
		return fmt.Errorf("replication connection reached system %s timeline %d, the SQL connection system %s timeline %d: name a single server in postgres.dsn or set target_session_attrs=read-write",
			here.SystemID, here.Timeline, server.SystemID, server.Timeline)
	}
	arguments := []string{"proto_version '1'", "publication_names " + quoteLiteral(quoteIdentifier(s.config.Publication))}
	if s.config.Binary {
		arguments = append(arguments, "binary 'true'")
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
		return failure.Refuse(fmt.Errorf("%w: %w: see `streamer doctor`", ErrSlotMissing, base))
	}
	return base
}

func (s *Stream) onNotice(_ *pgconn.PgConn, n *pgconn.Notice) { s.keepNotice(n.Code) }

// keepNotice remembers SQLSTATE 55000, the code of PostgreSQL 18's "skipped
// loading publication". The walsender sends no other warning with this code.
func (s *Stream) keepNotice(code string) {
	if code == "55000" {
		s.notice = failure.Refuse(fmt.Errorf("%w: publication %q was created or re-created after slot %q had moved past: see `streamer doctor`",
			ErrPublicationSkipped, s.config.Publication, s.config.Slot))
	}
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

// explainFrame tells a row that is too large, and will be when it is read again,
// from a stream that is out of step.
func (s *Stream) explainFrame(err error) error {
	err = fmt.Errorf("replication stream of slot %q: %w", s.config.Slot, err)
	if _, ok := errors.AsType[*TooLargeError](err); ok {
		return failure.Refuse(err)
	}
	return err
}

func (s *Stream) copyData(body []byte) (Message, error) {
	switch {
	case len(body) >= xlogDataHeader && body[0] == pglogrepl.XLogDataByteID:
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

// control handles what is not copy data.
func (s *Stream) control(kind byte, body []byte) error {
	switch kind {
	case 'E':
		var m pgproto3.ErrorResponse
		if err := m.Decode(body); err != nil {
			return fmt.Errorf("error response of the server: %w", err)
		}
		return s.explainEnd(pgconn.ErrorResponseToPgError(&m))
	case 'N':
		var m pgproto3.NoticeResponse
		if err := m.Decode(body); err != nil {
			return fmt.Errorf("notice of the server: %w", err)
		}
		s.keepNotice(m.Code)
		return s.notice
	case 'c', 'C', 'Z':
		return ErrServerStopped
	case 'S', 'A':
		return nil
	}
	return fmt.Errorf("unexpected message of type %q in the replication stream", kind)
}

func (s *Stream) explainEnd(err *pgconn.PgError) error {
	base := fmt.Errorf("replication stream of slot %q: %s (SQLSTATE %s)", s.config.Slot, err.Message, err.Code)
	if err.Code == "42704" && strings.Contains(err.Message, "publication") {
		return failure.Refuse(fmt.Errorf("%w: %w", ErrPublicationSkipped, base))
	}
	return base
}

// Wait blocks until more has been received, Wake is called or the time until
// has come, whichever is first.
func (s *Stream) Wait(until time.Time) error {
	if proceed, err := s.beforeRead(until); !proceed {
		return err
	}
	err := s.frames.fill()
	s.afterRead()
	switch {
	case err == nil:
		s.lastReceived = time.Now()
		return nil
	case isTimeout(err):
		if silence := time.Since(s.lastReceived); silence > s.config.SenderTimeout {
			return fmt.Errorf("%w (%s)", ErrServerSilent, silence.Round(time.Second))
		}
		return nil
	}
	return fmt.Errorf("read replication stream: %w", err)
}

// beforeRead arms the read deadline, unless Wake came first.
func (s *Stream) beforeRead(until time.Time) (proceed bool, err error) {
	s.wake.Lock()
	defer s.wake.Unlock()
	if s.wake.pending {
		s.wake.pending = false
		return false, nil
	}
	if !until.Equal(s.wake.deadline) {
		if err := s.conn.Conn().SetReadDeadline(until); err != nil {
			return false, fmt.Errorf("read replication stream: %w", err)
		}
		s.wake.deadline = until
	}
	s.wake.waiting = true
	return true, nil
}

func (s *Stream) afterRead() {
	s.wake.Lock()
	defer s.wake.Unlock()
	s.wake.waiting, s.wake.pending = false, false
}

// longPast is a read deadline that interrupts a read at once.
var longPast = time.Unix(1, 0)

// Wake makes a running or the next Wait return soon. Any goroutine may call
// it.
func (s *Stream) Wake() {
	s.wake.Lock()
	defer s.wake.Unlock()
	s.wake.pending = true
	if s.wake.waiting {
		s.wake.deadline = longPast
		// An error here means that the connection is closed, which the read
		// will report.
		_ = s.conn.Conn().SetReadDeadline(longPast)
	}
}

// Received tells the stream that the caller has seen a transaction end at lsn,
// which may be confirmed from now on.
func (s *Stream) Received(lsn LSN) { s.received = max(s.received, lsn) }

// LastReceived is when the server was last heard.
func (s *Stream) LastReceived() time.Time { return s.lastReceived }

// Confirm tells the server that everything below lsn is durably published, so
// that it never has to be sent again. lsn must be a saved checkpoint. With ping
// the server is asked to answer.
func (s *Stream) Confirm(lsn LSN, ping bool) error {
	if lsn == 0 {
		// pglogrepl would replace a zero flush position by the write position
		// (P-06): such a message must never be built.
		return errors.New("confirmation of position 0/0")
	}
	if lsn > s.received {
		return fmt.Errorf("confirmation of %s, above %s, the highest position received in this session", lsn, s.received)
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

// Finish ends the stream in good order: it tells the server that we are done
// and waits, until the deadline, for its answer, so that the last confirmation
// has been processed when it returns. What the server sent meanwhile is
// dropped: it lies above the confirmed position and comes again.
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
			return s.control(kind, body) // it has not read what we sent
		}
		if ok && kind == 'Z' {
			return nil // only now the slot is free again
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
func (s *Stream) Close() { closeQuietly(s.conn) }

// closeQuietly closes a connection whose remaining errors mean nothing: all
// that matters has been confirmed or will be sent again.
func closeQuietly(conn interface{ Close(context.Context) error }) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = conn.Close(ctx)
}
