package consume

import (
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgtype"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// What is written as an array is what pgx reads, which reads what PostgreSQL does.
func FuzzTexts(f *testing.F) {
	f.Add("a", "b")
	f.Add("", "NULL")
	f.Add(`"\`, "{,}")
	f.Add("\x00null", "x y\n\t")
	f.Fuzz(func(t *testing.T, first, second string) {
		for _, text := range []string{first, second} {
			if strings.ContainsRune(text, 0) && text != null {
				t.Skip("PostgreSQL has no such text")
			}
		}
		var got []*string
		types := pgtype.NewMap()
		require.NoError(t, types.Scan(pgtype.TextArrayOID, pgtype.TextFormatCode, []byte(texts([]string{first, second})), &got))
		want := []*string{&first, &second}
		for n, text := range want {
			if *text == null {
				want[n] = nil
			}
		}
		assert.Equal(t, want, got)
	})
}

func TestArrays(t *testing.T) {
	t.Parallel()
	assert.Equal(t, "{}", texts(nil))
	assert.Equal(t, "{}", integers(nil))
	assert.Equal(t, "{1,-2}", integers([]int32{1, -2}))
	assert.Equal(t, `{"\\x00ff","\\x",NULL}`, binaries([][]byte{{0, 255}, {}, nil}))
	assert.Nil(t, booleans("{}"))
	assert.Equal(t, []bool{true, false}, booleans("{t,f}"))
}

func TestHeadersOf(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 100)
	encoded := base64.StdEncoding.EncodeToString([]byte(long))
	text, err := json.Marshal([]*string{ptr("bg=="), ptr(encoded[:76] + "\n" + encoded[76:]), ptr("bg=="), nil})
	require.NoError(t, err)
	got, err := headersOf(string(text))
	require.NoError(t, err)
	assert.Equal(t, []Header{{"n", []byte(long)}, {"n", nil}}, got)
	for _, text := range []string{"", `["bg=="]`, `["?","bg=="]`, `["bg==","?"]`} {
		_, err := headersOf(text)
		assert.Error(t, err, text)
	}
}

func ptr(text string) *string { return &text }

func TestClean(t *testing.T) {
	t.Parallel()
	assert.Equal(t, "a?b?", clean("a\x00b\xff"))
}
