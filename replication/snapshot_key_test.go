package replication

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/internal/pgtest"
)

func keys(values ...string) (all []Key) {
	for _, value := range values {
		all = append(all, Key{[]byte(value)})
	}
	return all
}

// TestOrder compares with the server's own order.
func TestOrder(t *testing.T) {
	t.Parallel()
	f := newEmptyFixture(t, pgtest.Shared(t))
	for typ, values := range map[string][]string{
		"bigint":   {"-9223372036854775808", "-10", "-9", "0", "9", "10", "9223372036854775807"},
		"smallint": {"-5", "3", "20"},
		"timestamp with time zone": {
			"-infinity", "4713-01-01 00:00:00+00 BC", "0044-03-15 12:00:00+00 BC", "0001-01-01 00:00:00+00", "1969-12-31 23:59:59.999999+00",
			"1970-01-01 00:00:00+00", "2026-11-30 17:28:30+00", "2026-11-30 17:28:30.1+00", "2026-11-30 17:28:30.123456+00",
			"10000-01-01 00:00:00+00", "200000-05-06 00:00:00+00", "infinity",
		},
		"timestamp without time zone": {"-infinity", "0044-03-15 12:00:00 BC", "2026-11-30 17:28:30", "2026-11-30 17:28:30.5", "infinity"},
		"date":                        {"-infinity", "0044-03-15 BC", "2026-11-30", "2026-12-01", "20000-01-01", "infinity"},
		"uuid": {
			"00000000-0000-0000-0000-000000000000", "0af76519-16cd-43dd-8448-eb211c80319c", "9af76519-16cd-43dd-8448-eb211c80319c",
			"ffffffff-0000-0000-0000-000000000000",
		},
		"text": {"", "A", "a", "a'b", "abcdefgh", "abcdefghi", "abcdefgz", "é"},
	} {
		o := Order{columns: []orderColumn{{name: "k", typ: typ, kind: orderKinds[typ], collate: typ == "text"}}}
		all := keys(values...)
		rows, err := f.conn.Query(t.Context(), "select k::text as shown from unnest($1::text[]::"+typ+"[]) k order by "+o.sql(""), values)
		require.NoError(t, err, typ)
		var sorted []string
		for rows.Next() {
			var text string
			require.NoError(t, rows.Scan(&text))
			sorted = append(sorted, text)
		}
		require.NoError(t, rows.Err())
		require.Equal(t, values, sorted, typ)
		for i, a := range all {
			require.NoError(t, o.Check(a), "%s %s", typ, a[0])
			for j, b := range all {
				want := 0
				if i < j {
					want = -1
				} else if i > j {
					want = 1
				}
				assert.Equal(t, want, o.Compare(a, b), "%s: %s and %s", typ, a[0], b[0])
				if i < j {
					assert.LessOrEqual(t, o.Rank(a), o.Rank(b), "%s: %s and %s", typ, a[0], b[0])
				}
			}
			text := string(o.Append(nil, a))
			back, err := o.Parse(text)
			require.NoError(t, err)
			assert.Equal(t, a, back)
			literal := query[bool](f, "select "+o.than("=", a)+" from (select '"+quoteLiteral(string(a[0]))[1:]+"::"+typ+" as k) t")
			assert.True(t, literal, "%s %s", typ, a[0])
		}
	}
}

func TestOrderRefusesKeys(t *testing.T) {
	t.Parallel()
	o := Order{columns: []orderColumn{{name: "k", typ: "bigint"}, {name: "t", typ: "date", kind: orderTime}}}
	for _, text := range []string{
		``, `{}`, `["1"]`, `["1","2","3"]`, `["x","2026-11-30"]`, `["1","yesterday"]`, `["1","2026-11"]`, `["1","2026-11-30 25:00"]`,
	} {
		_, err := o.Parse(text)
		assert.Error(t, err, text)
	}
}
