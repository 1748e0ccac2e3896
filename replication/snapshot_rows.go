package replication

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
)

// rowReader is the session that reads the rows of the table. It is read through
// frames, because a million rows a minute are too many to allocate for each.
type rowReader struct {
	feed
	types  []uint32
	values [][]byte
	busy   bool // rows were asked for and are not completely read
}

func openRows(ctx context.Context, c Config, s Server) (*rowReader, error) {
	r := &rowReader{feed: feed{config: c}}
	config, err := parse(ctx, c)
	if err != nil {
		return nil, err
	}
	pinEncoding(&config.Config, s.Encoding)
	if r.conn, r.frames, err = connectFrames(ctx, c, &config.Config, nil); err != nil {
		return nil, err
	}
	return r, nil
}

// begin opens a transaction that reads as of now. With its index, reading a part
// of the table costs the same wherever the part is, whereas the server may think
// that it is cheaper to read and sort the whole table each time.
func (r *rowReader) begin(ctx context.Context) error {
	return r.run(ctx, fmt.Sprintf(`BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;
		SET LOCAL lock_timeout = %d; SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off;
		SET LOCAL max_parallel_workers_per_gather = 0; SELECT`, outboxLockTimeout.Milliseconds()))
}

func (r *rowReader) commit(ctx context.Context) error { return r.run(ctx, "COMMIT") }

// run executes statements that return nothing of interest.
func (r *rowReader) run(ctx context.Context, statements string) error {
	if err := r.undisturbed(); err != nil {
		return err
	}
	_, err := r.conn.Exec(ctx, statements).ReadAll()
	return err
}

// one returns the row of a query that has at most one.
func (r *rowReader) one(ctx context.Context, statement string) ([][]byte, error) {
	if err := r.undisturbed(); err != nil {
		return nil, err
	}
	results, err := r.conn.Exec(ctx, statement).ReadAll()
	if err != nil || len(results) == 0 || len(results[0].Rows) == 0 {
		return nil, err
	}
	return results[0].Rows[0], nil
}

// undisturbed clears the read deadline that the last wait has left.
func (r *rowReader) undisturbed() error {
	r.deadline = time.Time{}
	if err := r.net().SetReadDeadline(time.Time{}); err != nil {
		return fmt.Errorf("read table: %w", err)
	}
	return nil
}

// ask requests the rows of a query. Values come as text.
func (r *rowReader) ask(statement string) error {
	if err := r.net().SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return fmt.Errorf("read table: %w", err)
	}
	r.conn.Frontend().Send(&pgproto3.Query{String: statement})
	if err := r.conn.Frontend().Flush(); err != nil {
		return fmt.Errorf("read table: %w", err)
	}
	if err := r.net().SetWriteDeadline(time.Time{}); err != nil {
		return fmt.Errorf("read table: %w", err)
	}
	r.busy = true
	return nil
}

// next returns the next row that has been received, none if more must be read,
// or done.
func (r *rowReader) next() (row [][]byte, done bool, err error) {
	for {
		kind, body, ok, err := r.frames.next()
		if err != nil {
			return nil, false, err
		}
		if !ok {
			return nil, false, nil
		}
		switch kind {
		case 'D':
			return r.row(body)
		case 'T':
			if err := r.describe(body); err != nil {
				return nil, false, err
			}
		case 'E':
			pgErr, err := serverError(body)
			if err != nil {
				return nil, false, err
			}
			return nil, false, pgErr
		case 'Z':
			r.busy = false
			return nil, true, nil
		case 'C', 'N', 'S', 'A':
		default:
			return nil, false, fmt.Errorf("unexpected message of type %q while reading the table", kind)
		}
	}
}

func (r *rowReader) describe(body []byte) error {
	var m pgproto3.RowDescription
	if err := m.Decode(body); err != nil {
		return fmt.Errorf("description of rows: %w", err)
	}
	r.types = r.types[:0]
	for _, f := range m.Fields {
		r.types = append(r.types, f.DataTypeOID)
	}
	return nil
}

var errRow = errors.New("row from the server ends too early")

// row cuts a row into its values: a count, then a length and the bytes of each.
// NULL has a length of -1.
func (r *rowReader) row(body []byte) ([][]byte, bool, error) {
	if len(body) < 2 {
		return nil, false, errRow
	}
	count := int(binary.BigEndian.Uint16(body))
	body = body[2:]
	r.values = r.values[:0]
	for range count {
		if len(body) < 4 {
			return nil, false, errRow
		}
		size := int(int32(binary.BigEndian.Uint32(body)))
		body = body[4:]
		if size < 0 {
			r.values = append(r.values, nil)
			continue
		}
		if size > len(body) {
			return nil, false, errRow
		}
		r.values = append(r.values, body[:size:size])
		body = body[size:]
	}
	return r.values, false, nil
}
