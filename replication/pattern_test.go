package replication

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/internal/pgtest"
)

func TestTablesOfAPattern(t *testing.T) {
	t.Parallel()
	f := newEmptyFixture(t, pgtest.Shared(t))
	const columns = " (id int, payload text)"
	f.exec(
		"CREATE SCHEMA tenant_1", "CREATE SCHEMA tenantx1", `CREATE SCHEMA "tenant_a.b%"`,
		"CREATE TABLE tenant_1.outbox"+columns, "CREATE TABLE tenantx1.outbox"+columns, `CREATE TABLE "tenant_a.b%".outbox`+columns,
		"CREATE TABLE tenant_1.outbox_old"+columns, "CREATE VIEW tenant_1.other AS SELECT * FROM tenant_1.outbox",
		"CREATE SCHEMA tenant_2", "CREATE TABLE tenant_2.outbox"+columns+" PARTITION BY RANGE (id)",
		"CREATE SCHEMA tenant_3", "CREATE TABLE tenant_3.outbox PARTITION OF tenant_2.outbox DEFAULT",
		"CREATE PUBLICATION p FOR TABLE tenant_1.outbox, tenant_2.outbox WITH (publish = 'insert', publish_via_partition_root = true)",
	)
	f.config.Outboxes = []Outbox{
		{Table: "tenantx1.outbox", Columns: []string{"id"}, Source: "/x"},
		{Table: "tenant_*.outbox", Columns: []string{"id"}, ID: "id", Source: "/{schema}"},
		{Table: "nobody_*.outbox"},
	}
	tables, err := f.control().DescribeTables(t.Context())
	require.NoError(t, err)
	var names []string
	for _, table := range tables {
		names = append(names, table.Outbox.Table)
	}
	assert.Equal(t, []string{"tenantx1.outbox", `"tenant_a.b%".outbox`, "tenant_1.outbox", "tenant_2.outbox", "nobody_*.outbox"}, names)
	assert.Equal(t, []int{0, 1, 1, 1, 2}, []int{
		tables[0].Outbox.Entry, tables[1].Outbox.Entry, tables[2].Outbox.Entry, tables[3].Outbox.Entry, tables[4].Outbox.Entry,
	})
	assert.Equal(t, "/tenant_a.b%", tables[1].Outbox.Source)

	var fatal, warned []string
	for _, finding := range CheckTables(tables, f.config) {
		if finding.Fatal {
			fatal = append(fatal, finding.Problem)
		} else {
			warned = append(warned, finding.Problem)
		}
	}
	assert.Equal(t, []string{
		`publication "p" does not contain table tenantx1.outbox`, "no table matches nobody_*.outbox, which outboxes names",
	}, fatal)
	assert.Equal(t, []string{
		`publication "p" does not contain table "tenant_a.b%".outbox, which matches tenant_*.outbox: its rows are not published`,
	}, warned)

	f.config.Outboxes = []Outbox{{Table: "tenant_1.outbox"}, {Table: "t*.outbox"}}
	tables, err = f.control().DescribeTables(t.Context())
	require.NoError(t, err)
	require.ErrorContains(t, Refusal(CheckTables(tables, f.config)), "table tenant_1.outbox belongs to two entries of outboxes")
}

// What is stored for several tables is about each by its name.
func TestMembershipOfSeveralTables(t *testing.T) {
	t.Parallel()
	f := newEmptyFixture(t, pgtest.Shared(t))
	f.exec(
		"CREATE TABLE a (id int PRIMARY KEY)", "CREATE TABLE b (id int PRIMARY KEY)", "CREATE TABLE c (id int PRIMARY KEY)",
		"CREATE PUBLICATION p FOR TABLE a, b, c WITH (publish = 'insert', publish_via_partition_root = true)",
	)
	describe := func(names ...string) []Table {
		f.config.Outboxes = nil
		for _, name := range names {
			f.config.Outboxes = append(f.config.Outboxes, Outbox{Table: "public." + name})
		}
		tables, err := f.control().DescribeTables(t.Context())
		require.NoError(t, err)
		return tables
	}
	gap := func(before string, now []Table) string {
		err := Refusal(CheckMemberships(before, now, f.config))
		if err == nil {
			return ""
		}
		return err.Error()
	}
	one, two := Membership(describe("a")), Membership(describe("a", "b"))
	assert.Empty(t, gap(one, describe("a", "b")), "one more table")
	assert.Empty(t, gap(two, describe("b", "a")))
	assert.Empty(t, gap(two, describe("b")), "one less")
	f.exec("ALTER PUBLICATION p DROP TABLE b", "ALTER PUBLICATION p ADD TABLE b")
	assert.Contains(t, gap(two, describe("a", "b")), "table public.b may have been out of publication")
	assert.NotContains(t, gap(two, describe("a", "b")), "table public.a")
	assert.Empty(t, gap(one, describe("a", "b")), "b was not among the outbox tables")
	assert.Contains(t, gap(two, describe("b")), "table public.b may have been out of publication")
}
