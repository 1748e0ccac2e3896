package consume

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
)

// Whatever the order in which events are done, exactly those are committed that
// have no gap before them.
func TestWindow(t *testing.T) {
	t.Parallel()
	for seed := range uint64(200) {
		random := rand.New(rand.NewPCG(seed, 0))
		var w window
		var entries []*entry
		count := 1 + random.IntN(30)
		for n := range count {
			i := &item{Record: &Record{Offset: int64(10 * n)}, home: -1, id: fmt.Sprint(n)}
			i.position = position{stream: "s", sequence: fmt.Sprintf("%03d", n), ordered: n%3 > 0}
			entries = append(entries, w.add(i))
		}
		done, passed := make([]bool, count), 0
		for _, n := range random.Perm(count) {
			entries[n].done, done[n] = true, true
			passed += w.advance(false)
			gap := slices.Index(append(slices.Clone(done), false), false)
			assert.Equal(t, gap, passed, "seed %d", seed)
			if random.IntN(4) > 0 {
				continue
			}
			// What could not be stored is stored the next time.
			failed := w.ready
			w.ready = folded{}
			w.ready.merge(failed)
			if gap > 0 {
				assert.Equal(t, int64(10*(gap-1)+1), w.ready.next, "seed %d", seed)
			}
		}
		var ids []string
		for n := range count {
			if n%3 > 0 {
				ids = append(ids, fmt.Sprint(n))
			}
		}
		assert.Equal(t, ids, w.ready.ids, "those of the stream, and no others")
	}
}

// Of what could not be committed, the later end counts.
func TestMerge(t *testing.T) {
	t.Parallel()
	a, b := arrival{"s", 1}, arrival{"s", 2}
	earlier := folded{next: 5, streams: map[arrival]string{a: "3", b: "1"}, sources: []string{"x"}, ids: []string{"1"}}
	later := folded{next: 9, streams: map[arrival]string{a: "7"}, sources: []string{"y"}, ids: []string{"2"}}
	later.merge(earlier)
	assert.Equal(t, folded{next: 9, streams: map[arrival]string{a: "7", b: "1"}, sources: []string{"x", "y"}, ids: []string{"1", "2"}}, later)
	var nothing folded
	nothing.merge(earlier)
	assert.Equal(t, earlier, nothing)
}
