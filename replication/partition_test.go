package replication

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/internal/pgtest"
)

func TestPartitionKey(t *testing.T) {
	t.Parallel()
	f := newEmptyFixture(t, pgtest.Shared(t))
	control := f.control()
	all, at, id := f.config.Slot+"_all", f.config.Slot+"_at", f.config.Slot+"_id" // roles belong to the server
	for _, role := range []string{all, at, id} {
		f.exec("CREATE ROLE " + role + " LOGIN")
		t.Cleanup(func() {
			ctx := context.WithoutCancel(t.Context())
			_, err := f.conn.Exec(ctx, "DROP OWNED BY "+role)
			require.NoError(t, err)
			_, err = f.conn.Exec(ctx, "DROP ROLE "+role)
			require.NoError(t, err)
		})
	}
	for partitions, c := range map[string]struct {
		key      string
		updaters []string
	}{
		"":                         {"", nil},
		"PARTITION BY RANGE (at)":  {"RANGE (at)", []string{all, at}},
		"PARTITION BY HASH (id)":   {"HASH (id)", []string{all, id}},
		"PARTITION BY LIST (kind)": {"LIST (kind)", []string{all}},
		"PARTITION BY RANGE ((extract(year from at at time zone 'UTC')))": {"", []string{all, at, id}},
	} {
		f.exec("CREATE TABLE outbox (id int, kind text, at timestamptz) "+partitions,
			"GRANT UPDATE ON outbox TO "+all, "GRANT UPDATE (at) ON outbox TO "+at, "GRANT UPDATE (id) ON outbox TO "+id)
		k, err := control.PartitionKey(t.Context(), describe(t, control))
		require.NoError(t, err)
		assert.ElementsMatch(t, k.Updaters, c.updaters, partitions)
		assert.Contains(t, k.Key, c.key)
		assert.Len(t, CheckPartitionKey(k, describe(t, control)), min(1, len(c.updaters)), partitions)
		f.exec("DROP TABLE outbox")
	}

	f.exec("CREATE TABLE outbox (id int, at timestamptz) PARTITION BY RANGE (at)",
		"CREATE TABLE below PARTITION OF outbox DEFAULT PARTITION BY HASH (id)", "GRANT UPDATE (id) ON outbox TO "+id)
	k, err := control.PartitionKey(t.Context(), describe(t, control))
	require.NoError(t, err)
	assert.Contains(t, k.Updaters, id, "partitions of partitions")
	f.exec("DROP TABLE outbox")
}

func TestCheckPartitionKey(t *testing.T) {
	t.Parallel()
	table := Table{Outbox: Outbox{Table: "public.outbox"}}
	assert.Empty(t, CheckPartitionKey(PartitionKey{Key: "RANGE (at)"}, table))
	found := CheckPartitionKey(PartitionKey{Key: "RANGE (at)", Updaters: []string{"a", "b", "c", "d", "e", "f", "g"}}, table)
	require.Len(t, found, 1)
	assert.False(t, found[0].Fatal)
	assert.Contains(t, found[0].Problem, "partitioned by RANGE (at), and a, b, c, d, e and 2 others may change that")
	assert.Contains(t, found[0].Remedy, `REVOKE UPDATE ON "public"."outbox" FROM "a", "b", "c", "d", "e", "f", "g"`)
}
