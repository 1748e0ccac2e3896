package replication

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/internal/pgtest"
)

// readOutbox collects what ReadOutbox hands out.
func readOutbox(f *fixture, q OutboxQuery) (snapshot OutboxSnapshot, rows []string, err error) {
	f.t.Helper()
	q.Outbox = f.config.Outboxes[0]
	err = f.control().ReadOutbox(f.t.Context(), q, func(s OutboxSnapshot) error {
		snapshot = s
		return nil
	}, func(r OutboxRow) error {
		var values []string
		for _, value := range r.Values {
			if value == nil {
				values = append(values, "NULL")
			} else {
				values = append(values, string(value))
			}
		}
		if q.TimeColumn != "" {
			values = append(values, strconv.FormatInt(r.Time, 10))
		}
		rows = append(rows, strings.Join(values, "|"))
		return nil
	})
	return snapshot, rows, err
}

func TestReadOutbox(t *testing.T) {
	t.Parallel()
	f := newFixture(t, pgtest.Shared(t))
	snapshot, rows, err := readOutbox(f, OutboxQuery{})
	require.NoError(t, err)
	assert.Empty(t, rows)
	assert.NotZero(t, snapshot.Opened)
	assert.LessOrEqual(t, snapshot.Opened, snapshot.Settled)

	f.exec("insert into outbox values (1, 'a'), (2, null)")
	other := connect(t, f.config.DSN)
	tx, err := other.Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), "insert into outbox values (3, 'not committed')")
	require.NoError(t, err)
	snapshot, rows, err = readOutbox(f, OutboxQuery{})
	require.NoError(t, err)
	assert.Equal(t, []string{"1|a", "2|NULL"}, rows)
	assert.Equal(t, []uint32{23, 25}, snapshot.Types)
	require.NoError(t, tx.Commit(t.Context()))

	// All visible rows commit below Settled, later ones above Opened.
	f.exec("select pg_replication_slot_advance('" + f.config.Slot + "', '" + snapshot.Settled.String() + "')")
	inserts, _, err := peek(t, f, 100, nil)
	require.NoError(t, err)
	assert.Equal(t, 1, inserts, "the row that was not committed")

	_, rows, err = readOutbox(f, OutboxQuery{Columns: []string{"payload"}})
	require.NoError(t, err)
	assert.Equal(t, []string{"a", "NULL", "not committed"}, rows)
}

func TestReadOutboxByID(t *testing.T) {
	t.Parallel()
	const odd = `a"\,{}'NULL`
	for typ, c := range map[string]struct{ ids, want []string }{
		"text":   {[]string{odd, "b"}, []string{odd, "b"}},
		"bigint": {[]string{"-7", "none"}, []string{"-7"}},
		"uuid":   {[]string{"0af76519-16cd-43dd-8448-eb211c80319c"}, []string{"0af76519-16cd-43dd-8448-eb211c80319c"}},
		"bytea":  {[]string{"x"}, []string{`\x01`, `\x02`}}, // has no text form: the caller chooses
	} {
		t.Run(typ, func(t *testing.T) {
			t.Parallel()
			f := newEmptyFixture(t, pgtest.Shared(t))
			f.exec("create table outbox (id " + typ + ")")
			for _, id := range append(
				c.want,
				map[string]string{"text": "other", "bigint": "7", "uuid": "1bf76519-16cd-43dd-8448-eb211c80319c"}[typ],
			) {
				_, err := f.conn.Exec(t.Context(), "insert into outbox select $1::text::"+typ+" where $1 <> ''", id)
				require.NoError(t, err)
			}
			f.config.Outboxes[0].Columns = []string{"id"}
			_, rows, err := readOutbox(f, OutboxQuery{IDColumn: "id", IDs: c.ids})
			require.NoError(t, err)
			assert.ElementsMatch(t, c.want, rows)
			_, rows, err = readOutbox(f, OutboxQuery{IDColumn: "id", IDs: []string{}})
			require.NoError(t, err)
			assert.Equal(t, typ == "bytea", len(rows) > 0)
		})
	}
}

// Without a column to sort by, the transactions decide.
func TestReadOutboxAsWritten(t *testing.T) {
	t.Parallel()
	f := newFixture(t, pgtest.Shared(t))
	other := connect(t, f.config.DSN)
	tx, err := other.Begin(t.Context())
	require.NoError(t, err)
	for _, id := range []string{"9", "8"} {
		_, err = tx.Exec(t.Context(), "insert into outbox values ("+id+", 'first')")
		require.NoError(t, err)
	}
	f.exec("insert into outbox values (1, 'second')")
	require.NoError(t, tx.Commit(t.Context()))
	f.exec("insert into outbox values (0, 'third')")
	_, rows, err := readOutbox(f, OutboxQuery{AsWritten: true})
	require.NoError(t, err)
	assert.Equal(t, []string{"9|first", "8|first", "1|second", "0|third"}, rows)
}

func TestReadOutboxByTime(t *testing.T) {
	t.Parallel()
	const noon = 1_700_049_600 // in seconds since the Unix epoch
	at := time.Unix(noon, 0)
	for typ, value := range map[string]string{
		"timestamptz":   "to_timestamp(%d)",
		"timestamp(3)":  "to_timestamp(%d) at time zone 'UTC'",
		"bigint":        "%d * 1000::bigint",
		"later":         "to_timestamp(%d)",
		"local":         "to_timestamp(%d) at time zone 'UTC'",
		"millis":        "%d * 1000::bigint",
		"numeric(20,3)": "%d * 1000::numeric",
		"varchar(40)":   `to_char(to_timestamp(%d) at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')`,
		"text":          `to_char(to_timestamp(%d) at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS')`, // without a zone
		"integer":       "%d",                                                                    // of seconds
	} {
		t.Run(typ, func(t *testing.T) {
			t.Parallel()
			f := newEmptyFixture(t, pgtest.Shared(t))
			f.exec(timeDomains...)
			f.exec(`create table outbox (id int, "created at" ` + typ + `)`)
			for i := range 4 {
				f.exec(fmt.Sprintf("insert into outbox values (%d, "+value+")", i, noon+i))
			}
			f.exec("insert into outbox values (9, null)")
			f.config.Outboxes[0].Columns = []string{"id"}
			if typ == "integer" {
				f.config.Outboxes[0].TimeUnit = microseconds
			}
			row := func(i int) string { return fmt.Sprintf("%d|%d", i, (noon+i)*1_000_000) }
			_, rows, err := readOutbox(f, OutboxQuery{TimeColumn: "created at"})
			require.NoError(t, err)
			assert.Equal(t, []string{row(0), row(1), row(2), row(3), "9|0"}, rows)
			_, rows, err = readOutbox(f, OutboxQuery{TimeColumn: "created at", From: at.Add(time.Second), To: at.Add(3 * time.Second)})
			require.NoError(t, err)
			assert.Equal(t, []string{row(1), row(2)}, rows)
			_, rows, err = readOutbox(
				f,
				OutboxQuery{TimeColumn: "created at", From: at.Add(time.Second), To: at.Add(3 * time.Second), Undated: true},
			)
			require.NoError(t, err)
			assert.Equal(t, []string{row(1), row(2), "9|0"}, rows)
		})
	}
}

func TestReadOutboxRefusals(t *testing.T) { //nolint:tparallel // its parts share a connection
	t.Parallel()
	f := newFixture(t, pgtest.Shared(t))
	f.insert(1, 10)
	f.exec("insert into outbox values (11, '2026-02-30 00:00')")
	for name, c := range map[string]struct {
		change func(*Config)
		query  OutboxQuery
		says   string
		class  failure.Class
	}{
		"no table": {
			func(c *Config) { c.Outboxes[0].Table = "public.missing" }, OutboxQuery{}, "public.missing does not exist", failure.Refused,
		},
		"no column": {
			func(c *Config) { c.Outboxes[0].Columns = []string{"none"} }, OutboxQuery{}, "correct outbox.columns", failure.Misconfigured,
		},
		"no time column": {nil, OutboxQuery{TimeColumn: "none"}, `has no column "none": it has id, payload`, failure.Misconfigured},
		"no time in it":  {nil, OutboxQuery{TimeColumn: "payload"}, "a row has text that is no time in the column", failure.Misconfigured},
		"a number":       {nil, OutboxQuery{TimeColumn: "id"}, `column "id" of table public.outbox is integer`, failure.Misconfigured},
		"an odd name":    {nil, OutboxQuery{Columns: []string{`"; drop table outbox`}}, "correct outbox.columns", failure.Misconfigured},
	} {
		t.Run(name, func(t *testing.T) {
			g := *f
			g.config.Outboxes = slices.Clone(g.config.Outboxes)
			if c.change != nil {
				c.change(&g.config)
			}
			_, _, err := readOutbox(&g, c.query)
			require.Error(t, err)
			assert.Contains(t, failure.Describe(err), c.says)
			assert.Equal(t, c.class, failure.ClassOf(err))
		})
	}
	t.Run("a visitor's error", func(t *testing.T) {
		stop := errors.New("stop")
		seen := 0
		query := OutboxQuery{Outbox: f.config.Outboxes[0]}
		err := f.control().ReadOutbox(t.Context(), query, func(OutboxSnapshot) error { return nil }, func(OutboxRow) error {
			seen++
			return stop
		})
		require.ErrorIs(t, err, stop)
		assert.Equal(t, 1, seen)
	})
}

func TestReadOutboxPartitioned(t *testing.T) {
	t.Parallel()
	f := newEmptyFixture(t, pgtest.Shared(t))
	f.exec(
		"create table outbox (id int, payload text) partition by range (id)",
		"create table low partition of outbox for values from (0) to (10)",
		"create table high partition of outbox for values from (10) to (100)",
		"insert into outbox select n, n from generate_series(1, 50) n",
		"analyze",
	)
	snapshot, rows, err := readOutbox(f, OutboxQuery{})
	require.NoError(t, err)
	assert.Len(t, rows, 50)
	assert.GreaterOrEqual(t, snapshot.Rows, int64(50))
}

// A slot that is in use can be inspected as well, and stays unchanged.
func TestPeekWaiting(t *testing.T) {
	t.Parallel()
	f := newFixture(t, pgtest.Shared(t))
	f.insert(1, 10)
	stream := f.open()
	control := f.control()
	server, err := control.Identify(t.Context())
	require.NoError(t, err)
	for range 2 {
		inserts := 0
		require.NoError(t, control.PeekWaiting(t.Context(), server, func(_ LSN, data []byte) error {
			if data[0] == 'I' {
				inserts++
			}
			return nil
		}))
		assert.Equal(t, 10, inserts)
		assert.True(t, f.slot().Active)
		assert.Equal(t, 1, query[int](f, "select count(*)::int from pg_replication_slots where database = current_database()"))
	}
	stream.Close()
}
