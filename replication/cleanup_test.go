package replication

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/internal/pgtest"
)

// timeDomains create domains over types of time columns.
var timeDomains = []string{
	"CREATE DOMAIN instant AS timestamptz", "CREATE DOMAIN later AS instant",
	"CREATE DOMAIN local AS timestamp", "CREATE DOMAIN millis AS bigint",
}

// cleanable creates a table with times, partitioned or not.
func cleanable(t *testing.T, typ, partitions string) (f *fixture, control *Control, table Table) {
	t.Helper()
	f = newEmptyFixture(t, pgtest.Shared(t))
	f.exec(timeDomains...)
	f.exec("CREATE TABLE outbox (id int, payload text, at " + typ + ")" + partitions)
	control = f.control()
	require.NoError(t, control.BeGentle(t.Context()))
	return f, control, describe(t, control)
}

func describe(t *testing.T, control *Control) Table {
	t.Helper()
	table, err := control.DescribeTable(t.Context(), control.config.Outboxes[0])
	require.NoError(t, err)
	return table
}

func (f *fixture) ids() []int32 {
	f.t.Helper()
	rows, err := f.conn.Query(f.t.Context(), "SELECT id FROM outbox ORDER BY id")
	require.NoError(f.t, err)
	ids, err := pgx.CollectRows(rows, pgx.RowTo[int32])
	require.NoError(f.t, err)
	return ids
}

func TestRemoveOldRows(t *testing.T) {
	t.Parallel()
	cutoff := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	for typ, times := range map[string][2]string{
		"timestamptz": {"'2026-11-21 12:59:59+01'", "'2026-11-21 12:00:00Z'"},
		"timestamp":   {"'2026-11-21 11:59:59'", "'2026-11-21 12:00:00'"},
		"bigint":      {"1795262399999", "1795262400000"},
		"later":       {"'2026-11-21 12:59:59+01'", "'2026-11-21 12:00:00Z'"},
		"local":       {"'2026-11-21 11:59:59'", "'2026-11-21 12:00:00'"},
		"millis":      {"1795262399999", "1795262400000"},
	} {
		t.Run(typ, func(t *testing.T) {
			t.Parallel()
			f, control, table := cleanable(t, typ, "")
			f.exec(
				"INSERT INTO outbox SELECT n, 'old', "+times[0]+" FROM generate_series(1, 10) n",
				"INSERT INTO outbox VALUES (11, 'young', "+times[1]+"), (12, 'dateless', null)",
			)
			before := query[string](f, "SELECT pg_current_wal_insert_lsn()::text")
			found, err := control.Removable(t.Context(), table, "at", cutoff, 100)
			require.NoError(t, err)
			assert.Equal(t, 10, found.Len())
			at, err := ParseLSN(before)
			require.NoError(t, err)
			assert.GreaterOrEqual(t, found.Settled+64, at, "above their commits")

			// A row is deleted, and another takes its place, before the Removal runs.
			f.exec("DELETE FROM outbox WHERE id = 3")
			f.exec("VACUUM outbox")
			f.exec("INSERT INTO outbox VALUES (99, 'new', " + times[0] + ")")
			removed, err := control.Remove(t.Context(), found.Cut(4))
			require.NoError(t, err)
			assert.EqualValues(t, 3, removed)
			assert.Equal(t, 6, found.Len())
			removed, err = control.Remove(t.Context(), found.Cut(100))
			require.NoError(t, err)
			assert.EqualValues(t, 6, removed)
			assert.Equal(t, []int32{11, 12, 99}, f.ids())
		})
	}
}

func TestRemoveFromPartitions(t *testing.T) {
	t.Parallel()
	f, control, _ := cleanable(t, "timestamptz NOT NULL", " PARTITION BY RANGE (at)")
	f.exec("CREATE TABLE first PARTITION OF outbox FOR VALUES FROM (MINVALUE) TO ('2020-01-01')",
		"CREATE TABLE second PARTITION OF outbox FOR VALUES FROM ('2020-01-01') TO ('2021-01-01')",
		"CREATE TABLE third PARTITION OF outbox FOR VALUES FROM ('2021-01-01') TO (MAXVALUE)",
		"INSERT INTO outbox VALUES (1, '', '2019-01-01'), (2, '', '2020-01-01'), (3, '', '2022-01-01')") // each the first row of its partition
	table, cutoff := describe(t, control), time.Date(2021, 6, 1, 0, 0, 0, 0, time.UTC)
	partitions, settled, err := control.OldPartitions(t.Context(), table, "at", cutoff)
	require.NoError(t, err)
	assert.Equal(t, []string{"public.first", "public.second"}, partitions)
	assert.NotZero(t, settled)

	found, err := control.Removable(t.Context(), table, "at", cutoff, 100)
	require.NoError(t, err)
	removed, err := control.Remove(t.Context(), found)
	require.NoError(t, err)
	assert.EqualValues(t, 2, removed)
	assert.Equal(t, []int32{3}, f.ids())
	for _, partition := range partitions {
		require.NoError(t, control.DropPartition(t.Context(), table, partition))
	}
	assert.Equal(t, []int32{3}, f.ids())
	_, _, err = control.OldPartitions(t.Context(), table, "id", cutoff)
	require.ErrorContains(t, err, "not timestamptz")
	_, err = control.Removable(t.Context(), table, "payload", cutoff, 100)
	assert.ErrorContains(t, err, "is text, not timestamptz", "any text may look like a time")
}

func TestCleanupGivesWay(t *testing.T) {
	t.Parallel()
	f, control, table := cleanable(t, "timestamptz", "")
	f.exec("INSERT INTO outbox VALUES (1, '', '2020-01-01')")
	found, err := control.Removable(t.Context(), table, "at", time.Now(), 100)
	require.NoError(t, err)
	f.exec("BEGIN", "LOCK TABLE outbox")
	_, err = control.Remove(t.Context(), found)
	require.ErrorIs(t, err, ErrLocked)
	f.exec("COMMIT")
	removed, err := control.Remove(t.Context(), found)
	require.NoError(t, err)
	assert.EqualValues(t, 1, removed)
}

// BenchmarkInsert measures one insert and its commit on a table with a million
// old rows, which are either left alone or deleted at the default pace.
func BenchmarkInsert(b *testing.B) {
	for _, deleting := range []bool{false, true} {
		name := "alone"
		if deleting {
			name = "while deleting"
		}
		b.Run(name, func(b *testing.B) {
			server := pgtest.New(b, pgtest.Options{})
			c := Config{
				DSN:            server.CreateDatabase(b),
				Outboxes:       []Outbox{{Table: "public.outbox"}},
				Slot:           "s",
				ConnectTimeout: patience,
				SenderTimeout:  time.Minute,
				MaxRow:         1 << 20,
			}
			control, err := Connect(b.Context(), c)
			require.NoError(b, err)
			b.Cleanup(control.Close)
			for _, statement := range []string{
				"CREATE TABLE public.outbox (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), payload text, at timestamptz DEFAULT now())",
				"INSERT INTO public.outbox (payload, at) SELECT repeat('x', 300), '2020-01-01' FROM generate_series(1, 1000000)", "CHECKPOINT",
			} {
				_, err := control.Conn().Exec(b.Context(), statement)
				require.NoError(b, err)
			}
			ctx, stop := context.WithCancel(b.Context())
			done := make(chan int64, 1)
			if deleting {
				go func() { done <- deleteAt(ctx, c, 500, 50*time.Millisecond) }()
			} else {
				done <- 0
			}
			var took []time.Duration
			for b.Loop() {
				began := time.Now()
				_, err := control.Conn().Exec(b.Context(), "INSERT INTO public.outbox (payload) VALUES (repeat('x', 300))")
				if err != nil {
					b.Fatal(err)
				}
				took = append(took, time.Since(began))
			}
			stop()
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Microseconds()), "µs-p50")
			b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "µs-p99")
			b.ReportMetric(float64(<-done)/b.Elapsed().Seconds(), "deleted/s")
		})
	}
}

// deleteAt deletes as the streamer does, until ctx ends.
func deleteAt(ctx context.Context, c Config, batch int, pause time.Duration) (total int64) {
	control, err := Connect(ctx, c)
	if err != nil {
		return -1
	}
	defer control.Close()
	table, err := control.DescribeTable(ctx, control.config.Outboxes[0])
	if err != nil || control.BeGentle(ctx) != nil {
		return -1
	}
	for ctx.Err() == nil {
		found, err := control.Removable(ctx, table, "at", time.Now().Add(-time.Hour), 20*batch)
		for err == nil && found.Len() > 0 && ctx.Err() == nil {
			var removed int64
			removed, err = control.Remove(ctx, found.Cut(batch))
			total += removed
			<-time.After(pause)
		}
	}
	return total
}
