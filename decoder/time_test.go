package decoder

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const (
	second      = 1_000_000
	microsecond = 1
)

func TestUnitsAndTextOfTimes(t *testing.T) {
	t.Parallel()
	const bad = ""
	for name, c := range map[string]struct {
		oid   uint32
		unit  int64
		value any
		want  string
	}{
		"milliseconds by default":     {oidInt8, 0, "1795271400123", "2026-11-21T14:30:00.123Z"},
		"seconds":                     {oidInt8, second, "1795271400", "2026-11-21T14:30:00Z"},
		"seconds as integer":          {oidInt4, second, "1795271400", "2026-11-21T14:30:00Z"},
		"microseconds":                {oidInt8, microsecond, "1795271400123456", "2026-11-21T14:30:00.123456Z"},
		"binary seconds":              {oidInt8, second, bigInt(1795271400), "2026-11-21T14:30:00Z"},
		"seconds out of range":        {oidInt8, second, "9223372036854775807", bad},
		"numeric seconds":             {oidNumeric, second, "1795271400.1234567", "2026-11-21T14:30:00.123456Z"},
		"numeric milliseconds":        {oidNumeric, 0, "1795271400123.456", "2026-11-21T14:30:00.123456Z"},
		"numeric below zero":          {oidNumeric, second, "-0.5", "1969-12-31T23:59:59.5Z"},
		"numeric NaN":                 {oidNumeric, second, "NaN", bad},
		"numeric with an exponent":    {oidNumeric, second, "1e9", bad},
		"RFC 3339":                    {oidText, 0, "2026-11-21T14:30:00.123456Z", "2026-11-21T14:30:00.123456Z"},
		"RFC 3339 with an offset":     {oidVarchar, 0, "2026-11-21T15:30:00+01:00", "2026-11-21T14:30:00Z"},
		"seven digits, as in .NET":    {oidText, 0, "2026-11-21T14:30:00.1234567Z", "2026-11-21T14:30:00.123456Z"},
		"no zone is UTC":              {oidText, 0, "2026-11-21T14:30:00", "2026-11-21T14:30:00Z"},
		"a blank for the T":           {oidText, 0, "2026-11-21 14:30:00.5+00", "2026-11-21T14:30:00.5Z"},
		"an offset without a colon":   {oidText, 0, "2026-11-21T15:30:00+0100", "2026-11-21T14:30:00Z"},
		"text that is a number":       {oidText, 0, "1795271400123", bad},
		"text that is a date":         {oidText, 0, "2026-11-21", bad},
		"text that is no time":        {oidText, 0, "yesterday", bad},
		"text with an impossible day": {oidText, 0, "2026-02-30T00:00:00Z", bad},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d, err := inTransaction(
				Mapping{Schema: "public", Table: "outbox", Columns: map[Attribute]string{Time: "v"}, TimeUnit: c.unit},
				relationMessage(1, "public", "outbox", testColumn{"v", c.oid}), insertMessage(1, c.value),
			)
			if c.want == bad {
				_, ok := errors.AsType[*PoisonError](err)
				assert.True(t, ok, "%v", err)
				return
			}
			require.NoError(t, err)
			assert.Equal(t, c.want, string(AppendTime(nil, d.Event().Time)))
		})
	}
}

func TestTimeInsideJSON(t *testing.T) {
	t.Parallel()
	for document, want := range map[string]string{
		`{"at": "2026-11-21T14:30:00.5+01:00"}`: "2026-11-21T13:30:00.5Z",
		`{"at": 1795271400}`:                    "2026-11-21T14:30:00Z",
		`{"at": 1795271400.25}`:                 "2026-11-21T14:30:00.25Z",
		`{"at": null}`:                          "2024-05-06T07:08:09.123456Z", // of the commit
	} {
		d, err := inTransaction(
			Mapping{Schema: "public", Table: "outbox", Columns: map[Attribute]string{Time: "doc#/at"}, TimeUnit: second},
			relationMessage(1, "public", "outbox", testColumn{"doc", oidJSON}), insertMessage(1, document),
		)
		require.NoError(t, err, document)
		assert.Equal(t, want, string(AppendTime(nil, d.Event().Time)), document)
	}
}
