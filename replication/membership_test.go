package replication

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/internal/pgtest"
	"github.com/outboxstream/streamer/internal/testserver"
)

// change is a change to table and publication, and what the catalog reveals
// afterwards.
type change struct {
	publication string // how it is created; for the table if empty
	before      string // beforehand
	do          string // transactions, one per line
	// A gap is reported if there was one, or may have been: by an observer, and
	// after a restart. Empty: rows cannot have been left out.
	observed, restarted string
	since               int // PostgreSQL
}

const (
	altered  = "altered or created again"
	added    = "taken out and added again"
	replaced = "another table has its name"
	renamed  = "renamed or moved"
	rewrote  = "UNLOGGED and LOGGED"

	allTables = "for all tables"
	ofSchema  = "for tables in schema public"

	// A narrow table has no TOAST table.
	narrow      = "DROP TABLE outbox; CREATE TABLE outbox (id int, payload varchar(80))"
	partitioned = "DROP TABLE outbox; CREATE TABLE outbox (id int, payload text) PARTITION BY RANGE (id); " +
		"CREATE TABLE part PARTITION OF outbox DEFAULT; ALTER PUBLICATION p ADD TABLE outbox"
)

var changes = map[string]change{
	"nothing": {},
	"grant, column, trigger": {
		do: "GRANT SELECT ON outbox TO public\nALTER TABLE outbox ADD COLUMN more text\nALTER TABLE outbox ENABLE ROW LEVEL SECURITY\n" +
			"CREATE INDEX ON outbox (payload)",
	},
	"truncate, vacuum full": {do: "TRUNCATE outbox\nVACUUM FULL outbox\nANALYZE outbox\nCLUSTER outbox USING outbox_pkey"},
	"catalog rewritten": {
		do: "VACUUM (FULL, FREEZE) pg_publication\nVACUUM (FULL, FREEZE) pg_publication_rel\nVACUUM (FULL, FREEZE) pg_type\n" +
			"VACUUM (FULL, FREEZE) pg_class",
	},
	"owner":         {do: "ALTER TABLE outbox OWNER TO pg_monitor\nALTER PUBLICATION p OWNER TO pg_monitor"},
	"set table":     {do: "ALTER PUBLICATION p SET TABLE outbox"},
	"another table": {do: "CREATE TABLE another (id int); ALTER PUBLICATION p ADD TABLE another\nALTER PUBLICATION p DROP TABLE another"},
	"out and in": {
		do:        "ALTER PUBLICATION p DROP TABLE outbox\nALTER PUBLICATION p ADD TABLE outbox",
		observed:  added,
		restarted: added,
	},
	"out and in at once": {do: "ALTER PUBLICATION p DROP TABLE outbox; ALTER PUBLICATION p ADD TABLE outbox", restarted: added},
	"out and in, twice": {
		do: "ALTER PUBLICATION p DROP TABLE outbox; ALTER PUBLICATION p ADD TABLE outbox\n" +
			"ALTER PUBLICATION p DROP TABLE outbox\nALTER PUBLICATION p ADD TABLE outbox",
		observed:  added,
		restarted: added,
	},
	"filter and none": {
		since:     15,
		do:        "ALTER PUBLICATION p SET TABLE outbox WHERE (id > 5)\nALTER PUBLICATION p SET TABLE outbox",
		observed:  added,
		restarted: added,
	},
	"columns and all": {
		since:     15,
		do:        "ALTER PUBLICATION p SET TABLE outbox (id)\nALTER PUBLICATION p SET TABLE outbox",
		observed:  added,
		restarted: added,
	},
	"inserts off and on": {
		do:        "ALTER PUBLICATION p SET (publish = 'update')\nALTER PUBLICATION p SET (publish = 'insert')",
		observed:  altered,
		restarted: altered,
	},
	"only inserts": {
		before:    "ALTER PUBLICATION p SET (publish = 'insert, update')",
		do:        "ALTER PUBLICATION p SET (publish = 'insert')",
		restarted: altered,
	},
	"publication renamed": {
		do:        "ALTER PUBLICATION p RENAME TO q\nALTER PUBLICATION q RENAME TO p",
		observed:  altered,
		restarted: altered,
	},
	"publication again": {
		do:        "DROP PUBLICATION p\nCREATE PUBLICATION p FOR TABLE outbox WITH (publish = 'insert')",
		observed:  altered,
		restarted: altered,
	},
	"publication at once": {
		do:        "DROP PUBLICATION p; CREATE PUBLICATION p FOR TABLE outbox WITH (publish = 'insert')",
		restarted: altered,
	},
	"publication, table later": {
		do:        "DROP PUBLICATION p; CREATE PUBLICATION p WITH (publish = 'insert')\nALTER PUBLICATION p ADD TABLE outbox",
		observed:  added,
		restarted: altered,
	},
	"all tables, at once": {
		publication: allTables,
		do:          "DROP PUBLICATION p; CREATE PUBLICATION p FOR ALL TABLES WITH (publish = 'insert')",
		restarted:   altered,
	},
	"all tables, again": {
		publication: allTables,
		do:          "DROP PUBLICATION p\nCREATE PUBLICATION p FOR ALL TABLES WITH (publish = 'insert')",
		observed:    altered,
		restarted:   altered,
	},
	"all tables, renamed": {publication: allTables, do: "ALTER TABLE outbox RENAME TO away\nALTER TABLE away RENAME TO outbox"},
	"all tables, swap": {publication: allTables, do: "CREATE TABLE outbox_new (LIKE outbox INCLUDING ALL)\n" +
		"ALTER TABLE outbox RENAME TO outbox_old\nALTER TABLE outbox_new RENAME TO outbox"},
	"all tables, unlogged": {
		publication: allTables,
		do:          "ALTER TABLE outbox SET UNLOGGED\nALTER TABLE outbox SET LOGGED",
		observed:    rewrote,
		restarted:   rewrote,
	},
	"all tables, unlogged at once": {
		publication: allTables,
		do:          "ALTER TABLE outbox SET UNLOGGED; ALTER TABLE outbox SET LOGGED",
		restarted:   rewrote,
	},
	"all tables, unlogged and type": {
		publication: allTables,
		do:          "ALTER TABLE outbox SET UNLOGGED\nALTER TABLE outbox SET LOGGED\nALTER TABLE outbox ALTER id TYPE bigint",
		observed:    rewrote,
		restarted:   rewrote,
	},
	"all tables, type": {
		publication: allTables,
		do: "ALTER TABLE outbox ADD COLUMN more text\nALTER TABLE outbox ALTER id TYPE bigint\n" +
			"GRANT SELECT ON outbox TO public\nTRUNCATE outbox",
		restarted: rewrote,
	},
	"all tables, types": {
		publication: allTables,
		do:          "ALTER TABLE outbox ALTER id TYPE bigint\nALTER TABLE outbox ALTER id TYPE int",
		observed:    rewrote,
		restarted:   rewrote,
	},
	"all tables, narrow, unlogged": {
		publication: allTables,
		before:      narrow,
		do:          "ALTER TABLE outbox SET UNLOGGED\nALTER TABLE outbox SET LOGGED",
		observed:    rewrote,
		restarted:   rewrote,
	},
	"all tables, narrow, type": {
		publication: allTables,
		before:      narrow,
		do:          "ALTER TABLE outbox ALTER id TYPE bigint",
		restarted:   rewrote,
	},
	"all tables, narrow, truncate": {publication: allTables, before: narrow, do: "TRUNCATE outbox", restarted: rewrote},
	"all tables, narrow and wide": {
		publication: allTables,
		before:      narrow,
		do:          "ALTER TABLE outbox ADD COLUMN more text\nGRANT SELECT ON outbox TO public",
	},
	"types": {
		do: "ALTER TABLE outbox ALTER id TYPE bigint\nALTER TABLE outbox ADD COLUMN more text\n" +
			"ALTER TABLE outbox ALTER payload TYPE varchar(9)\n" +
			"ALTER TABLE outbox ALTER id TYPE int; TRUNCATE outbox",
	},
	"types, out and in at once": {
		do: "ALTER TABLE outbox ALTER id TYPE bigint\nALTER PUBLICATION p DROP TABLE outbox; " +
			"ALTER PUBLICATION p ADD TABLE outbox\nALTER TABLE outbox ALTER id TYPE int",
		restarted: added,
	},
	"schema out and in": {
		since:       15,
		publication: ofSchema,
		do:          "ALTER PUBLICATION p DROP TABLES IN SCHEMA public\nALTER PUBLICATION p ADD TABLES IN SCHEMA public",
		observed:    added,
		restarted:   added,
	},
	"schema at once": {
		since:       15,
		publication: ofSchema,
		do:          "ALTER PUBLICATION p DROP TABLES IN SCHEMA public; ALTER PUBLICATION p ADD TABLES IN SCHEMA public",
		restarted:   added,
	},
	"schema set": {since: 15, publication: ofSchema, do: "ALTER PUBLICATION p SET TABLES IN SCHEMA public"},
	"schema left": {
		since:       15,
		publication: ofSchema,
		do:          "CREATE SCHEMA s\nALTER TABLE outbox SET SCHEMA s\nALTER TABLE s.outbox SET SCHEMA public",
		observed:    renamed,
		restarted:   renamed,
	},
	"schema and table": {
		since:       15,
		publication: ofSchema,
		do:          "ALTER PUBLICATION p ADD TABLE outbox\nALTER PUBLICATION p DROP TABLES IN SCHEMA public",
		observed:    added,
		restarted:   added,
	},
	"schema to table": {
		since:       15,
		publication: ofSchema,
		do:          "ALTER PUBLICATION p ADD TABLE outbox; ALTER PUBLICATION p DROP TABLES IN SCHEMA public",
		restarted:   added,
	},
	"schema, swap": {
		since:       15,
		publication: ofSchema,
		do: "ALTER TABLE outbox RENAME TO outbox_old; CREATE TABLE outbox (id int, payload text)\n" +
			"DROP TABLE outbox_old",
	},
	"renamed and back": {do: "ALTER TABLE outbox RENAME TO away\nALTER TABLE away RENAME TO outbox", observed: renamed, restarted: renamed},
	"swap": {
		do: "ALTER TABLE outbox RENAME TO outbox_old; CREATE TABLE outbox (id int, payload text); ALTER PUBLICATION p ADD TABLE outbox",
	},
	"swap, old table out": {
		do:        "ALTER TABLE outbox RENAME TO outbox_old; CREATE TABLE outbox (id int, payload text); ALTER PUBLICATION p SET TABLE outbox",
		restarted: replaced,
	},
	"swap, old table out before": {
		do: "ALTER PUBLICATION p DROP TABLE outbox\nALTER TABLE outbox RENAME TO outbox_old; " +
			"CREATE TABLE outbox (id int, payload text); ALTER PUBLICATION p ADD TABLE outbox",
		observed: replaced, restarted: replaced,
	},
	"swap, added later": {
		do:       "ALTER TABLE outbox RENAME TO outbox_old; CREATE TABLE outbox (id int, payload text)\nALTER PUBLICATION p ADD TABLE outbox",
		observed: replaced, restarted: replaced,
	},
	"swap of a prepared table": {
		before: "CREATE TABLE outbox_new (LIKE outbox); ALTER PUBLICATION p ADD TABLE outbox_new",
		do:     "ALTER TABLE outbox RENAME TO outbox_old; ALTER TABLE outbox_new RENAME TO outbox",
	},
	"dropped and created": {
		do:        "DROP TABLE outbox\nCREATE TABLE outbox (id int, payload text); ALTER PUBLICATION p ADD TABLE outbox",
		observed:  replaced,
		restarted: replaced,
	},
	"dropped and created at once": {
		do:        "DROP TABLE outbox; CREATE TABLE outbox (id int, payload text); ALTER PUBLICATION p ADD TABLE outbox",
		restarted: replaced,
	},
	"partitioned": {
		do: "ALTER TABLE outbox RENAME TO part; CREATE TABLE outbox (id int, payload text) PARTITION BY RANGE (id); " +
			"ALTER TABLE outbox ATTACH PARTITION part FOR VALUES FROM (0) TO (1000); " +
			"ALTER PUBLICATION p ADD TABLE outbox",
	},
	"partition detached and attached": {
		before: partitioned,
		do: "ALTER TABLE outbox DETACH PARTITION part\nALTER TABLE outbox ATTACH PARTITION part DEFAULT\n" +
			"CREATE TABLE next PARTITION OF outbox FOR VALUES FROM (1) TO (2)",
	},
	"partition unlogged": {
		before:   partitioned,
		do:       "ALTER TABLE part SET UNLOGGED\nALTER TABLE part SET LOGGED\nGRANT SELECT ON outbox TO public",
		observed: rewrote, restarted: rewrote,
	},
	"partitions rewritten": {
		before:    partitioned,
		do:        "ALTER TABLE outbox ALTER payload TYPE jsonb USING NULL\nALTER TABLE outbox ADD COLUMN more text",
		restarted: rewrote,
	},
	"partitions under their own names": {
		before:   partitioned,
		do:       "ALTER PUBLICATION p SET (publish_via_partition_root = false)\nALTER PUBLICATION p SET (publish_via_partition_root = true)",
		observed: altered, restarted: altered,
	},
}

// Whether rows may have been left out is judged by what was possible.
func TestMembership(t *testing.T) {
	t.Parallel()
	for _, version := range testserver.Ends("14", "15", "17", "18") {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			server := pgtest.Shared(t)
			if server.Version()/10000 != int(version[0]-'0')*10+int(version[1]-'0') {
				if testing.Short() {
					t.Skip("downloads and starts servers")
				}
				server = pgtest.New(t, pgtest.Options{Version: version})
			}
			f := newEmptyFixture(t, server)
			f.exec("CREATE TABLE published (payload text)", "CREATE PUBLICATION unlogged FOR TABLE published")
			_, err := f.conn.Exec(t.Context(), "ALTER TABLE published SET UNLOGGED")
			require.ErrorContains(t, err, "part of a publication", "footing.logged relies on this")
			for name, c := range changes {
				if server.Version()/10000 >= c.since {
					t.Run(name, func(t *testing.T) { c.play(t, *f) })
				}
			}
		})
	}
}

func (c change) play(t *testing.T, f fixture) {
	t.Helper()
	f.t = t
	f.exec("DROP SCHEMA public CASCADE", "CREATE SCHEMA public", "DROP SCHEMA IF EXISTS s CASCADE", "DROP PUBLICATION IF EXISTS p")
	whose := c.publication
	if whose == "" {
		whose = "for table outbox"
	}
	f.exec(
		"CREATE TABLE outbox (id int PRIMARY KEY, payload text)",
		"CREATE PUBLICATION p "+whose+" WITH (publish = 'insert', publish_via_partition_root = true)",
		c.before,
	)
	control := f.control()
	was, err := control.DescribeTable(t.Context(), control.config.Outboxes[0])
	require.NoError(t, err)
	require.NoError(t, Refusal(CheckTable(was, f.config)))
	observer := control.Observe([]Table{was})
	defer observer.Close()
	look := func() string {
		_, found, err := observer.Look(t.Context())
		require.NoError(t, err)
		return fmt.Sprint(Refusal(found))
	}
	require.Equal(t, "<nil>", look())
	for statement := range strings.SplitSeq(c.do, "\n") {
		f.exec(statement)
	}
	expect := func(want, said, whose string) {
		if want == "" {
			assert.Equal(t, "<nil>", said, whose)
		} else {
			assert.Contains(t, said, want, whose)
		}
	}
	expect(c.observed, look(), "an observer")
	if c.observed == "" {
		expect("", look(), "the next look")
	}
	now, err := f.control().DescribeTable(t.Context(), f.config.Outboxes[0])
	require.NoError(t, err)
	expect(c.restarted, fmt.Sprint(Refusal(CheckMembership(was.Membership(), now, f.config))), "after a restart")
	assert.Empty(t, CheckMembership(now.Membership(), now, f.config), "once accepted")
}

// Consecutive looks see changes between any two of them.
func TestObserver(t *testing.T) {
	t.Parallel()
	f := newFixture(t, pgtest.Shared(t))
	control := f.control()
	table, err := control.DescribeTable(t.Context(), control.config.Outboxes[0])
	require.NoError(t, err)
	observer := control.Observe([]Table{table})
	defer observer.Close()
	look := func() error {
		_, found, err := observer.Look(t.Context())
		require.NoError(t, err)
		return Refusal(found)
	}
	for range 3 {
		require.NoError(t, look())
		f.exec("ALTER PUBLICATION p DROP TABLE outbox; ALTER PUBLICATION p ADD TABLE outbox")
		require.NoError(t, look())
		f.exec("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND state = 'idle in transaction'")
		require.NoError(t, look(), "the snapshot was lost, and nothing has changed")
		f.exec("DO $$ BEGIN DROP PUBLICATION p; CREATE PUBLICATION p FOR TABLE outbox WITH (publish = 'insert'); END $$")
	}
	require.NoError(t, look())
	f.exec("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND state = 'idle in transaction'")
	f.exec("ALTER PUBLICATION p DROP TABLE outbox; ALTER PUBLICATION p ADD TABLE outbox")
	require.ErrorContains(t, look(), added, "it cannot tell")
}

// What earlier versions stored is understood.
func TestFormerMembership(t *testing.T) {
	t.Parallel()
	f := newFixture(t, pgtest.Shared(t))
	describe := func() Table {
		table, err := f.control().DescribeTable(t.Context(), f.config.Outboxes[0])
		require.NoError(t, err)
		return table
	}
	now := describe()
	before := fmt.Sprintf("%d/%d", now.footing.Publication.OID, now.footing.Entry.OID)
	assert.Empty(t, CheckMembership(before, now, f.config), "nothing has changed")
	assert.Empty(t, CheckMembership("", now, f.config), "nothing is known")
	f.exec("ALTER PUBLICATION p DROP TABLE outbox")
	assert.Empty(t, CheckMembership(before, describe(), f.config), "CheckTable reports that")
	f.exec("ALTER PUBLICATION p ADD TABLE outbox")
	assert.Len(t, CheckMembership(before, describe(), f.config), 1)
	f.exec("DROP PUBLICATION p", "CREATE PUBLICATION p FOR ALL TABLES")
	assert.Empty(t, CheckMembership(before, describe(), f.config), "the server reports that")
}
