package replication

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/internal/failure"
)

// Rows of a table that inherits from the outbox are in no stream. So no code
// reads them as outbox rows, calls the rest complete, or deletes them, even
// when the table appears after the outbox was described.
func TestInheritedRowsAreNotTheOutbox(t *testing.T) {
	t.Parallel()
	f, control, before := cleanable(t, "timestamptz", "")
	f.exec("INSERT INTO outbox VALUES (1, 'short', '2020-01-01')")
	own, err := control.Removable(t.Context(), before, "at", time.Now(), 100)
	require.NoError(t, err)
	f.exec(
		"CREATE TABLE child () INHERITS (outbox)",
		"INSERT INTO child SELECT n, repeat('x', 1000), '2020-01-01' FROM generate_series(2, 101) n",
		"ANALYZE",
	)

	_, err = control.Removable(t.Context(), before, "at", time.Now(), 1000)
	require.ErrorContains(t, err, "table public.child inherits from outbox table public.outbox")
	assert.Equal(t, failure.Refused, failure.ClassOf(err))
	_, _, err = readOutbox(f, OutboxQuery{})
	require.ErrorContains(t, err, "table public.child inherits from outbox table public.outbox")
	assert.Equal(t, failure.Refused, failure.ClassOf(err))

	table := describe(t, control)
	require.ErrorContains(t, control.CreatePublication(t.Context(), []Table{table}), "table public.child inherits")
	largest, err := control.LargestValue(t.Context(), table, "payload", 1<<20)
	require.NoError(t, err)
	assert.EqualValues(t, 5, largest)

	// Row places are per table: row 1 is at (0,1) in both.
	removed, err := control.Remove(t.Context(), own)
	require.NoError(t, err)
	assert.EqualValues(t, 1, removed)
	assert.Len(t, f.ids(), 100)
}

// Rows that are not in the WAL were not published, so a partition that has just
// become unlogged keeps its rows.
func TestCleanupLeavesUnloggedPartitions(t *testing.T) {
	t.Parallel()
	f, control, _ := cleanable(t, "timestamptz NOT NULL", " PARTITION BY RANGE (at)")
	before := describe(t, control)
	f.exec(
		"CREATE UNLOGGED TABLE old PARTITION OF outbox FOR VALUES FROM (MINVALUE) TO ('2020-01-01')",
		"INSERT INTO outbox VALUES (1, '', '2019-01-01')",
	)
	_, err := control.Removable(t.Context(), before, "at", time.Now(), 100)
	require.ErrorContains(t, err, "partition public.old of outbox table public.outbox is not logged")
	_, _, err = control.OldPartitions(t.Context(), before, "at", time.Now())
	require.ErrorContains(t, err, "partition public.old of outbox table public.outbox is not logged")
}

// Rows that were in a table before it became a partition are in no stream, so
// they stay. Those of a partition that was empty when it was attached, or that
// its parent created, are removed.
func TestCleanupLeavesAttachedRows(t *testing.T) {
	t.Parallel()
	f, control, _ := cleanable(t, "timestamptz NOT NULL", " PARTITION BY RANGE (at)")
	f.exec(
		"CREATE TABLE created PARTITION OF outbox FOR VALUES FROM ('2018-01-01') TO ('2019-01-01')",
		"CREATE TABLE empty (LIKE outbox)",
		"ALTER TABLE outbox ATTACH PARTITION empty FOR VALUES FROM ('2019-01-01') TO ('2020-01-01')",
		`CREATE TABLE "full" (LIKE outbox) PARTITION BY RANGE (at)`,
		`CREATE TABLE "Half" PARTITION OF "full" DEFAULT`, `INSERT INTO "full" VALUES (1, '', '2020-05-05')`,
		`ALTER TABLE outbox ATTACH PARTITION "full" FOR VALUES FROM ('2020-01-01') TO ('2021-01-01')`,
		"INSERT INTO outbox VALUES (2, '', '2018-05-05'), (3, '', '2019-05-05'), (4, '', '2020-05-05')",
		"VACUUM FREEZE",
	)
	table, cutoff := describe(t, control), time.Now()
	partitions, _, err := control.OldPartitions(t.Context(), table, "at", cutoff)
	require.NoError(t, err)
	assert.Equal(t, []string{"public.created", "public.empty"}, partitions)

	found, err := control.Removable(t.Context(), table, "at", cutoff, 100)
	require.NoError(t, err)
	removed, err := control.Remove(t.Context(), found)
	require.NoError(t, err)
	assert.EqualValues(t, 3, removed)
	assert.Equal(t, []int32{1}, f.ids())
	for _, partition := range partitions {
		require.NoError(t, control.DropPartition(t.Context(), table, partition))
	}
	f.exec("DELETE FROM outbox", "ALTER TABLE outbox DETACH PARTITION \"full\"")
	err = control.DropPartition(t.Context(), table, `public."full"`)
	require.ErrorContains(t, err, `public."full" is no longer a partition of public.outbox`)
	assert.Zero(t, query[int](f, `SELECT count(*)::int FROM "full"`), "the table exists")
}
