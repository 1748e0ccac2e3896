package replication

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// lane is an SQL session with a temporary copy of the slot, which is read one
// stretch of the WAL at a time. The copy, and everything it holds back, ends
// with the session. Any error ends both.
type lane struct {
	feed
	copy string // name of the temporary slot
	// publication is its name in the session's encoding.
	publication string
	at          LSN  // how far the copy has been read
	busy        bool // a stretch has been asked for and is not completely handed out
	end         LSN  // of that stretch
	rows        bool // the stretch has returned rows
}

// place is the position of a copy after a stretch.
type place struct {
	restart   LSN // where decoding of the next stretch must begin
	confirmed LSN // every commit below it has been handed out
	flushed   LSN // end of the server's WAL
}

// openLane copies the slot and moves the copy to start. The copy begins where
// the slot was last confirmed, which may be earlier.
func openLane(ctx context.Context, c Config, s Server, start LSN) (*lane, error) {
	l := &lane{feed: feed{config: c}, at: start}
	config, err := parse(ctx, c)
	if err != nil {
		return nil, err
	}
	if l.publication, err = inEncoding(c.Publication, s.Encoding); err != nil {
		return nil, err
	}
	pinEncoding(&config.Config, s.Encoding)
	if l.conn, l.frames, err = connectFrames(ctx, c, &config.Config, l.onNotice); err != nil {
		return nil, err
	}
	l.copy = copyName(c.Slot, l.conn.PID())
	if err := l.makeCopy(ctx, start); err != nil {
		l.close()
		return nil, err
	}
	return l, nil
}

const copySuffix = "_catch_up_"

// copyName names the copy after the slot and the session that owns it. Slot
// names have at most 63 characters.
func copyName(slot string, pid uint32) string {
	return suffixed(slot, fmt.Sprintf("%s%d", copySuffix, pid))
}

// copiesOf is a LIKE pattern for the names of a slot's copies.
func copiesOf(slot string) string {
	const room = longestName - len(copySuffix) - len("4194304") // the highest possible process ID
	quoted := strings.NewReplacer("_", `\_`)
	if len(slot) > room {
		return quoted.Replace(slot[:room]) + "%" + quoted.Replace(copySuffix) + "%"
	}
	return quoted.Replace(slot+copySuffix) + "%"
}

func (l *lane) makeCopy(ctx context.Context, start LSN) error {
	_, err := l.conn.Exec(ctx, fmt.Sprintf("SELECT FROM pg_copy_logical_replication_slot(%s, %s, true); %s",
		quoteLiteral(l.config.Slot), quoteLiteral(l.copy), l.advance(start))).ReadAll()
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok {
		return l.explain(pgErr)
	}
	if err != nil {
		return fmt.Errorf("copy slot %q: %w", l.config.Slot, err)
	}
	return nil
}

func (l *lane) advance(to LSN) string {
	return fmt.Sprintf("SELECT FROM pg_replication_slot_advance(%s, %s)", quoteLiteral(l.copy), quoteLiteral(to.String()))
}

// ask requests the transactions whose commit records begin in [from, to), and
// then the position of the copy. The server handles one statement after the
// other while the lane reads, each in its own transaction. messages bounds the
// answer, which the server prepares as a whole, but never cuts a transaction.
func (l *lane) ask(from, to LSN, messages int) error {
	var statements []string
	if from > l.at {
		statements = append(statements, l.advance(from))
	}
	statements = append(
		statements,
		fmt.Sprintf(
			"COPY (SELECT lsn, data FROM pg_logical_slot_get_binary_changes(%s, %s, %d, "+
				"'proto_version', '1', 'publication_names', %s, 'binary', '%t', 'messages', '%t')) TO STDOUT (FORMAT binary)",
			quoteLiteral(l.copy), quoteLiteral(to.String()), messages,
			quoteLiteral(quoteIdentifier(l.publication)), l.config.Binary, l.config.readsMessages(),
		),
		"SELECT restart_lsn, confirmed_flush_lsn, pg_current_wal_flush_lsn() FROM pg_replication_slots WHERE slot_name = "+quoteLiteral(l.copy),
	)
	if err := l.net().SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return fmt.Errorf("read slot %q: %w", l.config.Slot, err)
	}
	for _, statement := range statements {
		l.conn.Frontend().Send(&pgproto3.Query{String: statement})
	}
	if err := l.conn.Frontend().Flush(); err != nil {
		return fmt.Errorf("read slot %q: %w", l.config.Slot, err)
	}
	l.busy, l.end, l.rows = true, to, false
	return nil
}

// next returns the next message of the stretch, or the copy's position at its
// end. If it returns neither, more must be read.
func (l *lane) next() (m Message, done *place, err error) {
	for {
		if l.notice != nil {
			return Message{}, nil, l.notice
		}
		kind, body, ok, err := l.frames.next()
		if err != nil {
			return Message{}, nil, l.explainFrame(err)
		}
		if !ok {
			return Message{}, nil, nil
		}
		switch kind {
		case 'd':
			if m, err = l.row(body); err != nil || m.Kind == Data {
				return m, nil, err
			}
		case 'D':
			if done, err = l.stands(body); err != nil || done != nil {
				return Message{}, done, err
			}
		default:
			if err := l.control(kind, body); err != nil {
				return Message{}, nil, err
			}
		}
	}
}

// copySignature is the beginning of COPY's binary format, followed by flags and
// by an extension, which is empty.
const copySignature = "PGCOPY\n\xff\r\n\x00" + "\x00\x00\x00\x00" + "\x00\x00\x00\x00"

const (
	lsnField  = 2 + 4 + 8 // number of fields, length, LSN
	rowHeader = lsnField + 4
)

// row cuts one message out of COPY's binary format. PostgreSQL sends it row by
// row, the signature together with the first row.
func (l *lane) row(body []byte) (Message, error) {
	body = bytes.TrimPrefix(body, []byte(copySignature)) // a row begins with the number of its fields
	switch {
	case len(body) == 0, len(body) == 2 && binary.BigEndian.Uint16(body) == 0xffff: // the end
		return Message{}, nil
	case len(body) >= rowHeader && binary.BigEndian.Uint16(body) == 2 && binary.BigEndian.Uint32(body[2:]) == 8 &&
		int64(binary.BigEndian.Uint32(body[lsnField:])) == int64(len(body)-rowHeader):
		l.rows = true
		return Message{Kind: Data, LSN: LSN(binary.BigEndian.Uint64(body[6:])), Data: body[rowHeader:]}, nil
	}
	return Message{}, fmt.Errorf("unknown row of %d bytes while reading slot %q", len(body), l.config.Slot)
}

// stands reads the row that follows a stretch.
func (l *lane) stands(body []byte) (*place, error) {
	var m pgproto3.DataRow
	if err := m.Decode(body); err != nil {
		return nil, fmt.Errorf("position of the copy of slot %q: %w", l.config.Slot, err)
	}
	if len(m.Values) == 0 {
		return nil, nil // of the advance
	}
	var p place
	for i, into := range []*LSN{&p.restart, &p.confirmed, &p.flushed} {
		if i >= len(m.Values) {
			return nil, fmt.Errorf("position of the copy of slot %q: %d fields", l.config.Slot, len(m.Values))
		}
		var err error
		if *into, err = pglogrepl.ParseLSN(string(m.Values[i])); err != nil {
			return nil, fmt.Errorf("position of the copy of slot %q: %w", l.config.Slot, err)
		}
	}
	l.at, l.busy = p.confirmed, false
	return &p, nil
}

// control handles messages that are neither a row of the WAL nor a position.
func (l *lane) control(kind byte, body []byte) error {
	switch kind {
	case 'E':
		pgErr, err := serverError(body)
		if err != nil {
			return err
		}
		return l.explain(pgErr)
	case 'N':
		return l.noticed(body)
	case 'T', 'H', 'c', 'C', 'Z', 'S', 'A':
		return nil
	}
	return fmt.Errorf("unexpected message of type %q while reading slot %q", kind, l.config.Slot)
}

// explain distinguishes errors that streaming would not meet from others. A
// value that the server cannot convert is left to streaming, which can say which
// transaction it is in: here the server sends nothing of a stretch before all of
// it is decoded.
func (l *lane) explain(err *pgconn.PgError) error {
	switch {
	case strings.HasPrefix(err.Code, "57P"), strings.HasPrefix(err.Code, "08"): // the session was ended
		return l.explainEnd(err)
	case ofPublication(err):
		return l.explainEnd(err)
	}
	return &NoCatchUpError{Reason: fmt.Sprintf("%s (SQLSTATE %s)", err.Message, err.Code)}
}

// leave ends the session. It cancels a stretch that is being decoded: otherwise
// the server would notice only afterwards that its client is gone.
func (l *lane) leave() {
	if l.busy {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = l.conn.CancelRequest(ctx) // on error the session just ends later
	}
	l.close()
}
