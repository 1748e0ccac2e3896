package verify

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// documentRow is what a row with this document should become; everything is
// inside the document.
func documentRow(t *testing.T, typ uint32, document string) *Row {
	t.Helper()
	r := Rules{
		Columns: []string{"doc"}, Types: []uint32{typ},
		Attributes: map[string]string{
			"id": "doc#/id", "aggregate_id": "doc#/h/key", "type": "doc#/h/types/0", "payload": "doc#/data", "time": "doc#/at",
		},
		Extensions: map[string]string{"tenantid": "doc#/h/tenant"}, Defaults: map[string]string{"aggregate_type": "order", "type": "thing"},
		TimeUnit: 1_000_000, Topic: "{aggregate_type}.{tenantid}", Key: "{aggregate_id}", Type: "{type}", Source: "/x", NullPayload: "json_null",
	}
	e, err := NewExpectation(r)
	require.NoError(t, err)
	row, err := e.Row([][]byte{[]byte(document)})
	require.NoError(t, err)
	return row
}

func TestExpectationInsideDocuments(t *testing.T) {
	t.Parallel()
	const document = `{"id": "e\u002d1", "h": {"key": 42, "types": ["A", "B"], "tenant": true}, "data": {"n": 1.50}, "at": 1795271400.5}`
	payload := HashPayload([]byte(`{"n": 1.50}`), true)
	for _, typ := range []uint32{typeJSON, typeJSONB, typeText} {
		assert.Equal(t, &Row{
			ID: []byte("e-1"), Topic: []byte("order.true"), Key: []byte("42"), Type: []byte("A"), Subject: []byte("42"), Source: []byte("/x"),
			Time: []byte("2026-11-21T14:30:00.5Z"), ContentType: []byte("application/json"), Payload: &payload, HasAttributes: true,
			Attributes: []Attribute{{"tenantid", []byte("true")}},
		}, documentRow(t, typ, document))
	}
}

func TestExpectationOfWhatIsMissing(t *testing.T) {
	t.Parallel()
	null := HashPayload([]byte("null"), true)
	r := documentRow(t, typeJSON, `{"id": "1", "h": {"key": "k", "types": [], "tenant": null}}`)
	assert.Equal(t, "thing", string(r.Type), "the constant")
	assert.Equal(t, &null, r.Payload)
	assert.Nil(t, r.Time)
	assert.Empty(t, r.Attributes)
}

// Of a row that cannot be published only the ID is known.
func TestExpectationOfBrokenDocuments(t *testing.T) {
	t.Parallel()
	for name, document := range map[string]string{
		"an object": `{"id": "1", "h": {"key": {}}}`, "half a pair": `{"id": "1", "h": {"key": "\ud83d"}}`,
		"no time":     `{"id": "1", "at": "soon"}`,
		"an exponent": `{"id": "1", "at": 1e9}`,
	} {
		assert.Equal(t, &Row{ID: []byte("1")}, documentRow(t, typeJSON, document), name)
	}
	assert.Equal(t, &Row{}, documentRow(t, typeText, `no JSON`))
	replacement := documentRow(t, typeJSON, `{"id": "1", "h": {"key": "\ufffd�"}}`)
	assert.Equal(t, "��", string(replacement.Key), "a replacement character that is in the row")
}

func TestTimesOfRows(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		typ        uint32
		unit       int64
		text, want string
	}{
		{typeInt8, 0, "1795271400123", "2026-11-21T14:30:00.123Z"},
		{typeInt8, 1_000_000, "1795271400", "2026-11-21T14:30:00Z"},
		{typeInt8, 1, "1795271400123456", "2026-11-21T14:30:00.123456Z"},
		{1700, 1_000_000, "1795271400.1234567", "2026-11-21T14:30:00.123456Z"},
		{1700, 1_000_000, "-0.5", "1969-12-31T23:59:59.5Z"},
		{typeText, 0, "2026-11-21T15:30:00.1234567+01:00", "2026-11-21T14:30:00.123456Z"},
		{typeVarchar, 0, "2026-11-21 14:30:00", "2026-11-21T14:30:00Z"},
		{typeText, 0, "2026-11-21T15:30:00+0100", "2026-11-21T14:30:00Z"},
	} {
		r := Rules{
			Columns: []string{"id", "at"}, Types: []uint32{typeText, c.typ}, TimeUnit: c.unit,
			Attributes: map[string]string{"id": "id", "time": "at"},
		}
		e, err := NewExpectation(r)
		require.NoError(t, err)
		row, err := e.Row([][]byte{[]byte("1"), []byte(c.text)})
		require.NoError(t, err)
		assert.Equal(t, c.want, string(row.Time), c.text)
	}
}
