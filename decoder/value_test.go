package decoder

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// binaryTime is a timestamp as PostgreSQL sends it in binary format.
func binaryTime(t time.Time) []byte { return bigInt(t.UnixMicro() - epoch2000) }

func bigInt(n int64) []byte { return binary.BigEndian.AppendUint64(nil, uint64(n)) }

// decodeValue reads a row whose only column serves as attribute a.
func decodeValue(a Attribute, oid uint32, value any) (*Event, error) {
	d, err := inTransaction(Mapping{Schema: "public", Table: "outbox", Columns: map[Attribute]string{a: "v"}},
		relationMessage(1, "public", "outbox", testColumn{"v", oid}), insertMessage(1, value))
	return d.Event(), err
}

func decodeExtension(oid uint32, value any) (Extension, error) {
	d, err := inTransaction(Mapping{Schema: "public", Table: "outbox", Extensions: map[string]string{"x": "v"}},
		relationMessage(1, "public", "outbox", testColumn{"v", oid}), insertMessage(1, value))
	return d.Event().Extensions[0], err
}

// conversions are values in both formats and the result for every attribute.
// data is the payload where it differs, as PostgreSQL prints it: the format
// that the server used must not show.
var conversions = map[string]struct {
	oid    uint32
	text   string
	binary []byte // nil: unknown in binary format
	want   string
	data   string
	kind   DataKind
	x      ExtensionKind
}{
	"uuid": {
		oid:    oidUUID,
		text:   rowUUID,
		binary: []byte("\x01\x90\xc6\xd5\x3f\x2a\x7c\xde\x8f\x00\x01\x23\x45\x67\x89\xab"),
		want:   rowUUID,
	},
	"zero uuid": {
		oid:    oidUUID,
		text:   "00000000-0000-0000-0000-000000000000",
		binary: make([]byte, 16),
		want:   "00000000-0000-0000-0000-000000000000",
	},
	"text":    {oid: oidText, text: "größer 😀", binary: []byte("größer 😀"), want: "größer 😀"},
	"varchar": {oid: oidVarchar, text: "v", binary: []byte("v"), want: "v"},
	"bpchar":  {oid: oidBpchar, text: "ab   ", binary: []byte("ab   "), want: "ab   "},
	"name":    {oid: oidName, text: "n", binary: []byte("n"), want: "n"},
	"char":    {oid: oidChar, text: "c", binary: []byte("c"), want: "c"},
	"json": {
		oid:    oidJSON,
		text:   `{"b":1, "a":1.10,"b":2}`,
		binary: []byte(`{"b":1, "a":1.10,"b":2}`),
		want:   `{"b":1, "a":1.10,"b":2}`,
		kind:   JSON,
	},
	"jsonb":      {oid: oidJSONB, text: `{"a": 1.10}`, binary: []byte("\x01" + `{"a": 1.10}`), want: `{"a": 1.10}`, kind: JSON},
	"jsonb null": {oid: oidJSONB, text: `null`, binary: []byte("\x01null"), want: `null`, kind: JSON},
	"bytea":      {oid: oidBytea, text: `\x00ff41`, binary: []byte("\x00\xffA"), want: "AP9B", data: "\x00\xffA", kind: Bytes},
	"bytea, upper case": {
		oid:    oidBytea,
		text:   `\xDEADBEEF`,
		binary: []byte("\xde\xad\xbe\xef"),
		want:   "3q2+7w==",
		data:   "\xde\xad\xbe\xef",
		kind:   Bytes,
	},
	"true":          {oid: oidBool, text: "t", binary: []byte{1}, want: "true", data: "t", x: Boolean},
	"false":         {oid: oidBool, text: "f", binary: []byte{0}, want: "false", data: "f", x: Boolean},
	"int2":          {oid: oidInt2, text: "-32768", binary: []byte("\x80\x00"), want: "-32768", x: Integer},
	"int4":          {oid: oidInt4, text: "2147483647", binary: []byte("\x7f\xff\xff\xff"), want: "2147483647", x: Integer},
	"negative int4": {oid: oidInt4, text: "-1", binary: []byte("\xff\xff\xff\xff"), want: "-1", x: Integer},
	"int8":          {oid: oidInt8, text: "-9223372036854775808", binary: bigInt(math.MinInt64), want: "-9223372036854775808"},
	"timestamptz": {
		oid: oidTimestamptz, text: "2024-01-02 03:04:05.678901+00", data: "2024-01-02 03:04:05.678901+00", want: "2024-01-02T03:04:05.678901Z",
		binary: binaryTime(time.Date(2024, 1, 2, 3, 4, 5, 678901000, time.UTC)),
	},
	"timestamp": {
		oid: oidTimestamp, text: "1969-12-31 23:59:59.5", data: "1969-12-31 23:59:59.5", want: "1969-12-31T23:59:59.5Z",
		binary: binaryTime(time.Date(1969, 12, 31, 23, 59, 59, 500000000, time.UTC)),
	},
	"whole second": {
		oid:    oidTimestamptz,
		text:   "2000-01-01 00:00:00+00",
		data:   "2000-01-01 00:00:00+00",
		binary: bigInt(0),
		want:   "2000-01-01T00:00:00Z",
	},
	"first time": {
		oid:    oidTimestamp,
		text:   "0001-01-01 00:00:00",
		data:   "0001-01-01 00:00:00",
		binary: binaryTime(time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC)),
		want:   "0001-01-01T00:00:00Z",
	},
	"last time": {
		oid: oidTimestamptz, text: "9999-12-31 23:59:59.999999+00", data: "9999-12-31 23:59:59.999999+00", want: "9999-12-31T23:59:59.999999Z",
		binary: binaryTime(time.Date(9999, 12, 31, 23, 59, 59, 999999000, time.UTC)),
	},
	"numeric": {oid: oidNumeric, text: "1.50", want: "1.50"},
	"NaN":     {oid: oidNumeric, text: "NaN", want: "NaN"},
	"float8":  {oid: oidFloat8, text: "0.1", want: "0.1"},
	"date":    {oid: oidDate, text: "2024-01-02", want: "2024-01-02"},
	"array":   {oid: 1009, text: `{a,"b c"}`, want: `{a,"b c"}`},
	"enum":    {oid: 20000, text: "shipped", want: "shipped"},
}

func TestConversions(t *testing.T) {
	t.Parallel()
	for name, test := range conversions {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if test.data == "" {
				test.data = test.want
			}
			for _, value := range []any{test.text, test.binary} {
				if b, ok := value.([]byte); ok && b == nil {
					_, err := decodeValue(Subject, test.oid, []byte("\x00\x01"))
					require.ErrorContains(t, err, "postgres.binary: false")
					continue
				}
				e, err := decodeValue(Subject, test.oid, value)
				require.NoErrorf(t, err, "%T", value)
				assert.Equalf(t, test.want, string(e.Attribute(Subject)), "attribute of %T", value)

				e, err = decodeValue(Payload, test.oid, value)
				require.NoErrorf(t, err, "%T", value)
				assert.Equalf(t, test.data, string(e.Data), "payload of %T", value)
				assert.Equal(t, test.kind, e.DataKind)
				assert.True(t, e.HasData)

				x, err := decodeExtension(test.oid, value)
				require.NoErrorf(t, err, "%T", value)
				assert.Equalf(t, Extension{"x", []byte(test.want), test.x}, x, "extension of %T", value)
			}
		})
	}
}

func TestBrokenValues(t *testing.T) {
	t.Parallel()
	const secret = "secret"
	for name, test := range map[string]struct {
		attribute Attribute
		oid       uint32
		value     any
		want      string
	}{
		"short uuid":            {Subject, oidUUID, []byte(secret), "length"},
		"long bool":             {Subject, oidBool, []byte{1, 1}, "length"},
		"empty text bool":       {Subject, oidBool, "", "length"},
		"three-byte integer":    {Subject, oidInt4, []byte{1, 2, 3}, "length"},
		"empty integer":         {Subject, oidInt4, []byte{}, "length"},
		"short time":            {Time, oidTimestamptz, []byte{1, 2, 3}, "length"},
		"empty jsonb":           {Payload, oidJSONB, []byte{}, "version"},
		"jsonb version 2":       {Payload, oidJSONB, []byte("\x02{}"), "version"},
		"jsonb as attribute":    {Subject, oidJSONB, []byte("\x02{}"), "version"},
		"bytea in escape style": {Payload, oidBytea, `\336\255`, "hex"},
		"odd bytea":             {Payload, oidBytea, `\xabc`, "hex"},
		"bytea of other digits": {Subject, oidBytea, `\x` + secret, "hex"},
		"empty text bytea":      {Payload, oidBytea, "", "hex"},
		"numeric in binary":     {Payload, oidNumeric, []byte(secret), "postgres.binary: false"},
		"text as time":          {Time, oidText, secret, "RFC 3339"},
		"date as time":          {Time, oidDate, "2024-01-02", "timestamptz"},
		"words as bigint time":  {Time, oidInt8, secret, ""},
		"short bigint time":     {Time, oidInt8, []byte(secret), "length"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := decodeValue(test.attribute, test.oid, test.value)
			poison, ok := errors.AsType[*PoisonError](err)
			require.True(t, ok, "%v", err)
			assert.Contains(t, poison.Reason, test.want)
			assert.Contains(t, poison.Reason, `column "v"`)
			assert.NotContains(t, err.Error(), secret, "row data")
		})
	}
}

func TestTimes(t *testing.T) {
	t.Parallel()
	const bad = ""
	for name, test := range map[string]struct {
		oid   uint32
		value any
		want  string // RFC 3339, or empty if it cannot be expressed
	}{
		"infinity":                   {oidTimestamptz, "infinity", bad},
		"minus infinity":             {oidTimestamptz, "-infinity", bad},
		"binary infinity":            {oidTimestamptz, bigInt(math.MaxInt64), bad},
		"binary minus infinity":      {oidTimestamp, bigInt(math.MinInt64), bad},
		"the end of PostgreSQL":      {oidTimestamptz, bigInt(9223371331200000000 - 1), bad},
		"before Christ":              {oidTimestamptz, "0044-03-15 12:00:00+00 BC", bad},
		"timestamp before Christ":    {oidTimestamp, "0044-03-15 12:00:00 BC", bad},
		"binary, before Christ":      {oidTimestamptz, binaryTime(time.Date(0, 12, 31, 23, 59, 59, 999999000, time.UTC)), bad},
		"year 10000":                 {oidTimestamptz, "10000-01-01 00:00:00+00", bad},
		"binary year 10000":          {oidTimestamptz, binaryTime(time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)), bad},
		"not in UTC":                 {oidTimestamptz, "2024-01-02 03:04:05+01", bad},
		"half an hour off UTC":       {oidTimestamptz, "2024-01-02 03:04:05+00:30", bad},
		"west":                       {oidTimestamptz, "2024-01-02 03:04:05-05", bad},
		"German style":               {oidTimestamptz, "02.01.2024 03:04:05.678901 CET", bad},
		"SQL style":                  {oidTimestamptz, "01/02/2024 03:04:05.678901 EST", bad},
		"Postgres style":             {oidTimestamptz, "Tue Jan 02 03:04:05.678901 2024 EST", bad},
		"empty":                      {oidTimestamptz, "", bad},
		"letters for digits":         {oidTimestamp, "2o24-01-02 03:04:05", bad},
		"signs for digits":           {oidTimestamp, "-024-01-02 03:04:05", bad},
		"more after it":              {oidTimestamp, "2024-01-02 03:04:05.1x", bad},
		"bigint of milliseconds":     {oidInt8, "1704164645678", "2024-01-02T03:04:05.678Z"},
		"binary bigint":              {oidInt8, bigInt(1704164645678), "2024-01-02T03:04:05.678Z"},
		"the epoch":                  {oidInt8, "0", "1970-01-01T00:00:00Z"},
		"before the epoch":           {oidInt8, bigInt(-1), "1969-12-31T23:59:59.999Z"},
		"bigint of microseconds":     {oidInt8, "1704164645678901", bad},
		"bigint that overflows":      {oidInt8, bigInt(math.MaxInt64), bad},
		"bigint that underflows":     {oidInt8, bigInt(math.MinInt64), bad},
		"wraps into a valid time":    {oidInt8, bigInt(math.MaxInt64/1000*2 + 2), bad},
		"beyond bigint":              {oidInt8, "9223372036854775808", bad},
		"last millisecond":           {oidInt8, "253402300799999", "9999-12-31T23:59:59.999Z"},
		"first of year 10000":        {oidInt8, "253402300800000", bad},
		"leap day":                   {oidTimestamp, "2024-02-29 23:59:59.000001", "2024-02-29T23:59:59.000001Z"},
		"fraction with a lost digit": {oidTimestamptz, "2024-01-02 03:04:05.6789+00", "2024-01-02T03:04:05.6789Z"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e, err := decodeValue(Time, test.oid, test.value)
			if test.want == bad {
				_, ok := errors.AsType[*PoisonError](err)
				require.True(t, ok, "%v", err)
				return
			}
			require.NoError(t, err)
			assert.Equal(t, test.want, string(AppendTime(nil, e.Time)))
			parsed, err := time.Parse(time.RFC3339Nano, test.want)
			require.NoError(t, err)
			assert.Equal(t, parsed.UnixMicro(), e.Time)
		})
	}
}

func TestStrings(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		value string
		want  error // of an attribute
		data  error // of a text payload
	}{
		"ASCII":                       {value: " ~"},
		"two, three and four bytes":   {value: "é€😀"},
		"replacement character":       {value: "\ufffd"},
		"before the noncharacters":    {value: "\ufdcf\ufffd\U0010fffd"},
		"after the noncharacters":     {value: "\ufdf0\U00010000"},
		"after the C1 controls":       {value: "a\u00a0"},
		"newline":                     {value: "a\nb", want: errControl},
		"tab":                         {value: "\t", want: errControl},
		"zero":                        {value: "a\x00", want: errControl},
		"delete":                      {value: "\x7f", want: errControl},
		"delete after a letter":       {value: "é\x7f", want: errControl},
		"unit separator after letter": {value: "é\x1f", want: errControl},
		"first C1 control":            {value: "\u0080", want: errControl},
		"last C1 control":             {value: "\u009f", want: errControl},
		"U+FDD0":                      {value: "\ufdd0", want: errControl},
		"U+FDEF":                      {value: "x\ufdef", want: errControl},
		"U+FFFE":                      {value: "\ufffe", want: errControl},
		"U+FFFF":                      {value: "\uffff", want: errControl},
		"U+1FFFE":                     {value: "\U0001fffe", want: errControl},
		"U+10FFFF":                    {value: "\U0010ffff", want: errControl},
		"Latin-1":                     {value: "caf\xe9", want: errEncoding, data: errEncoding},
		"cut":                         {value: "\xe2\x82", want: errEncoding, data: errEncoding},
		"surrogate":                   {value: "\xed\xa0\x80", want: errEncoding, data: errEncoding},
		"overlong":                    {value: "\xc0\xaf", want: errEncoding, data: errEncoding},
		"above Unicode":               {value: "\xf4\x90\x80\x80", want: errEncoding, data: errEncoding},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, a := range []Attribute{ID, AggregateID, Type, Subject, Topic} {
				e, err := decodeValue(a, oidText, test.value)
				checkReason(t, test.want, err)
				if err == nil {
					assert.Equal(t, test.value, string(e.Attribute(a)))
				} else {
					poison, _ := errors.AsType[*PoisonError](err)
					assert.Empty(t, poison.EventID, "a value that is not a string cannot be named")
				}
			}
			_, err := decodeExtension(oidText, test.value)
			checkReason(t, test.want, err)
			e, err := decodeValue(Payload, oidText, test.value)
			checkReason(t, test.data, err)
			assert.Equal(t, test.value, string(e.Data))
			_, err = decodeValue(Payload, oidJSON, test.value)
			checkReason(t, test.data, err)
			e, err = decodeValue(Payload, oidBytea, []byte(test.value))
			require.NoError(t, err, "bytes are bytes")
			assert.Equal(t, test.value, string(e.Data))
		})
	}
}

func checkReason(t *testing.T, want, err error) {
	t.Helper()
	if want == nil {
		require.NoError(t, err)
		return
	}
	poison, ok := errors.AsType[*PoisonError](err)
	require.True(t, ok, "%v", err)
	assert.Contains(t, poison.Reason, want.Error())
	assert.Equal(t, "0/64+1", poison.Position.String())
}

func TestNullAndEmpty(t *testing.T) {
	t.Parallel()
	for _, a := range Attributes() {
		required := a <= Type
		e, err := decodeValue(a, oidText, nil)
		switch {
		case required:
			checkReason(t, errNull, err)
		default:
			require.NoError(t, err, a)
			assert.Nil(t, e.Attribute(a))
			assert.False(t, e.HasData)
			assert.Equal(t, commitTime.UnixMicro(), e.Time)
		}
		if a == Time {
			continue
		}
		for _, empty := range []any{"", []byte{}, "   ", "\u2003"} {
			if a == Payload && len(fmt.Sprint(empty)) > 2 {
				continue // a payload may be anything
			}
			e, err := decodeValue(a, oidText, empty)
			switch {
			case required:
				checkReason(t, errEmpty, err)
			default:
				require.NoError(t, err, a)
				assert.Nil(t, e.Attribute(a))
				assert.Equal(t, a == Payload, e.HasData)
				assert.Empty(t, e.Data)
			}
		}
	}
	for _, none := range []any{nil, "", []byte{}} {
		x, err := decodeExtension(oidText, none)
		require.NoError(t, err)
		assert.Equal(t, Extension{Name: "x"}, x)
	}
	for _, empty := range []any{`\x`, []byte{}} {
		e, err := decodeValue(Payload, oidBytea, empty)
		require.NoError(t, err)
		assert.True(t, e.HasData)
		assert.Empty(t, e.Data)
		e, err = decodeValue(Subject, oidBytea, empty)
		require.NoError(t, err)
		assert.Nil(t, e.Attribute(Subject))
	}
}

func TestPoisonedRow(t *testing.T) {
	t.Parallel()
	d, err := inTransaction(outboxMapping(), outboxRelation())
	require.NoError(t, err)
	row := func(replace map[string]any) error {
		_, err := d.Decode(outboxRow(replace))
		return err
	}
	err = row(map[string]any{"type": nil, "created_at": "infinity"})
	poison, ok := errors.AsType[*PoisonError](err)
	require.True(t, ok)
	assert.Equal(t, rowUUID, poison.EventID)
	assert.Equal(t, "0/64+1", poison.Position.String())
	assert.Contains(t, poison.Reason, `column "type"`, "the first problem counts")
	require.EqualError(t, err, `outbox row "`+rowUUID+`" at 0/64+1: `+poison.Reason)

	// A problem in an earlier column does not hide the ID.
	err = row(map[string]any{"id": nil})
	require.ErrorContains(t, err, "outbox row with unknown id at 0/64+2")
	err = row(map[string]any{"tenant": "a\nb"})
	require.ErrorContains(t, err, `column "tenant"`)
	err = row(map[string]any{"aggregateid": "a\nb"})
	require.ErrorContains(t, err, "control characters")
	require.NotContains(t, err.Error(), "a\nb")

	require.NoError(t, row(nil), "decoding goes on after it")
	assert.Equal(t, "0/64+5", d.Event().Position.String(), "a poisoned row keeps its place")
	assert.Equal(t, "42", string(d.Event().Attribute(AggregateID)))
	_, err = d.Decode(commitMessage(100, 130))
	require.NoError(t, err)
}

// Every view must survive later writes to the scratch space.
func TestViewsWhileScratchGrows(t *testing.T) {
	t.Parallel()
	m := Mapping{Schema: "public", Table: "outbox", Columns: map[Attribute]string{}, Extensions: map[string]string{}}
	var columns []testColumn
	values := map[string]any{}
	add := func(name string, oid uint32, value any) string {
		columns = append(columns, testColumn{name, oid})
		values[name] = value
		return name
	}
	at := time.Date(2024, 1, 2, 3, 4, 5, 678901000, time.UTC)
	big := strings.Repeat("0123456789abcdef", 4096)
	m.Columns[ID] = add("id", oidUUID, make([]byte, 16))
	m.Columns[AggregateID] = add("n", oidInt8, bigInt(-1))
	m.Columns[Payload] = add("payload", oidBytea, `\x`+big)
	m.Columns[Subject] = add("at", oidTimestamptz, binaryTime(at))
	m.Columns[Topic] = add("yes", oidBool, []byte{1})
	m.Extensions["a"] = add("raw", oidBytea, []byte("\xff\xfe\xfd"))
	m.Extensions["b"] = add("no", oidBool, "f")
	m.Extensions["c"] = add("hex", oidBytea, `\x`+big)
	m.Extensions["d"] = add("small", oidInt2, []byte{0, 9})

	row := make([]any, 0, len(columns))
	for _, c := range columns {
		row = append(row, values[c.name])
	}
	d, err := inTransaction(m, relationMessage(1, "public", "outbox", columns...))
	require.NoError(t, err)
	for range 3 { // with a scratch space of no, and of enough, capacity
		_, err = d.Decode(insertMessage(1, row...))
		require.NoError(t, err)
		e := d.Event()
		assert.Equal(t, "00000000-0000-0000-0000-000000000000", string(e.Attribute(ID)))
		assert.Equal(t, "-1", string(e.Attribute(AggregateID)))
		assert.Equal(t, "2024-01-02T03:04:05.678901Z", string(e.Attribute(Subject)))
		assert.Equal(t, "true", string(e.Attribute(Topic)))
		assert.Len(t, e.Data, len(big)/2)
		assert.Equal(t, "\x01\x23\x45\x67", string(e.Data[:4]))
		assert.Equal(t, "\xcd\xef", string(e.Data[len(e.Data)-2:]))
		assert.Equal(t, "//79", string(e.Extensions[0].Value))
		assert.Equal(t, "false", string(e.Extensions[1].Value))
		assert.True(t, strings.HasPrefix(string(e.Extensions[2].Value), "ASNFZ4mrze8B"))
		assert.Equal(t, "9", string(e.Extensions[3].Value))
		d.scratch = d.scratch[:0:0]
		_, err = d.Decode(insertMessage(1, row...))
		require.NoError(t, err)
	}
}
