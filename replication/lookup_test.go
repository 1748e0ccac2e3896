package replication

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/internal/pgtest"
)

// lookUp looks for rows of the table outbox.
func lookUp(f *fixture, l Lookup, columns ...string) (Found, error) {
	f.t.Helper()
	control := f.control()
	table, err := control.DescribeTable(f.t.Context(), Outbox{Table: "public.outbox", Columns: columns})
	require.NoError(f.t, err)
	if l.Most == 0 {
		l.Most = 10
	}
	if l.Timeout == 0 {
		l.Timeout = patience
	}
	return control.Lookup(f.t.Context(), table, l)
}

// texts are the values of the rows; NULL is a minus.
func (f Found) texts() (rows []string) {
	for _, r := range f.Rows {
		var values []string
		for _, c := range r.Columns {
			if c.Text == nil {
				c.Text = []byte("-")
			}
			values = append(values, string(c.Text))
		}
		rows = append(rows, strings.Join(values, "|"))
	}
	return rows
}

// An ID is found as events have it, whatever the type of its column.
func TestLookup(t *testing.T) {
	t.Parallel()
	const (
		upper = "1F8C0C95-814C-46FF-A761-BE1075D4B2DA"
		lower = "1f8c0c95-814c-46ff-a761-be1075d4b2da"
	)
	const odd = `a "b" '\ {1,2} é`
	for typ, c := range map[string]struct{ value, asked, canonical string }{
		"uuid":              {"'" + lower + "'", upper, lower},
		"text":              {quoteLiteral(odd), odd, odd},
		"character varying": {quoteLiteral(odd), odd, odd},
		"char(5)":           {"'ab'", "ab", "ab"},
		"bigint":            {"4711", "4711", "4711"},
		"smallint":          {"-7", "-7", "-7"},
		"numeric":           {"12345678901234567890", "12345678901234567890", "12345678901234567890"},
		"bytea":             {`'\x00ff'`, "AP8=", "AP8="},
		"inet":              {"'10.0.0.1'", "10.0.0.1/32", "10.0.0.1/32"},
	} {
		t.Run(typ, func(t *testing.T) {
			t.Parallel()
			f := newEmptyFixture(t, pgtest.Shared(t))
			f.exec("CREATE TABLE outbox (id "+typ+" PRIMARY KEY, payload text)", "INSERT INTO outbox VALUES ("+c.value+", NULL)")
			found, err := lookUp(f, Lookup{Reference: "id", Value: c.asked}, "payload")
			require.NoError(t, err)
			require.Equal(t, []string{"-"}, found.texts())
			assert.Equal(t, c.canonical, found.Value)
			assert.True(t, found.Indexed)
			assert.False(t, found.More)
			assert.Zero(t, found.Rows[0].Written, "track_commit_timestamp is off")
		})
	}
}

func TestLookupOfOtherTypes(t *testing.T) {
	t.Parallel()
	for typ, value := range map[string]string{
		"uuid": "4711", "bigint": "o1", "integer": "99999999999999999999", "smallint": "1.5",
		"numeric": "x", "bytea": "not base64!", "text": "a\x00b",
	} {
		f := newEmptyFixture(t, pgtest.Shared(t))
		f.exec("CREATE TABLE outbox (id " + typ + ", payload text)")
		_, err := lookUp(f, Lookup{Reference: "id", Value: value}, "payload")
		require.ErrorIs(t, err, ErrOtherType, typ)
	}
}

// Values inside JSON are found, and no text that is none is quoted.
func TestLookupInJSON(t *testing.T) {
	t.Parallel()
	for _, typ := range []string{"json", "jsonb", "text", "bytea"} {
		f := newEmptyFixture(t, pgtest.Shared(t))
		f.exec("CREATE TABLE outbox (n int, headers "+typ+")",
			`INSERT INTO outbox VALUES (1, '{"a/b": {"id": "x y"}}'), (2, '{"a/b": {"id": 42}}')`)
		for value, want := range map[string]string{"x y": "1", "42": "2"} {
			found, err := lookUp(f, Lookup{Reference: "headers#/a~1b/id", Value: value}, "n")
			require.NoError(t, err, typ)
			assert.Equal(t, []string{want}, found.texts(), typ)
			assert.False(t, found.Indexed)
		}
	}
	f := newEmptyFixture(t, pgtest.Shared(t))
	f.exec("CREATE TABLE outbox (n int, headers text)", "INSERT INTO outbox VALUES (1, 'secret-canary')")
	_, err := lookUp(f, Lookup{Reference: "headers#/id", Value: "x"}, "n")
	require.ErrorContains(t, err, `column "headers" holds text that is no JSON`)
	assert.NotContains(t, err.Error(), "secret-canary")
}

// The newest rows come first, and there may be more.
func TestLookupOfManyRows(t *testing.T) {
	t.Parallel()
	f := newEmptyFixture(t, pgtest.New(t, pgtest.Options{Settings: map[string]string{"track_commit_timestamp": "on"}}))
	f.exec("CREATE TABLE outbox (id int, key text) PARTITION BY RANGE (id)", "CREATE INDEX ON outbox (key)",
		"CREATE TABLE outbox_1 PARTITION OF outbox FOR VALUES FROM (0) TO (3)",
		"CREATE TABLE outbox_2 PARTITION OF outbox FOR VALUES FROM (3) TO (9)")
	for i := range 5 {
		f.exec(fmt.Sprintf("INSERT INTO outbox VALUES (%d, 'o1')", i))
	}
	f.exec("INSERT INTO outbox VALUES (8, 'o2')")
	found, err := lookUp(f, Lookup{Reference: "key", Value: "o1", Most: 3}, "id")
	require.NoError(t, err)
	assert.Equal(t, []string{"4", "3", "2"}, found.texts())
	assert.True(t, found.More)
	assert.True(t, found.Indexed)
	assert.WithinDuration(t, time.Now(), found.Rows[0].Written, time.Minute)
	f.exec("DROP INDEX outbox_key_idx", "CREATE INDEX ON outbox (key) WHERE id > 3")
	found, err = lookUp(f, Lookup{Reference: "key", Value: "o2"}, "id")
	require.NoError(t, err)
	assert.Equal(t, []string{"8"}, found.texts())
	assert.False(t, found.Indexed, "such an index does not hold every row")
}

// A search without an index ends in time, and the connection lives on. It changes
// nothing, and says what is not allowed.
func TestLookupThatIsGivenUp(t *testing.T) {
	t.Parallel()
	f := newEmptyFixture(t, pgtest.Shared(t))
	f.exec("CREATE TABLE outbox AS SELECT n AS id, repeat('x', 200) AS payload FROM generate_series(1, 200000) n")
	control := f.control()
	table, err := control.DescribeTable(t.Context(), Outbox{Table: "public.outbox", Columns: []string{"id"}})
	require.NoError(t, err)
	found, err := control.Lookup(t.Context(), table, Lookup{Reference: "id", Value: "200000", Most: 1, Timeout: time.Millisecond})
	require.ErrorIs(t, err, ErrUnfinished)
	assert.False(t, found.Indexed)
	found, err = control.Lookup(t.Context(), table, Lookup{Reference: "id", Value: "200000", Most: 1, Timeout: patience})
	require.NoError(t, err)
	assert.Equal(t, []string{"200000"}, found.texts())
	require.NoError(t, control.Ping(t.Context()))

	_, err = control.Lookup(t.Context(), table, Lookup{Reference: "missing", Value: "1", Most: 1, Timeout: patience})
	assert.Equal(t, failure.Misconfigured, failure.ClassOf(err))
	require.ErrorContains(t, err, `no column "missing"`)
}

func TestLookupInAnotherEncoding(t *testing.T) {
	t.Parallel()
	f := newEmptyFixture(t, pgtest.New(t, pgtest.Options{Encoding: "LATIN1"}))
	f.exec("CREATE TABLE outbox (id text, payload text)", "INSERT INTO outbox VALUES (chr(233), chr(252))")
	found, err := lookUp(f, Lookup{Reference: "id", Value: "é"}, "payload")
	require.NoError(t, err)
	assert.Equal(t, []string{"ü"}, found.texts())
	assert.Equal(t, "é", found.Value)
	_, err = lookUp(f, Lookup{Reference: "id", Value: "€"}, "payload")
	require.ErrorIs(t, err, ErrOtherType, "the database cannot hold it")
}
