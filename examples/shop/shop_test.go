package shop_test

import (
	"context"
	"errors"
	"os"
	"regexp"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/examples/shop"
	"github.com/outboxstream/streamer/internal/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

// connect opens a connection that lives as long as the test.
func connect(t *testing.T, dsn string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(t.Context())) })
	return conn
}

// database creates a database with the tables of the shop.
func database(t *testing.T, server *pgtest.Server) (string, *pgx.Conn) {
	t.Helper()
	dsn := server.CreateDatabase(t)
	conn := connect(t, dsn)
	for range 2 { // the schema may be applied again
		_, err := conn.Exec(t.Context(), shop.Schema)
		require.NoError(t, err)
	}
	return dsn, conn
}

// requireTrue compares the ledger with the outbox table.
func requireTrue(t *testing.T, ledger shop.Ledger, conn *pgx.Conn) {
	t.Helper()
	rows, err := conn.Query(t.Context(),
		`SELECT id, aggregatetype, aggregateid, type, (payload->>'version')::bigint FROM outbox`)
	require.NoError(t, err)
	stored, err := pgx.CollectRows(rows, pgx.RowToStructByPos[shop.Event])
	require.NoError(t, err)

	var told []shop.Event
	for _, transaction := range ledger.Committed {
		told = append(told, transaction.Events...)
	}
	require.ElementsMatch(t, told, stored, "the outbox holds exactly what the ledger calls committed")
	for aggregate, events := range ledger.ByAggregate() {
		for n, event := range events {
			require.EqualValues(t, n+1, event.Version, "versions of %v have no gap", aggregate)
		}
	}
	assert.Empty(t, ledger.Unresolved)
}

func TestRun(t *testing.T) {
	t.Parallel()

	t.Run("the ledger tells what was committed and what was rolled back", func(t *testing.T) {
		t.Parallel()
		dsn, conn := database(t, pgtest.Shared(t))
		var last shop.Progress
		ledger, err := shop.Run(t.Context(), shop.Config{
			DSN: dsn, Connections: 4, Customers: 3, Orders: 60, RollbackShare: 0.2, Seed: 1,
			Progress: func(p shop.Progress) { last = p },
		})
		require.NoError(t, err)
		requireTrue(t, ledger, conn)

		var open int
		require.NoError(t, conn.QueryRow(t.Context(),
			`SELECT count(*) FROM orders WHERE status NOT IN ('shipped', 'cancelled')`).Scan(&open))
		assert.Zero(t, open, "every order is completed")
		assert.NotEmpty(t, ledger.RolledBack)
		assert.Equal(t, shop.Progress{
			Placed: 60, Committed: len(ledger.Committed), RolledBack: len(ledger.RolledBack), Events: rowCount(t, conn),
		}, last)
		assert.Len(t, ledger.ByAggregate(), 60+3, "60 orders, 3 customers")
	})

	t.Run("versions of one aggregate ascend in commit order", func(t *testing.T) {
		t.Parallel()
		dsn, conn := database(t, pgtest.Shared(t))
		decoded := recordCommitOrder(t, conn)
		ledger, err := shop.Run(t.Context(), shop.Config{DSN: dsn, Connections: 6, Customers: 2, Orders: 60, RollbackShare: 0.1, Seed: 2})
		require.NoError(t, err)
		position := decoded()
		for aggregate, events := range ledger.ByAggregate() {
			last := -1
			for _, event := range events {
				at, found := position[event.ID]
				require.True(t, found, "event %s of %v is in the WAL", event.ID, aggregate)
				require.Greater(t, at, last, "version %d of %v comes after the previous version", event.Version, aggregate)
				last = at
			}
		}
		for _, transaction := range ledger.RolledBack {
			for _, event := range transaction.Events {
				assert.NotContains(t, position, event.ID, "a rolled back event")
			}
		}
	})

	t.Run("a shop without end closes in peace when the context ends", func(t *testing.T) {
		t.Parallel()
		dsn, conn := database(t, pgtest.Shared(t))
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		ledger, err := shop.Run(ctx, shop.Config{DSN: dsn, Rate: 400, Progress: func(p shop.Progress) {
			if p.Placed == 5 {
				cancel()
			}
		}})
		require.NoError(t, err)
		requireTrue(t, ledger, conn)
	})

	t.Run("an early end is an error, the ledger is true all the same", func(t *testing.T) {
		t.Parallel()
		dsn, conn := database(t, pgtest.Shared(t))
		ctx, cancel := context.WithCancelCause(t.Context())
		enough := errors.New("enough")
		ledger, err := shop.Run(ctx, shop.Config{DSN: dsn, Orders: 1000, Progress: func(p shop.Progress) {
			if p.Committed == 20 {
				cancel(enough)
			}
		}})
		require.ErrorIs(t, err, enough)
		requireTrue(t, ledger, conn)
	})

	t.Run("counting only keeps no events", func(t *testing.T) {
		t.Parallel()
		dsn, conn := database(t, pgtest.Shared(t))
		ledger, err := shop.Run(t.Context(), shop.Config{DSN: dsn, Orders: 3, CountOnly: true})
		require.NoError(t, err)
		assert.Equal(t, shop.Ledger{}, ledger)
		assert.NotZero(t, rowCount(t, conn))
	})
}

func TestRunThroughCrashesOfTheServer(t *testing.T) {
	t.Parallel()
	server := pgtest.New(t, pgtest.Options{})
	dsn, _ := database(t, server)

	var crashes sync.WaitGroup
	defer crashes.Wait()
	thresholds := []int{100, 400} // committed transactions
	crash := func() {
		thresholds = thresholds[1:]
		crashes.Go(func() {
			assert.NoError(t, server.StopImmediate())
			assert.NoError(t, server.StartAgain(t.Context()))
		})
	}
	ledger, err := shop.Run(t.Context(), shop.Config{
		DSN: dsn, Connections: 6, Orders: 300, RollbackShare: 0.1, Seed: 3, Progress: func(p shop.Progress) {
			if len(thresholds) > 0 && p.Committed >= thresholds[0] {
				crash()
			}
		},
	})
	crashes.Wait()
	require.NoError(t, err)
	require.Empty(t, thresholds, "both crashes happened")
	requireTrue(t, ledger, connect(t, dsn))
}

func TestRunRefuses(t *testing.T) {
	t.Parallel()

	for name, test := range map[string]struct {
		cfg  shop.Config
		want string
	}{
		"a negative number of connections": {shop.Config{Connections: -1}, "connections -1"},
		"a negative number of customers":   {shop.Config{Customers: -1}, "customers -1"},
		"a negative number of orders":      {shop.Config{Orders: -1}, "orders -1"},
		"a rate no timer can keep":         {shop.Config{Rate: 1e9}, "rate 1e+09"},
		"rolling back everything":          {shop.Config{RollbackShare: 1}, "rollback share 1"},
		"a DSN that is none":               {shop.Config{DSN: "postgres://:secret@[broken"}, "shop DSN"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := shop.Run(t.Context(), test.cfg)
			require.ErrorContains(t, err, test.want)
			assert.NotContains(t, err.Error(), "secret")
		})
	}

	t.Run("a server that is not there, at once", func(t *testing.T) {
		t.Parallel()
		began := time.Now()
		_, err := shop.Run(t.Context(), shop.Config{DSN: "postgres://shop@127.0.0.1:1/shop"})
		require.ErrorContains(t, err, "connect the shop to PostgreSQL")
		assert.Less(t, time.Since(began), 10*time.Second)
	})

	t.Run("a database without the tables", func(t *testing.T) {
		t.Parallel()
		_, err := shop.Run(t.Context(), shop.Config{DSN: pgtest.Shared(t).CreateDatabase(t), Orders: 1})
		require.ErrorContains(t, err, `relation "customers" does not exist`)
	})
}

func TestCheckHealth(t *testing.T) {
	t.Parallel()
	dsn, _ := database(t, pgtest.Shared(t))
	require.ErrorContains(t, shop.CheckHealth(t.Context(), dsn), "no session of the shop")

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	health := errors.New("not checked")
	_, err := shop.Run(ctx, shop.Config{DSN: dsn, Progress: func(shop.Progress) {
		health = shop.CheckHealth(t.Context(), dsn)
		cancel()
	}})
	require.NoError(t, err)
	require.NoError(t, health)
}

func rowCount(t *testing.T, conn *pgx.Conn) (count int) {
	t.Helper()
	require.NoError(t, conn.QueryRow(t.Context(), `SELECT count(*) FROM outbox`).Scan(&count))
	return count
}

// recordCommitOrder starts to record, through logical decoding, the order in
// which outbox rows are committed. The returned function returns each row's
// position.
func recordCommitOrder(t *testing.T, conn *pgx.Conn) func() map[uuid.UUID]int {
	t.Helper()
	_, err := conn.Exec(t.Context(), `CREATE PUBLICATION recorder FOR TABLE outbox`)
	require.NoError(t, err)
	slot := "recorder_" + uuid.NewString()[:8]
	_, err = conn.Exec(t.Context(), `SELECT pg_create_logical_replication_slot($1, 'pgoutput')`, slot)
	require.NoError(t, err)
	t.Cleanup(func() {
		_, err := conn.Exec(context.WithoutCancel(t.Context()), `SELECT pg_drop_replication_slot($1)`, slot)
		assert.NoError(t, err)
	})

	return func() map[uuid.UUID]int {
		rows, err := conn.Query(t.Context(), `
			SELECT data FROM pg_logical_slot_peek_binary_changes($1, NULL, NULL, 'proto_version', '1', 'publication_names', 'recorder')`, slot)
		require.NoError(t, err)
		messages, err := pgx.CollectRows(rows, pgx.RowTo[[]byte])
		require.NoError(t, err)
		position := make(map[uuid.UUID]int)
		for n, message := range messages {
			if message[0] == 'I' { // the ID is the first column, in text form
				position[uuid.MustParse(string(uuidPattern.Find(message)))] = n
			}
		}
		return position
	}
}

var uuidPattern = regexp.MustCompile(`[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}`)
