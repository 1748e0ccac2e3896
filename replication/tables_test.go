package replication

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/internal/pgtest"
)

func TestUserTables(t *testing.T) {
	t.Parallel()
	f := newEmptyFixture(t, pgtest.Shared(t))
	f.exec(
		`create schema "My.App"`, `create domain document as jsonb`, `create table "My.App"."Box" ("Id" uuid, "Doc" document, n numeric(20,3))`,
		`create table parted (id int, at timestamptz) partition by range (at)`, `create table part partition of parted default`,
		`create unlogged table lost (id int)`, `create view seen as select 1 as id`, `alter table "My.App"."Box" drop column n`,
	)
	control := f.control()
	tables, err := control.UserTables(t.Context())
	require.NoError(t, err)
	require.Len(t, tables, 2, "neither partitions, nor views, nor what is not in the WAL")
	assert.Equal(t, `"My.App".Box`, tables[0].Name)
	assert.Equal(t, []Column{
		{Name: "Id", Type: "uuid", Base: "uuid"}, {Name: "Doc", Type: "public.document", Base: "jsonb"},
	}, tables[0].Columns)
	assert.Equal(t, "public.parted", tables[1].Name)

	f.exec("insert into parted values (1, now()), (2, now())", "update parted set id = 3 where id = 1", "delete from parted where id = 2")
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		writes, err := control.Writes(t.Context(), tables[1].OID)
		assert.NoError(c, err)
		assert.Equal(c, []int64{2, 1, 1}, []int64{writes.Inserted, writes.Updated, writes.Deleted}, "with its partitions")
	}, patience, 100*time.Millisecond)
}
