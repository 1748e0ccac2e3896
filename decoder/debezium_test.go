package decoder

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func decodeHeader(asDebezium bool, oid uint32, value any) (Header, error) {
	d, err := inTransaction(Mapping{Schema: "public", Table: "outbox", Headers: []string{"v"}, AsDebezium: asDebezium},
		relationMessage(1, "public", "outbox", testColumn{"v", oid}), insertMessage(1, value))
	return d.Event().Headers[0], err
}

// What Debezium 3.4.3 and 3.6.1 write of the same values, and what is written
// without them in mind.
func TestHeaders(t *testing.T) {
	t.Parallel()
	at := time.Date(2024, 1, 2, 1, 4, 5, 678_900_000, time.UTC)
	for name, c := range map[string]struct {
		oid          uint32
		value        any
		theirs, ours string
		bare         bool
	}{
		"text":              {oid: oidText, value: "größer", theirs: "größer", ours: "größer"},
		"control character": {oid: oidText, value: "a\x01\n", theirs: "a\x01\n", ours: "a\x01\n"},
		"empty":             {oid: oidText, value: "", theirs: "", ours: ""},
		"blank":             {oid: oidText, value: "  ", theirs: "  ", ours: "  "},
		"bpchar":            {oid: oidBpchar, value: "ab   ", theirs: "ab   ", ours: "ab   "},
		"uuid":              {oid: oidUUID, value: rowUUID, theirs: rowUUID, ours: rowUUID},
		"jsonb":             {oid: oidJSONB, value: []byte("\x01{}"), theirs: "{}", ours: "{}"},
		"int8":              {oid: oidInt8, value: bigInt(-1), theirs: "-1", ours: "-1", bare: true},
		"int4":              {oid: oidInt4, value: "7", theirs: "7", ours: "7", bare: true},
		"int2":              {oid: oidInt2, value: "7", theirs: "7", ours: "7", bare: true},
		"bool":              {oid: oidBool, value: "t", theirs: "true", ours: "true", bare: true},
		"timestamptz": {
			oid: oidTimestamptz, value: "2024-01-02 01:04:05.6789+00", theirs: "2024-01-02T01:04:05.678900Z", ours: "2024-01-02T01:04:05.6789Z",
		},
		"whole seconds": {
			oid: oidTimestamptz, value: "2024-01-02 03:04:00+00", theirs: "2024-01-02T03:04:00.000000Z", ours: "2024-01-02T03:04:00Z",
		},
		"timestamptz in binary": {
			oid: oidTimestamptz, value: binaryTime(at), theirs: "2024-01-02T01:04:05.678900Z", ours: "2024-01-02T01:04:05.6789Z",
		},
		"timestamp": {
			oid: oidTimestamp, value: "2024-01-02 03:04:05.6789", theirs: "1704164645678900", ours: "2024-01-02T03:04:05.6789Z", bare: true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := decodeHeader(true, c.oid, c.value)
			require.NoError(t, err)
			assert.Equal(t, Header{Value: []byte(c.theirs), Bare: c.bare}, got)
			got, err = decodeHeader(false, c.oid, c.value)
			require.NoError(t, err)
			assert.Equal(t, c.ours, string(got.Value))
			got, err = decodeHeader(true, c.oid, nil)
			require.NoError(t, err)
			assert.Nil(t, got.Value)
		})
	}
}

// A header whose value is not known exactly makes a row that cannot be
// published.
func TestHeadersThatAreRefused(t *testing.T) {
	t.Parallel()
	for value, oid := range map[string]uint32{"infinity": oidTimestamptz, "0044-03-15 00:00:00 BC": oidTimestamp, "\xff": oidText} {
		_, err := decodeHeader(true, oid, value)
		require.ErrorAs(t, err, new(*PoisonError), value)
	}
}

// Values follow those of the attributes and the extensions, and one column may
// serve several times.
func TestHeadersAfterTheOthers(t *testing.T) {
	t.Parallel()
	m, columns := simple("public", "outbox", "", map[string]string{"tenantid": "tenant"})
	m.Headers = []string{"id", "tenant", "type"}
	d, err := inTransaction(m, relationMessage(1, "public", "outbox", columns...),
		insertMessage(1, "1", "order", "o1", "placed", "{}", "acme"))
	require.NoError(t, err)
	var values []string
	for _, h := range d.Event().Headers {
		values = append(values, string(h.Value))
	}
	assert.Equal(t, []string{"1", "acme", "placed"}, values)
	assert.Len(t, d.Columns(), len(columns), "as a dead letter holds them")
	assert.Equal(t, []string{"aggregate_id", "aggregate_type", "id", "payload", "tenant", "type"}, m.ColumnNames())
	again, err := d.Restore(0, NamesOf("public", "outbox"), d.Event().Position, 1, d.Columns())
	require.NoError(t, err)
	assert.Equal(t, "acme", string(again.Headers[1].Value))
}
