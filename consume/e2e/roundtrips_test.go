package e2e

import (
	"context"
	"net"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/consume"
)

// For a batch of a key's events, the inbox takes one round trip more than a
// transaction with nothing but the handler's own statements: begin, claim, the
// statements, commit.
func TestRoundTrips(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	config, err := pgxpool.ParseConfig(w.dsn)
	require.NoError(t, err)
	config.MaxConns = 1
	var trips atomic.Int64
	config.ConnConfig.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
		return &countingConn{Conn: conn, trips: &trips}, err
	}
	statements := &statements{}
	config.ConnConfig.Tracer = statements
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(pool.Close)

	c := w.config()
	c.CommitEvery = 1 << 40
	r := w.start(c, consume.PGX(pool, func(ctx context.Context, tx pgx.Tx, e event.Event) error {
		_, err := tx.Exec(ctx, effect, e.Subject(), e.ID(), e.Source())
		return err
	}))
	p := r.assign(0)
	handled := func(n int) {
		w.eventually("all are handled", func() bool { return w.count("select count(*) from effect") == n })
	}
	r.deliver(p, record(0, 0, "a", 1)) // connects, and prepares each statement
	handled(1)
	before, begun, others := trips.Load(), statements.begun.Load(), statements.others.Load()
	const events = 300
	for n := range int64(events) {
		r.deliver(p, record(0, n+1, "a", int(n)+2))
	}
	handled(events + 1)
	transactions := statements.begun.Load() - begun
	assert.Less(t, transactions, int64(events/5), "events of a key share transactions")
	assert.Equal(t, 3*transactions+events, trips.Load()-before-(statements.others.Load()-others))
	r.close(p)
}

// countingConn counts how often a client waits for an answer.
type countingConn struct {
	net.Conn
	trips *atomic.Int64
	asked atomic.Bool
}

func (c *countingConn) Write(b []byte) (int, error) {
	c.asked.Store(true)
	return c.Conn.Write(b)
}

func (c *countingConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 && c.asked.Swap(false) {
		c.trips.Add(1)
	}
	return n, err
}

// statements counts transactions, and statements outside of them.
type statements struct{ begun, others atomic.Int64 }

func (s *statements) TraceQueryStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	switch {
	case strings.HasPrefix(data.SQL, "begin"):
		s.begun.Add(1)
	case strings.Contains(data.SQL, "inbox.take"), data.SQL == effect:
	default:
		s.others.Add(1)
	}
	return ctx
}

func (*statements) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}
