package checkpoint_test

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/checkpoint"
	"github.com/outboxstream/streamer/internal/failure"
)

// TestDecodeDamage flips every bit and truncates at every byte: no damage may
// be read as another record.
func TestDecodeDamage(t *testing.T) {
	t.Parallel()
	whole := []byte(encoded(t, record(0x16B3748)))
	for length := range whole {
		_, err := checkpoint.Decode(whole[:length], ours, "here")
		require.ErrorIs(t, err, checkpoint.ErrTorn, "first %d bytes", length)
	}
	refused := 0
	for bit := range 8 * len(whole) {
		damaged := append([]byte{}, whole...)
		damaged[bit/8] ^= 1 << (bit % 8)
		got, err := checkpoint.Decode(damaged, ours, "here")
		if err != nil {
			refused++
			continue
		}
		// The names in the envelope are case-insensitive.
		require.Equal(t, record(0x16B3748), got, "bit %d", bit)
	}
	assert.Greater(t, refused, 8*len(whole)*95/100)
}

func FuzzDecode(f *testing.F) {
	whole, err := checkpoint.Encode(record(0x16B3748))
	require.NoError(f, err)
	f.Add(whole)
	f.Add(whole[:len(whole)/2])
	f.Add([]byte(`{"checkpoint":{"version":2},"crc32":""}`))
	f.Add([]byte(`{"checkpoint":null,"crc32":"00000000"}`))
	f.Add([]byte(sealed(`{"version":1,"system_identifier":"7300000000000000001","database":"shop","slot":"streamer","lsn":"0/1"}`)))
	f.Add([]byte(sealed(`{"version":1e400,"lsn":"FFFFFFFFFF/FFFFFFFFFF"}`)))
	f.Fuzz(func(t *testing.T, stored []byte) {
		// The second time with a correct checksum, which fuzzing would not find.
		for _, form := range [][]byte{stored, []byte(sealed(string(stored)))} {
			got, err := checkpoint.Decode(form, ours, "here")
			if err != nil {
				named := errors.Is(err, checkpoint.ErrTorn) || errors.Is(err, checkpoint.ErrForeign) || errors.Is(err, checkpoint.ErrFuture)
				require.True(t, named, "%v", err)
				require.Equal(t, failure.Refused, failure.ClassOf(err))
				require.ErrorContains(t, err, "here")
				continue
			}
			again, err := checkpoint.Encode(got)
			require.NoError(t, err)
			reread, err := checkpoint.Decode(again, ours, "here")
			require.NoError(t, err)
			require.True(t, got.SavedAt.Equal(reread.SavedAt))
			got.SavedAt = reread.SavedAt // the same, perhaps in another zone
			require.Equal(t, got, reread)
		}
	})
}
