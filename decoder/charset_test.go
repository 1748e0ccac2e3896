package decoder

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/replication"
)

// Names and text values are converted, in either format, and a byte without a
// character is the fault of its row.
func TestCharset(t *testing.T) {
	t.Parallel()
	m := Mapping{
		Schema: "public", Table: "boîte", Charset: replication.NewCharset("WIN1252"),
		Columns: map[Attribute]string{ID: "clé", Payload: "p"}, Extensions: map[string]string{"x": "x"},
	}
	relation := relationMessage(
		1, "public", "bo\xeete",
		testColumn{"cl\xe9", oidText}, testColumn{"p", oidJSONB}, testColumn{"x", oidBytea}, testColumn{"unread", oidText},
	)
	for name, test := range map[string]struct {
		id, payload, want string
		poison            bool
	}{
		"plain":          {"1", `{"a": 1}`, `{"a": 1}`, false},
		"converted":      {"\x80\xe9", "\"\x93\xdf\x94\"", "\"“ß”\"", false},
		"no character":   {"1", "\"a\x81\"", "", true},
		"seems like two": {"1", "\"\xc3\xa9\"", "\"Ã©\"", false},
	} {
		d, err := inTransaction(m, relation)
		require.NoError(t, err)
		for format, message := range map[string][]byte{
			"text":   insertMessage(1, test.id, test.payload, `\x81`, "unread \x81"),
			"binary": insertMessage(1, []byte(test.id), []byte("\x01"+test.payload), []byte{0x81}, []byte("unread \x81")),
		} {
			checkCharset(t, d, message, test.id, test.want, test.poison, name+" in "+format)
		}
	}
}

func checkCharset(t *testing.T, d *Decoder, message []byte, id, want string, poisoned bool, name string) {
	t.Helper()
	kind, err := d.Decode(message)
	require.Equal(t, Row, kind, name)
	if poisoned {
		poison := &PoisonError{}
		require.ErrorAs(t, err, &poison)
		assert.Equal(t, `a byte stands for no character in WIN1252: column "p": value is not valid UTF-8: correct the application`, poison.Reason)
		assert.Equal(t, id, poison.EventID)
		return
	}
	require.NoError(t, err, name)
	assert.Equal(t, want, string(d.Event().Data), name)
	assert.Equal(t, []byte("gQ=="), d.Event().Extensions[0].Value, "bytes are no text")
}
