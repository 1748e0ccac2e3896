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
	random := rand.New(rand.NewPCG(1, 2))
	var all rows
	var plain []waitingRow
	for i := range 3*piece + 5 {
		one := waitingRow{event: uint64(i)*7919%100_000 + 1, key: random.Uint64N(500), partition: int32(i % 3)}
		all.add(one)
		plain = append(plain, one)
	}
	all.index()
	assert.Nil(t, all.find(0))
	assert.Zero(t, all.repeated())
	for i := range plain {
		if plain[i].published = random.IntN(4) > 0 && i < len(plain)-1000; plain[i].published {
			found := all.find(plain[i].event)
			require.NotNil(t, found)
			found.published = true
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
	}
	require.NotEmpty(t, holes)
	assert.Equal(t, holes, all.holes())
	assert.Equal(t, count, all.published())
	require.NotNil(t, all.find(plain[7].event), "the index is there again")

	all.add(waitingRow{event: plain[3].event})
	all.index()
	assert.Equal(t, 1, all.repeated())
}
