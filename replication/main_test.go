package replication

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/internal/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

// patience is how long a test waits for something that should happen at once.
const patience = 20 * time.Second

// fixture is a database with an outbox, a publication and a slot.
type fixture struct {
	t      *testing.T
	server *pgtest.Server
	config Config
	conn   *pgx.Conn // the application's
}

func newFixture(t *testing.T, server *pgtest.Server) *fixture {
	t.Helper()
	f := newEmptyFixture(t, server)
	f.exec("CREATE TABLE outbox (id int PRIMARY KEY, payload text)", "CREATE PUBLICATION p FOR TABLE outbox WITH (publish = 'insert')")
	f.createSlot()
	return f
}

// newEmptyFixture is only a database.
func newEmptyFixture(t *testing.T, server *pgtest.Server) *fixture {
	t.Helper()
	f := &fixture{t: t, server: server}
	f.config = Config{
		DSN: server.CreateDatabase(t), Publication: "p", Outboxes: []Outbox{{Table: "public.outbox", Columns: []string{"id", "payload"}}},
		ConnectTimeout: patience, SenderTimeout: time.Minute, BulkReads: true, MaxRow: 1 << 20,
	}
	f.conn = connect(t, f.config.DSN)
	f.config.Slot = query[string](f, "SELECT current_database()::text")
	return f
}

func connect(t *testing.T, dsn string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(t.Context())) })
	return conn
}

func (f *fixture) exec(statements ...string) {
	f.t.Helper()
	for _, statement := range statements {
		_, err := f.conn.Exec(f.t.Context(), statement)
		require.NoError(f.t, err, statement)
	}
}

func query[T any](f *fixture, sql string, arguments ...any) (value T) {
	f.t.Helper()
	require.NoError(f.t, f.conn.QueryRow(f.t.Context(), sql, arguments...).Scan(&value), sql)
	return value
}

func (f *fixture) createSlot() {
	f.t.Helper()
	query[string](f, "SELECT slot_name::text FROM pg_create_logical_replication_slot($1, 'pgoutput')", f.config.Slot)
}

func (f *fixture) insert(from, to int) {
	f.t.Helper()
	f.exec(fmt.Sprintf("INSERT INTO outbox SELECT n, 'payload ' || n FROM generate_series(%d, %d) n", from, to))
}

func (f *fixture) control() *Control {
	f.t.Helper()
	control, err := Connect(f.t.Context(), f.config)
	require.NoError(f.t, err)
	f.t.Cleanup(control.Close)
	return control
}

// identify asks over its own control connection.
func (f *fixture) identify() (Server, Slot) {
	f.t.Helper()
	control := f.control()
	server, err := control.Identify(f.t.Context())
	require.NoError(f.t, err)
	slot, err := control.Slot(f.t.Context())
	require.NoError(f.t, err)
	return server, slot
}

func (f *fixture) slot() Slot {
	f.t.Helper()
	_, slot := f.identify()
	return slot
}

// open streams from the slot's own position.
func (f *fixture) open() *Stream {
	f.t.Helper()
	server, slot := f.identify()
	stream, err := Open(f.t.Context(), f.config, server, slot.Confirmed)
	require.NoError(f.t, err)
	f.t.Cleanup(stream.Close)
	return stream
}

// next returns the next message other than None, and answers the server's reply
// requests.
func next(stream *Stream, limit time.Duration) (Message, error) {
	for deadline := time.Now().Add(limit); time.Now().Before(deadline); {
		m, err := stream.Next()
		if err != nil || m.Kind != None {
			return m, err
		}
		if err := stream.Wait(deadline); err != nil {
			return m, err
		}
	}
	return Message{}, fmt.Errorf("%w for %s", errNothing, limit)
}

// nextNudging is next with a status update every second, as a streamer sends
// them. Since version 16 a walsender looks for new WAL, and only then prepares
// to be woken by it. It notices a commit in between at the next status update,
// or at half of wal_sender_timeout.
func nextNudging(stream *Stream) (m Message, err error) {
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		if m, err = next(stream, time.Second); !errors.Is(err, errNothing) {
			return m, err
		}
		// The lowest position confirms nothing.
		status := pglogrepl.StandbyStatusUpdate{WALWritePosition: 1, WALFlushPosition: 1, WALApplyPosition: 1}
		if err := pglogrepl.SendStandbyStatusUpdate(context.Background(), stream.conn, status); err != nil {
			return m, err
		}
	}
	return m, fmt.Errorf("%w for %s", errNothing, patience)
}

var errNothing = errors.New("nothing received")

// nextError reads until the stream ends.
func nextError(t *testing.T, stream *Stream) error {
	t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		if _, err := next(stream, patience); err != nil {
			return err
		}
	}
	require.Fail(t, "the stream goes on")
	return nil
}

// readRows reads until n rows and their commit have arrived. It returns their
// first columns and the end of the last commit.
func readRows(t *testing.T, stream *Stream, n int) (ids []string, end LSN) {
	t.Helper()
	for {
		m, err := nextNudging(stream)
		require.NoErrorf(t, err, "after %d rows of %d", len(ids), n)
		if m.Kind != Data {
			continue
		}
		parsed, err := pglogrepl.Parse(m.Data)
		require.NoError(t, err)
		switch parsed := parsed.(type) {
		case *pglogrepl.InsertMessage:
			id := parsed.Tuple.Columns[0]
			if id.DataType == pglogrepl.TupleDataTypeBinary {
				id.Data = fmt.Append(nil, binary.BigEndian.Uint32(id.Data))
			}
			ids = append(ids, string(id.Data))
		case *pglogrepl.CommitMessage:
			stream.Received(parsed.TransactionEndLSN)
			if len(ids) >= n {
				return ids, parsed.TransactionEndLSN
			}
		}
	}
}
