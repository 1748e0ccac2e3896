package predecessor

import (
	"cmp"
	"slices"
)

// waitingRow is a row that waits, in 24 bytes. event and key are digests.
type waitingRow struct {
	event, key uint64
	partition  int32 // -1: the topic does not exist
	topic      uint16
	published  bool
}

// rows are those that wait, in the order of the stream. They are kept in pieces,
// which do not move while rows are added.
type rows struct {
	pieces [][]waitingRow
	count  int
	sorted []uint32 // numbers of rows, by event
}

const piece = 1 << 14

func (r *rows) add(one waitingRow) {
	if r.count%piece == 0 {
		r.pieces = append(r.pieces, make([]waitingRow, 0, piece))
	}
	last := &r.pieces[len(r.pieces)-1]
	*last = append(*last, one)
	r.count++
}

func (r *rows) at(i uint32) *waitingRow { return &r.pieces[i/piece][i%piece] }

// index prepares find. Rows are no longer added.
func (r *rows) index() {
	r.sorted = make([]uint32, r.count)
	for i := range r.sorted {
		r.sorted[i] = uint32(i)
	}
	slices.SortFunc(r.sorted, func(a, b uint32) int { return cmp.Compare(r.at(a).event, r.at(b).event) })
}

// find returns the row of an event, or nil.
func (r *rows) find(event uint64) *waitingRow {
	i, found := slices.BinarySearchFunc(r.sorted, event, func(n uint32, event uint64) int { return cmp.Compare(r.at(n).event, event) })
	if !found {
		return nil
	}
	return r.at(r.sorted[i])
}

// repeated returns how many rows have the event ID of another row.
func (r *rows) repeated() (n int) {
	for i := 1; i < len(r.sorted); i++ {
		if r.at(r.sorted[i]).event == r.at(r.sorted[i-1]).event {
			n++
		}
	}
	return n
}

// published returns how many rows are published.
func (r *rows) published() (n int64) {
	for _, piece := range r.pieces {
		for i := range piece {
			if piece[i].published {
				n++
			}
		}
	}
	return n
}

// holes returns the numbers of the rows that are not published although a later
// row of the same key is, in the order of the stream. find needs index again
// afterwards.
func (r *rows) holes() (holes []uint32) {
	byKey := r.sorted
	slices.SortFunc(byKey, func(a, b uint32) int { return cmp.Or(cmp.Compare(r.at(a).key, r.at(b).key), cmp.Compare(b, a)) })
	later := false // a row of this key is published
	for i, n := range byKey {
		if i == 0 || r.at(n).key != r.at(byKey[i-1]).key {
			later = false
		}
		if r.at(n).published {
			later = true
		} else if later {
			holes = append(holes, n)
		}
	}
	r.index()
	slices.Sort(holes)
	return holes
}
