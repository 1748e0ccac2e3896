package verify

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A blank text is expected as a record without a value where the configuration
// says so, and bytes are never blank.
func TestExpectationOfBlankPayloads(t *testing.T) {
	t.Parallel()
	none := HashPayload(nil, false)
	for name, c := range map[string]struct {
		typ         uint32
		nullPayload string
		payload     []byte
		want        PayloadHash
	}{
		"NULL":       {typeText, tombstoneIfBlank, nil, none},
		"empty":      {typeText, tombstoneIfBlank, []byte{}, none},
		"blank":      {typeText, tombstoneIfBlank, []byte(" \t\x01\n"), none},
		"text":       {typeText, tombstoneIfBlank, []byte(" x "), HashPayload([]byte(" x "), true)},
		"no-break":   {typeText, tombstoneIfBlank, []byte("\u00a0"), HashPayload([]byte("\u00a0"), true)},
		"bytea":      {typeBytea, tombstoneIfBlank, []byte(`\x`), HashPayload([]byte{}, true)},
		"not asked":  {typeText, "tombstone", []byte(" "), HashPayload([]byte(" "), true)},
		"plain NULL": {typeText, "tombstone", nil, none},
	} {
		e, err := NewExpectation(Rules{
			Columns: []string{"id", "body"}, Types: []uint32{typeText, c.typ}, Attributes: map[string]string{"id": "id", "payload": "body"},
			Topic: "t", Key: "k", Type: "t", Source: "/x", NullPayload: c.nullPayload,
		})
		require.NoError(t, err)
		row, err := e.Row([][]byte{[]byte("1"), c.payload})
		require.NoError(t, err)
		assert.Equal(t, &c.want, row.Payload, name)
	}
}
