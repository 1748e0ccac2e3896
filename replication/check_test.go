package replication

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/internal/pgname"
	"github.com/outboxstream/streamer/internal/pgtest"
)

func TestCheckServer(t *testing.T) {
	t.Parallel()
	f := newEmptyFixture(t, pgtest.New(t, pgtest.Options{Settings: map[string]string{
		"wal_level": "replica", "synchronous_standby_names": "FIRST 1 (a, *)", "synchronous_commit": "local",
	}}))
	server, err := f.control().Identify(t.Context())
	require.NoError(t, err)
	server.Version = 180001
	findings := CheckServer(server, f.config)
	require.Len(t, findings, 2)
	assert.Contains(t, findings[0].Problem, `wal_level of the server is "replica"`)
	assert.Contains(t, findings[0].Remedy, "ALTER SYSTEM SET wal_level")
	assert.Contains(t, findings[1].Problem, "FIRST 1 (a, *)")
	assert.Contains(t, findings[1].Problem, f.config.ApplicationName())
	assert.Contains(t, findings[1].Remedy, "synchronous_standby_names")
	refusal := Refusal(findings)
	assert.Equal(t, failure.Refused, failure.ClassOf(refusal))
	for _, finding := range findings {
		assert.True(t, finding.Fatal)
		require.ErrorContains(t, refusal, finding.Problem)
		assert.Contains(t, failure.Fix(refusal), finding.Remedy)
	}
	require.NoError(t, Refusal(nil))
	require.NoError(t, Refusal([]Finding{{Problem: "only a warning"}}))

	server.WALLevel, server.SynchronousStandbyNames, server.Pooled = "logical", "", true
	findings = CheckServer(server, f.config)
	require.Len(t, findings, 1)
	assert.False(t, findings[0].Fatal)
	assert.Contains(t, findings[0].Problem, "a pooler or proxy is in between")
	assert.Contains(t, findings[0].Remedy, "PgBouncer")

	shared := newFixture(t, pgtest.Shared(t))
	good, _ := shared.identify()
	require.NoError(t, Refusal(CheckServer(good, shared.config)))
}

func TestCheckSlot(t *testing.T) {
	t.Parallel()
	f := newFixture(t, pgtest.Shared(t))
	server, slot := f.identify()
	assert.Empty(t, CheckSlot(slot, server))
	name := f.config.Slot
	for suffix, test := range map[string]struct{ create, want, remedy string }{
		"_physical":  {"pg_create_physical_replication_slot($1)", "is a physical slot", "postgres.slot"},
		"_plugin":    {"pg_create_logical_replication_slot($1, 'test_decoding')", `output plugin "test_decoding"`, "streamer setup"},
		"_temporary": {"pg_create_logical_replication_slot($1, 'pgoutput', true)", "is temporary", "postgres.slot"},
		"_prepared":  {"pg_create_logical_replication_slot($1, 'pgoutput', false, true)", "two_phase", "streamer setup"},
	} {
		t.Run(suffix, func(t *testing.T) {
			g := *f
			g.t = t
			g.config.Slot = name + suffix
			require.Equal(t, g.config.Slot, query[string](&g, "SELECT slot_name::text FROM "+test.create, g.config.Slot))
			t.Cleanup(func() {
				_, err := g.conn.Exec(context.WithoutCancel(t.Context()), "SELECT pg_drop_replication_slot($1)", g.config.Slot)
				assert.NoError(t, err)
			})
			server, slot := g.identify()
			findings := CheckSlot(slot, server)
			require.Len(t, findings, 1)
			assert.True(t, findings[0].Fatal)
			assert.Contains(t, findings[0].Problem, test.want)
			assert.Contains(t, findings[0].Problem, g.config.Slot)
			assert.Contains(t, findings[0].Remedy, test.remedy)
		})
	}
	t.Run("of another database", func(t *testing.T) {
		t.Parallel()
		g := newFixture(t, pgtest.Shared(t))
		own := g.config.Slot
		g.config.Slot = name
		server, slot := g.identify()
		findings := CheckSlot(slot, server)
		require.Len(t, findings, 1)
		assert.Contains(t, findings[0].Problem, name)
		assert.Contains(t, findings[0].Problem, own)
	})
	for want, lost := range map[string]Slot{
		"wal_status lost": {WALStatus: "lost"},
		"wal_removed":     {WALStatus: "lost", InvalidationReason: "wal_removed"},
		"idle_timeout":    {WALStatus: "reserved", InvalidationReason: "idle_timeout"},
	} {
		lost.Name, lost.Type, lost.Plugin, lost.Database = "s", "logical", "pgoutput", "d"
		findings := CheckSlot(lost, Server{Database: "d"})
		require.Len(t, findings, 1)
		assert.Contains(t, findings[0].Problem, want)
	}
}

func TestCheckPosition(t *testing.T) { //nolint:tparallel // one slot or schema, one after the other
	t.Parallel()
	f := newFixture(t, pgtest.Shared(t))
	f.insert(1, 1)
	slot := f.slot()
	require.Greater(t, slot.Flushed, slot.Confirmed)
	for _, checkpoint := range []LSN{slot.Confirmed, slot.Confirmed + 1, slot.Flushed} {
		assert.Empty(t, CheckPosition(checkpoint, slot))
	}
	for checkpoint, want := range map[LSN]string{
		slot.Flushed + 1:           "is ahead of the server",
		slot.Flushed + 1<<30:       "is ahead of the server",
		slot.Confirmed - 1:         "would be skipped",
		0:                          "would be skipped",
		LSN(0xFFFF_FFFF_0000_0000): "is ahead of the server",
	} {
		findings := CheckPosition(checkpoint, slot)
		require.Len(t, findings, 1)
		assert.True(t, findings[0].Fatal)
		assert.Contains(t, findings[0].Problem, want)
		assert.Contains(t, findings[0].Problem, checkpoint.String())
		assert.Contains(t, findings[0].Remedy, "streamer checkpoint set")
	}
	t.Run("a slot that was made again", func(t *testing.T) {
		checkpoint := slot.Flushed
		f.exec("SELECT pg_drop_replication_slot('" + f.config.Slot + "')")
		f.insert(2, 2)
		f.createSlot()
		findings := CheckPosition(checkpoint, f.slot())
		require.Len(t, findings, 1)
		assert.Contains(t, findings[0].Problem, "re-created")
	})
}

// tableScenario runs in its own schema: $s in its statements. The publication
// is also called $s.
type tableScenario struct {
	sql     []string
	since   int // server_version_num
	table   string
	columns []string
	want    []string // the text of the findings, in order
	warning bool     // the findings are warnings
	// cured: following the remedies leads to a table without fatal findings.
	cured bool
}

const simpleTable = "CREATE TABLE $s.outbox (id int PRIMARY KEY, payload text, note text)"

var tableScenarios = map[string]tableScenario{
	"all is well": {sql: []string{simpleTable, "CREATE PUBLICATION $s FOR TABLE $s.outbox WITH (publish = 'insert')"}},
	"all tables":  {sql: []string{simpleTable, "CREATE PUBLICATION $s FOR ALL TABLES WITH (publish = 'insert')"}},
	"tables in a schema": {
		since: 150000,
		sql:   []string{simpleTable, "CREATE PUBLICATION $s FOR TABLES IN SCHEMA $s WITH (publish = 'insert')"},
	},
	"a partitioned table": {
		sql: []string{
			"CREATE TABLE $s.outbox (id int, payload text) PARTITION BY RANGE (id)",
			"CREATE TABLE $s.one PARTITION OF $s.outbox DEFAULT",
			"CREATE PUBLICATION $s FOR TABLE $s.outbox WITH (publish = 'insert', publish_via_partition_root = true)",
		},
	},
	"a list of all columns": {
		since: 150000,
		sql:   []string{simpleTable, "CREATE PUBLICATION $s FOR TABLE $s.outbox (id, payload) WITH (publish = 'insert')"},
	},
	"a name in need of quotes": {
		table: `Out"box.x`,
		sql: []string{
			`CREATE TABLE $s."Out""box.x" (id int, payload text)`,
			`CREATE PUBLICATION $s FOR TABLE $s."Out""box.x" WITH (publish = 'insert')`,
		},
	},

	"no table": {want: []string{"outbox table $s.outbox does not exist"}},
	"a view": {
		sql:  []string{"CREATE VIEW $s.outbox AS SELECT 1 AS id, '' AS payload"},
		want: []string{"$s.outbox, which outbox.table names, is a view"},
	},
	"a column is missing": {
		sql:  []string{"CREATE TABLE $s.outbox (id int, note text)", "CREATE PUBLICATION $s FOR TABLE $s.outbox WITH (publish = 'insert')"},
		want: []string{`has no column "payload"`},
	},
	"two columns are missing": {
		sql: []string{
			`CREATE TABLE $s.outbox ("ID" int, gone int)`, "ALTER TABLE $s.outbox DROP gone",
			"CREATE PUBLICATION $s FOR TABLE $s.outbox WITH (publish = 'insert')",
		},
		columns: []string{"id", "gone"},
		want:    []string{`has no column "id"`, `has no column "gone"`},
	},
	"an unlogged table": {
		sql: []string{
			strings.Replace(simpleTable, "TABLE", "UNLOGGED TABLE", 1),
			"CREATE PUBLICATION $s FOR ALL TABLES WITH (publish = 'insert')",
		}, cured: true,
		want: []string{"is not logged", "does not contain table $s.outbox"},
	},
	"an unlogged table in need of quotes": {
		table: "Out",
		sql: []string{
			`CREATE UNLOGGED TABLE $s."Out" (id int, payload text)`,
			"CREATE PUBLICATION $s FOR ALL TABLES WITH (publish = 'insert')",
		},
		cured: true,
		want:  []string{"is not logged", "does not contain table $s.Out"},
	},
	"no publication": {sql: []string{simpleTable}, want: []string{`publication "$s" does not exist`}},
	"no inserts": {
		sql:   []string{simpleTable, "CREATE PUBLICATION $s FOR TABLE $s.outbox WITH (publish = 'truncate')"},
		cured: true,
		want:  []string{"does not publish inserts", "also publishes truncate"},
	},
	"no inserts, but what others need": {
		sql:   []string{simpleTable, "CREATE PUBLICATION $s FOR TABLE $s.outbox WITH (publish = 'update, delete')"},
		cured: true,
		want:  []string{"does not publish inserts", "also publishes delete, update"},
	},
	"another table": {
		sql:   []string{simpleTable, "CREATE TABLE $s.other (id int)", "CREATE PUBLICATION $s FOR TABLE $s.other WITH (publish = 'insert')"},
		cured: true,
		want:  []string{"does not contain table $s.outbox"},
	},
	"a publication of none": {
		sql:   []string{simpleTable, "CREATE PUBLICATION $s WITH (publish = 'insert')"},
		cured: true,
		want:  []string{"does not contain table $s.outbox"},
	},
	"a table in need of quotes is not published": {
		table: `Out"box`,
		sql:   []string{`CREATE TABLE $s."Out""box" (id int, payload text)`, "CREATE PUBLICATION $s WITH (publish = 'insert')"},
		cured: true,
		want:  []string{`does not contain table $s."Out""box"`},
	},
	"a row filter": {
		since: 150000,
		sql:   []string{simpleTable, "CREATE PUBLICATION $s FOR TABLE $s.outbox WHERE (id > 5) WITH (publish = 'insert')"},
		cured: true,
		want:  []string{"filters rows of $s.outbox: WHERE (id > 5)"},
	},
	"a column list": {
		since: 150000,
		sql:   []string{simpleTable, "CREATE PUBLICATION $s FOR TABLE $s.outbox (id, note) WITH (publish = 'insert')"},
		cured: true,
		want:  []string{`leaves out column "payload"`},
	},
	"partitions on their own": {
		sql: []string{
			"CREATE TABLE $s.outbox (id int, payload text) PARTITION BY RANGE (id)",
			"CREATE TABLE $s.one PARTITION OF $s.outbox DEFAULT",
			"CREATE PUBLICATION $s FOR TABLE $s.outbox WITH (publish = 'insert')",
		},
		cured: true,
		want:  []string{"publishes the partitions of $s.outbox"},
	},
	"only a partition": {
		sql: []string{
			"CREATE TABLE $s.outbox (id int, payload text) PARTITION BY RANGE (id)",
			"CREATE TABLE $s.one PARTITION OF $s.outbox DEFAULT",
			"CREATE PUBLICATION $s FOR TABLE $s.one WITH (publish = 'insert')",
		},
		cured: true,
		want:  []string{"publishes the partitions of $s.outbox"},
	},
	"an empty child": {
		sql: []string{
			simpleTable, "CREATE TABLE $s.child () INHERITS ($s.outbox)",
			"CREATE PUBLICATION $s FOR TABLE $s.outbox WITH (publish = 'insert')",
		},
		want: []string{"table $s.child inherits from outbox table $s.outbox"},
	},
	"children in need of quotes, created later": {
		sql: []string{
			simpleTable, "CREATE PUBLICATION $s FOR ALL TABLES WITH (publish = 'insert')",
			`CREATE TABLE $s."Child" () INHERITS ($s.outbox)`,
			"CREATE UNLOGGED TABLE $s.z () INHERITS ($s.outbox)",
		},
		want: []string{`table $s."Child" inherits`, "table $s.z inherits"},
	},
	"a temporary child": {
		sql: []string{
			simpleTable, "CREATE TEMPORARY TABLE own () INHERITS ($s.outbox)",
			"CREATE PUBLICATION $s FOR TABLE ONLY $s.outbox WITH (publish = 'insert')",
		},
	},
	"a child of another table": {
		sql: []string{
			strings.Replace(simpleTable, "outbox", "parent", 1),
			"CREATE TABLE $s.outbox () INHERITS ($s.parent)",
			"CREATE PUBLICATION $s FOR TABLE $s.parent WITH (publish = 'insert')",
		},
	},
	"a partition": {
		sql: []string{
			"CREATE TABLE $s.root (id int, payload text) PARTITION BY RANGE (id)",
			"CREATE TABLE $s.outbox PARTITION OF $s.root DEFAULT",
			"CREATE PUBLICATION $s FOR TABLE $s.outbox WITH (publish = 'insert', publish_via_partition_root = true)",
		},
	},
	"a partition under the name of its root": {
		sql: []string{
			"CREATE TABLE $s.root (id int, payload text) PARTITION BY RANGE (id)",
			"CREATE TABLE $s.outbox PARTITION OF $s.root DEFAULT",
			"CREATE PUBLICATION $s FOR TABLE $s.outbox, $s.root WITH (publish = 'insert', publish_via_partition_root = true)",
		},
		want: []string{"does not contain table $s.outbox"},
	},
	"an unlogged partition": {
		sql: []string{
			"CREATE TABLE $s.outbox (id int, payload text) PARTITION BY RANGE (id)",
			"CREATE TABLE $s.one PARTITION OF $s.outbox DEFAULT PARTITION BY RANGE (id)",
			`CREATE UNLOGGED TABLE $s."Two" PARTITION OF $s.one DEFAULT`,
			"CREATE PUBLICATION $s FOR TABLE $s.outbox WITH (publish = 'insert', publish_via_partition_root = true)",
		}, cured: true,
		want: []string{`partition $s."Two" of outbox table $s.outbox is not logged`},
	},
	"a foreign partition": {
		sql: []string{
			"CREATE TABLE $s.outbox (id int, payload text) PARTITION BY RANGE (id)", "CREATE FOREIGN DATA WRAPPER $s",
			"CREATE SERVER $s FOREIGN DATA WRAPPER $s",
			"CREATE FOREIGN TABLE $s.far PARTITION OF $s.outbox DEFAULT SERVER $s",
			"CREATE PUBLICATION $s FOR TABLE $s.outbox WITH (publish = 'insert', publish_via_partition_root = true)",
		}, cured: true,
		want: []string{"partition $s.far of outbox table $s.outbox is a foreign table"},
	},
	"every action": {
		sql:     []string{simpleTable, "CREATE PUBLICATION $s FOR TABLE $s.outbox"},
		warning: true,
		want:    []string{"also publishes delete, truncate, update"},
	},
}

func TestCheckTable(t *testing.T) { //nolint:tparallel // one slot or schema, one after the other
	t.Parallel()
	all := newEmptyFixture(t, pgtest.Shared(t))
	control := all.control()
	n := 0
	for name, test := range tableScenarios {
		t.Run(name, func(t *testing.T) {
			f := *all
			f.t = t
			if test.since > f.server.Version() {
				t.Skipf("PostgreSQL %s cannot do this", versionText(f.server.Version()))
			}
			n++
			schema := fmt.Sprintf("s%d", n)
			f.exec("CREATE SCHEMA " + schema)
			for _, statement := range test.sql {
				f.exec(strings.ReplaceAll(statement, "$s", schema))
			}
			config, outbox := f.config, f.config.Outboxes[0]
			config.Publication, outbox.Table = schema, schema+".outbox"
			if test.table != "" {
				outbox.Table = pgname.Table{Schema: schema, Name: test.table}.String()
			}
			if test.columns != nil {
				outbox.Columns = test.columns
			}
			config.Outboxes = []Outbox{outbox}
			control.config = config
			check := func() []Finding {
				table, err := control.DescribeTable(t.Context(), control.config.Outboxes[0])
				require.NoError(t, err)
				return CheckTable(table, config)
			}
			findings := check()
			require.Len(t, findings, len(test.want), "%v", findings)
			for i, finding := range findings {
				want := strings.ReplaceAll(test.want[i], "$s", schema)
				assert.Contains(t, finding.Problem, want)
				assert.NotEmpty(t, finding.Remedy)
				if !strings.Contains(want, "also publishes") {
					assert.True(t, finding.Fatal)
				}
			}
			if test.warning {
				require.NoError(t, Refusal(findings))
			}
			for range 3 {
				if fatal := check(); test.cured && Refusal(fatal) != nil {
					f.exec(fatal[0].Remedy)
				}
			}
			if test.cured {
				require.NoError(t, Refusal(check()), "after all remedies")
			}
			if strings.HasSuffix(name, "what others need") {
				assert.Contains(t, check()[0].Problem, "also publishes delete, update", "as before")
			}
		})
	}
}

func TestDescribeTable(t *testing.T) {
	t.Parallel()
	f := newFixture(t, pgtest.Shared(t))
	f.exec(
		"ALTER TABLE outbox ADD COLUMN gone int, ADD COLUMN at timestamptz(3), ADD COLUMN \"Kind\" varchar(20)",
		"ALTER TABLE outbox DROP COLUMN gone",
		"CREATE TABLE other (id int)",
		"ALTER PUBLICATION p ADD TABLE other",
	)
	table, err := f.control().DescribeTable(t.Context(), f.config.Outboxes[0])
	require.NoError(t, err)
	want := Table{
		Outbox: f.config.Outboxes[0], Exists: true, OID: table.OID, Kind: "r", Persistence: "p",
		Publication: true, Inserts: true, Published: true,
		OtherTables: []string{"public.other"},
		Columns: []Column{
			{"id", "integer", "integer", ""},
			{"payload", "text", "text", ""},
			{"at", "timestamp(3) with time zone", "timestamp with time zone", ""},
			{"Kind", "character varying(20)", "character varying", ""},
		},
		Attributes: table.Attributes, footing: table.footing, end: table.end, version: f.server.Version(), encoding: "UTF8",
	}
	assert.Equal(t, want, table)
	assert.NotZero(t, table.OID)
	assert.NotZero(t, table.footing.Publication)
	assert.NotZero(t, table.footing.Entry)
	assert.Empty(t, CheckTable(table, f.config))
}

func TestCheckTimeColumn(t *testing.T) {
	t.Parallel()
	for typ, fits := range map[string]bool{
		"timestamp with time zone": true, "timestamp without time zone": true, "timestamp(3) with time zone": true,
		"bigint": true, "my_domain": true, "text": true, "character varying": true, "numeric": true,
		"integer": false, "date": false, "jsonb": false,
	} {
		table := Table{
			Outbox: Outbox{Table: "public.outbox", TimeColumn: "at"}, Exists: true, Persistence: "p", Columns: []Column{{Name: "at", Type: typ}},
		}
		found := checkTime(table)
		if assert.Equal(t, fits, len(found) == 0, typ) && !fits {
			assert.True(t, found[0].Fatal)
			assert.Contains(t, found[0].Remedy, "outbox.columns.time")
		}
		table.Outbox.TimeColumn = ""
		assert.Empty(t, checkTime(table), "without a time column")
	}
	seconds := Table{
		Outbox: Outbox{Table: "public.outbox", TimeColumn: "at", TimeUnit: microseconds},
		Exists: true, Persistence: "p", Columns: []Column{{Name: "at", Type: "integer"}},
	}
	assert.Empty(t, checkTime(seconds))
}

// An event ID is unique within its source. Where two tables share a source,
// only ids that are unique by themselves will do.
func TestTablesWithTheSameSource(t *testing.T) {
	t.Parallel()
	table := func(name, source, idType string) Table {
		return Table{
			Outbox: Outbox{Table: name, ID: "id", Source: source}, Exists: true, Persistence: "p", Publication: true, Inserts: true, Published: true,
			Columns: []Column{{Name: "id", Type: idType}},
		}
	}
	for _, c := range []struct {
		tables []Table
		says   string
	}{
		{[]Table{table("a", "/s", "bigint")}, ""},
		{[]Table{table("a", "/a", "bigint"), table("b", "/b", "bigint")}, ""},
		{[]Table{table("a", "/s", "uuid"), table("b", "/s", "uuid")}, ""},
		{
			[]Table{table("a", "/s", "uuid"), table("b", "/s", "bigint")},
			`events of tables a and b have the same source "/s", and ids of b are bigint`,
		},
		{[]Table{table("a", "/s", "text"), table("b", "/t", "uuid"), table("c", "/s", "uuid")}, `events of tables a and c`},
	} {
		err := Refusal(CheckTables(c.tables, Config{Publication: "p"}))
		if c.says == "" {
			require.NoError(t, err)
			continue
		}
		require.ErrorContains(t, err, c.says)
		assert.Contains(t, failure.Fix(err), "put {table} into cloudevents.source")
	}
}

// A JSON pointer leads only into columns that can hold JSON.
func TestCheckDocuments(t *testing.T) {
	t.Parallel()
	for typ, fits := range map[string]bool{
		"json": true, "jsonb": true, "text": true, "character varying": true, "bytea": true, "integer": false, "uuid": false, "hstore": false,
	} {
		table := Table{
			Outbox: Outbox{Table: "public.outbox", Columns: []string{"doc"}, Documents: []string{"doc"}},
			Exists: true, Persistence: "p", Columns: []Column{{Name: "doc", Type: typ}},
		}
		found := checkColumns(table, Config{})
		if assert.Equal(t, fits, len(found) == 0, typ) && !fits {
			assert.True(t, found[0].Fatal)
			assert.Equal(t, `a JSON pointer leads into column "doc" of public.outbox, which is `+typ+" and holds no JSON", found[0].Problem)
		}
		table.Outbox.Documents = nil
		assert.Empty(t, checkColumns(table, Config{}), "without a pointer")
	}
}
