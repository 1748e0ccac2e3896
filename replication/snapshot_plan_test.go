package replication

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/internal/pgtest"
)

// planned is the only finding about a snapshot of a table that is created by the
// statements, or empty.
func planned(t *testing.T, q SnapshotQuery, configure func(*Config), statements ...string) (problem, remedy string, err error) {
	t.Helper()
	f := newEmptyFixture(t, pgtest.Shared(t))
	f.exec(statements...)
	if configure != nil {
		configure(&f.config)
	}
	control := f.control()
	q.ChunkRows = 100
	_, found, err := control.PlanSnapshot(t.Context(), describe(t, control), q)
	if len(found) == 0 {
		return "", "", err
	}
	require.Len(t, found, 1)
	assert.True(t, found[0].Fatal)
	assert.Equal(t, failure.Refused, failure.ClassOf(Refusal(found)))
	return found[0].Problem, found[0].Remedy, err
}

func TestPlanSnapshot(t *testing.T) {
	t.Parallel()
	const id = "create table outbox (id uuid primary key, payload text, "
	for name, test := range map[string]struct {
		statements, orderBy string
		problem, remedy     string // part of it; empty: accepted
	}{
		"a time":           {id + "at timestamptz not null)", "at", "", ""},
		"the id itself":    {"create table outbox (id bigint primary key, payload text)", "id", "", ""},
		"a domain":         {"create domain moment as timestamp; " + id + "at moment not null)", "at", "", ""},
		"text by bytes":    {id + `at text collate "C" not null)`, "at", "", ""},
		"text ids":         {`create table outbox (id text collate "C" primary key, at int not null, payload text)`, "at", "", ""},
		"ids with another": {"create table outbox (id uuid, payload text, at int not null, primary key (at, id))", "at", "", ""},
		"partitioned": {
			"create table outbox (id uuid, payload text, at int not null, primary key (id, at)) partition by range (at); " +
				"create table p1 partition of outbox for values from (0) to (100)", "at", "", "",
		},
		"a missing column": {id + "at int not null)", "created", `has no column "created"`, "the table has id, payload, at"},
		"uuid":             {id + "at int not null)", "id", "is uuid, whose values have no order", "snapshot.order_by"},
		"floating point":   {id + "at float not null)", "at", "is double precision, by which rows cannot be ordered", "snapshot.order_by"},
		"nullable":         {id + "at int)", "at", "may be NULL: rows without a value have no place", `ALTER COLUMN "at" SET NOT NULL`},
		"text by a language": {
			id + `at text collate "en-x-icu" not null)`, "at", "collation whose order depends on the server's libraries", `COLLATE "C"`,
		},
		"not unique": {
			"create table outbox (id uuid not null, payload text, at int not null)", "at",
			"nothing makes column \"id\" of public.outbox unique", "CREATE UNIQUE INDEX",
		},
		"partly unique": {
			"create table outbox (id uuid not null, payload text, at int not null); create unique index on outbox (id) where at > 5",
			"at", "nothing makes column \"id\"", "CREATE UNIQUE INDEX",
		},
		"large without an index": {
			id + "at int not null); insert into outbox select gen_random_uuid(), '', n from generate_series(1, 500) n; analyze outbox",
			"at", `no index of public.outbox begins with column "at"`, `CREATE INDEX CONCURRENTLY ON "public"."outbox" ("at", "id")`,
		},
		"large with an index": {
			id + "at int not null); create index on outbox (at); " +
				"insert into outbox select gen_random_uuid(), '', n from generate_series(1, 500) n; analyze outbox", "at", "", "",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			problem, remedy, err := planned(t, SnapshotQuery{OrderBy: test.orderBy, ID: "id"}, nil, test.statements)
			require.NoError(t, err)
			if test.problem == "" {
				assert.Empty(t, problem)
				return
			}
			assert.Contains(t, problem, test.problem)
			assert.Contains(t, remedy, test.remedy)
		})
	}
	t.Run("a column that is not published", func(t *testing.T) {
		t.Parallel()
		if pgtest.Shared(t).Version() < 150000 {
			return // without column lists
		}
		problem, _, err := planned(t, SnapshotQuery{OrderBy: "at", ID: "id"}, nil,
			id+"at int not null)", "create publication p for table outbox (id, payload) with (publish = 'insert')")
		require.NoError(t, err)
		assert.Contains(t, problem, `leaves out column "at"`)
	})
}

func TestPlanSnapshotWhere(t *testing.T) {
	t.Parallel()
	const table = "create table outbox (id int primary key, payload text)"
	for name, test := range map[string]struct{ where, problem, remedy string }{
		"a condition":         {"payload like 'a%' -- or so", "", ""},
		"a missing column":    {"createdat > now()", `column "createdat" does not exist`, "correct snapshot.where; the table has id, payload"},
		"no condition":        {"payload", "argument of AND must be type boolean", "correct snapshot.where"},
		"no SQL":              {"where id > 5", "syntax error", "correct snapshot.where"},
		"more than one":       {"true); drop table outbox; select (true", "cannot insert multiple commands", "correct snapshot.where"},
		"a value of no order": {"id > 'x'", "invalid input syntax", "correct snapshot.where"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, _, err := planned(t, SnapshotQuery{OrderBy: "id", ID: "id", Where: test.where}, nil, table)
			if test.problem == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, strings.Replace(test.problem, "AND", "WHERE", 1))
			assert.Contains(t, failure.Fix(err), test.remedy)
			assert.Equal(t, failure.Misconfigured, failure.ClassOf(err))
		})
	}
}

// TestSnapshotRows reads what the configuration selects, completely or not at
// all.
func TestSnapshotRows(t *testing.T) {
	t.Parallel()
	t.Run("a condition", func(t *testing.T) {
		t.Parallel()
		f := newFixture(t, pgtest.Shared(t))
		f.insert(1, 20)
		f.exec("select pg_replication_slot_advance('" + f.config.Slot + "', pg_current_wal_flush_lsn())")
		q := byID
		q.Where = "id % 5 = 0 -- every fifth"
		assert.Equal(t, []string{"5", "10", "15", "20"}, newOld(f, q).all())
	})
	t.Run("a shard", func(t *testing.T) {
		t.Parallel()
		f := newFixture(t, pgtest.Shared(t))
		f.insert(1, 40)
		f.exec("select pg_replication_slot_advance('" + f.config.Slot + "', pg_current_wal_flush_lsn())")
		var all []string
		for index := range 3 {
			f.config.Shard, f.config.Outboxes[0].AggregateID = Shard{Index: index, Count: 3}, "id"
			part := newOld(f, byID).all()
			assert.NotEmpty(t, part)
			all = append(all, part...)
		}
		assert.ElementsMatch(t, numbers(1, 40), all)
	})
	t.Run("a partitioned table", func(t *testing.T) {
		t.Parallel()
		f := newEmptyFixture(t, pgtest.Shared(t))
		f.exec(
			"CREATE TABLE outbox (id int PRIMARY KEY, payload text) PARTITION BY HASH (id)",
			"CREATE TABLE a PARTITION OF outbox FOR VALUES WITH (MODULUS 2, REMAINDER 0)",
			"CREATE TABLE b PARTITION OF outbox FOR VALUES WITH (MODULUS 2, REMAINDER 1)",
			"CREATE PUBLICATION p FOR TABLE outbox WITH (publish = 'insert', publish_via_partition_root = true)",
		)
		f.insert(1, 20)
		f.createSlot()
		f.insert(21, 25)
		assert.Equal(t, numbers(1, 20), newOld(f, byID).all())
	})
	t.Run("another encoding", func(t *testing.T) {
		t.Parallel()
		f := newEmptyFixture(t, pgtest.New(t, pgtest.Options{Encoding: "LATIN1"}))
		f.exec(
			"SET client_encoding = 'UTF8'",
			`CREATE TABLE outbox (id text COLLATE "C" PRIMARY KEY, payload text)`, "CREATE PUBLICATION p FOR TABLE outbox WITH (publish = 'insert')",
			"INSERT INTO outbox VALUES ('z', ''), ('é', ''), ('Ü', ''), ('a''\\', '')",
		)
		f.createSlot()
		f.exec("INSERT INTO outbox VALUES ('ß', 'new')")
		q := byID
		q.ChunkRows = 1
		o := newOld(f, q)
		rows := o.all()
		var utf8 []string
		for _, row := range rows {
			utf8 = append(utf8, string(NewCharset("LATIN1").UTF8([]byte(row))))
		}
		assert.Equal(t, []string{`a'\`, "z", "Ü", "é"}, utf8)
		key := Key{[]byte(rows[2])}
		text := string(o.snapshot.order.Append(nil, key))
		assert.JSONEq(t, `["Ü"]`, text)
		back, err := o.snapshot.order.Parse(text)
		require.NoError(t, err)
		assert.Equal(t, key, back)
	})
	t.Run("row level security", func(t *testing.T) {
		t.Parallel()
		f := newFixture(t, pgtest.Shared(t))
		f.insert(1, 5)
		f.exec("ALTER TABLE outbox ENABLE ROW LEVEL SECURITY")
		control := restricted(t, f)
		f.exec("GRANT SELECT ON outbox TO " + f.config.Slot)
		_, _, err := control.PlanSnapshot(t.Context(), describe(t, control), byID)
		require.ErrorIs(t, err, ErrHidden)
	})
	t.Run("without the right to read", func(t *testing.T) {
		t.Parallel()
		f := newFixture(t, pgtest.Shared(t))
		f.insert(1, 5)
		f.exec("analyze outbox")
		control := restricted(t, f)
		_, _, err := control.PlanSnapshot(t.Context(), describe(t, control), byID)
		require.Error(t, err)
		assert.Contains(t, failure.Fix(err), "GRANT SELECT")
		count, err := control.CountRows(t.Context(), describe(t, control), SnapshotQuery{})
		require.NoError(t, err)
		assert.Equal(t, RowCount{Rows: 5}, count)
		count, err = f.control().CountRows(t.Context(), describe(t, control), SnapshotQuery{Where: "id > 2"})
		require.NoError(t, err)
		assert.Equal(t, RowCount{Rows: 3, Exact: true}, count)
	})
}

// TestSurelyOld does not know a row as old that the slot delivers. It has a
// server of its own, where no other slot is behind.
func TestSurelyOld(t *testing.T) {
	t.Parallel()
	for frozen, prepare := range map[string]string{"fresh": "select", "frozen": "vacuum freeze outbox"} {
		t.Run(frozen, func(t *testing.T) {
			t.Parallel()
			f := newEmptyFixture(t, pgtest.New(t, pgtest.Options{}))
			f.exec("CREATE TABLE outbox (id int PRIMARY KEY, payload text)", "CREATE PUBLICATION p FOR TABLE outbox WITH (publish = 'insert')")
			f.insert(1, 2)
			f.exec(prepare)
			f.createSlot()
			f.insert(3, 4)
			control := f.control()
			table := describe(t, control)
			assert.True(t, control.SurelyOld(t.Context(), table))
			f.exec("delete from outbox where id < 3")
			assert.False(t, control.SurelyOld(t.Context(), table))
		})
	}
}

// TestCountRowsOfALockedTable must not end the connection, which holds the lock
// of the slot.
func TestCountRowsOfALockedTable(t *testing.T) {
	t.Parallel()
	f := newFixture(t, pgtest.Shared(t))
	control := f.control()
	table := describe(t, control)
	f.exec("begin", "lock table outbox in access exclusive mode")
	_, err := control.CountRows(t.Context(), table, SnapshotQuery{})
	require.ErrorContains(t, err, "the table is being altered")
	require.NoError(t, control.Ping(t.Context()))
	f.exec("rollback")
	count, err := control.CountRows(t.Context(), table, SnapshotQuery{})
	require.NoError(t, err)
	assert.Equal(t, RowCount{Exact: true}, count)
}

func TestCheckSnapshot(t *testing.T) {
	t.Parallel()
	good := Slot{Name: "s", Confirmed: 100}
	assert.Empty(t, CheckSnapshot(Server{Version: 150008}, good, 100))
	for problem, found := range map[string][]Finding{
		"is a standby":              CheckSnapshot(Server{Version: 170005, InStandby: true}, good, 100),
		"is at 0/64":                CheckSnapshot(Server{Version: 170005}, good, 99),
		"slot inside a transaction": CheckSnapshot(Server{Version: 150007}, good, 100),
	} {
		require.Len(t, found, 1, problem)
		assert.Contains(t, found[0].Problem, problem)
	}
}

func TestOtherShards(t *testing.T) {
	t.Parallel()
	f := newFixture(t, pgtest.Shared(t))
	base := f.config.Slot[:min(len(f.config.Slot), 50)]
	for _, name := range []string{base + "_0_of_2", base + "_1_of_2", base + "_x"} {
		query[string](f, "SELECT slot_name::text FROM pg_create_logical_replication_slot($1, 'pgoutput')", name)
	}
	others := func(slot string, count int) []string {
		f.config.Slot, f.config.Shard, f.config.Outboxes[0].AggregateID = slot, Shard{Count: count}, "id"
		found, err := f.control().OtherShards(t.Context())
		require.NoError(t, err)
		return found
	}
	assert.Equal(t, []string{base}, others(base+"_1_of_2", 2))
	assert.Equal(t, []string{base, base + "_0_of_2", base + "_1_of_2"}, others(base+"_0_of_4", 4))
	assert.Equal(t, []string{base + "_0_of_2", base + "_1_of_2"}, others(base, 1))
}
