package router

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A slice that grows in a memory keeps its bytes and shares them with no other
// slice. The memory kept stays below the limit.
func TestMemoryGrows(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	m := &memory{limit: 256 << 10}
	lent, want := make([][]byte, 20), make([][]byte, 20)
	for step := range 20_000 {
		i := random.IntN(len(lent))
		if random.IntN(8) == 0 {
			m.give(lent[i])
			lent[i], want[i] = nil, nil
			continue
		}
		piece := bytes.Repeat([]byte{byte(step)}, 1+random.IntN(3000))
		lent[i] = append(m.grow(lent[i], len(piece)), piece...)
		want[i] = append(want[i], piece...)
		require.LessOrEqual(t, m.kept, m.limit)
		if step%100 == 0 {
			for j := range lent {
				require.True(t, bytes.Equal(want[j], lent[j]))
			}
		}
	}
	kept := 0
	for _, list := range m.free {
		for _, b := range list {
			kept += cap(b)
		}
	}
	assert.Equal(t, kept, m.kept)
}

func TestMemoryTakesBackOnlyWhatItLends(t *testing.T) {
	t.Parallel()
	m := &memory{limit: 8 << 20}
	for _, foreign := range [][]byte{nil, {}, make([]byte, 100), make([]byte, 3000), make([]byte, 4<<20)} {
		m.give(foreign)
		assert.Zero(t, m.kept, "%d bytes", cap(foreign))
	}
	large := m.grow(nil, 3<<20)
	assert.GreaterOrEqual(t, cap(large), 3<<20)
	m.give(large)
	assert.Zero(t, m.kept)
	own := m.grow(nil, 2049)
	assert.Equal(t, 4096, cap(own))
	m.give(own)
	assert.Equal(t, 4096, m.kept)
	assert.Same(t, &own[:1][0], &m.grow(nil, 3000)[:1][0])
	assert.Zero(t, m.kept)
}

func TestMemoryAllocatesNothingAgain(t *testing.T) {
	m := &memory{limit: 1 << 20}
	piece := make([]byte, 700)
	fill := func() {
		var b []byte
		for range 100 {
			b = append(m.grow(b, len(piece)), piece...)
		}
		m.give(b)
	}
	fill()
	assert.Zero(t, testing.AllocsPerRun(20, fill))
}
