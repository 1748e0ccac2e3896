package predecessor

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestRows(t *testing.T) {
	t.Parallel()
	type row struct {
		event, key uint64
		published  bool
	}
	random := rand.New(rand.NewPCG(1, 2))
	var all rows
	var plain []row
	for i := range 3*pieceRows + 5 {
		one := row{event: uint64(i)*7919%100_000 + 1, key: random.Uint64N(500)}
		all.add(one.event, one.key, uint16(i%3))
		plain = append(plain, one)
	}
	all.index()
	_, found := all.find(0)
	assert.False(t, found)
	assert.Zero(t, all.repeated())
	for i := range plain {
		if plain[i].published = random.IntN(4) > 0 && i < len(plain)-1000; plain[i].published {
			n, found := all.find(plain[i].event)
			require.True(t, found)
			require.EqualValues(t, i, n)
			require.False(t, all.isPublished(n))
			all.publish(n)
		}
	}
	published := map[uint64]bool{}
	var holes []uint32
	var count int64
	for i, one := range slices.Backward(plain) {
		if one.published {
			published[one.key] = true
			count++
		} else if published[one.key] {
			holes = append([]uint32{uint32(i)}, holes...)
		}
		require.Equal(t, one.published, all.isPublished(uint32(i)))
		require.EqualValues(t, i%3, all.place(uint32(i)))
	}
	require.NotEmpty(t, holes)
	assert.Equal(t, holes, all.holes())
	assert.Equal(t, count, all.published())
	_, found = all.find(plain[7].event)
	require.True(t, found, "the index is there again")

	var twice rows
	twice.add(1, 1, 0)
	twice.add(2, 1, 0)
	twice.add(1, 2, 0)
	twice.index()
	assert.Equal(t, 1, twice.repeated())
}
