package pipeline

import (
	"math/rand/v2"
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/internal/failure"
)

func id(n int) []byte { return []byte(strconv.Itoa(n)) }

// TestStreamedIDs reads a stream of more IDs than fit, as often as it takes, and
// asks about every row in the order of its rank.
func TestStreamedIDs(t *testing.T) {
	t.Parallel()
	const rows, most = 20_000, 1000
	random := rand.New(rand.NewPCG(1, 2))
	streamed := map[int]bool{}
	order := random.Perm(rows)[:rows/2] // of the commits
	for _, n := range order {
		streamed[n] = true
	}
	s := streamedIDs{most: most}
	after, passes := -1, 0
	read := func() {
		passes++
		s.clear()
		for i, n := range order {
			if n > after {
				require.NoError(t, s.add(id(n), int64(n/3)))
			}
			if i%700 == 0 {
				s.settle()
			}
			require.Less(t, len(s.main)+len(s.tail)+len(s.fresh), most)
		}
		s.settle()
	}
	read()
	for n := range rows {
		if !s.covers(int64(n / 3)) {
			read()
			require.True(t, s.covers(int64(n/3)))
		}
		require.Equal(t, streamed[n], s.has(id(n)), n)
		after = n
	}
	t.Logf("%d passes", passes)
	assert.Less(t, passes, 4*rows/2/most)
	assert.Greater(t, passes, rows/2/most-1)
}

func TestStreamedIDsOfOneRank(t *testing.T) {
	t.Parallel()
	s := streamedIDs{most: 100}
	assert.False(t, s.has(id(1)))
	var err error
	n := 0
	for ; err == nil && n < 1000; n++ {
		err = s.add(id(n), 5)
	}
	assert.Equal(t, failure.Refused, failure.ClassOf(err))
	assert.Equal(t, tiedStreamed*100, n)

	// A lower rank can be kept alone, and the others dropped.
	s = streamedIDs{most: 100}
	require.NoError(t, s.add(id(-1), 4))
	for n := range 1000 {
		require.NoError(t, s.add(id(n), 5))
	}
	s.settle()
	assert.True(t, s.has(id(-1)))
	assert.True(t, s.covers(4))
	assert.False(t, s.covers(5))
}
