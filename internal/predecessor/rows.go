package predecessor

import (
	"cmp"
	"slices"
)

// rows are those that wait, in the order of the stream, in some 22 bytes each.
// They are kept in pieces, which do not move while rows are added.
type rows struct {
	pieces []*piece
	count  uint32
	sorted []uint32 // numbers of rows, by event
}

const pieceRows = 1 << 14

// piece holds rows. events and keys are digests.
type piece struct {
	events, keys [pieceRows]uint64
	places       [pieceRows]uint16 // numbers of topics and partitions
	published    [pieceRows / 64]uint64
}

func (r *rows) add(event, key uint64, place uint16) {
	n := r.count % pieceRows
	if n == 0 {
		r.pieces = append(r.pieces, &piece{})
	}
	p := r.pieces[len(r.pieces)-1]
	p.events[n], p.keys[n], p.places[n] = event, key, place
	r.count++
}

func (r *rows) event(n uint32) uint64 { return r.pieces[n/pieceRows].events[n%pieceRows] }
func (r *rows) key(n uint32) uint64   { return r.pieces[n/pieceRows].keys[n%pieceRows] }
func (r *rows) place(n uint32) uint16 { return r.pieces[n/pieceRows].places[n%pieceRows] }

func (r *rows) isPublished(n uint32) bool {
	return r.pieces[n/pieceRows].published[n%pieceRows/64]>>(n%64)&1 == 1
}

func (r *rows) publish(n uint32) { r.pieces[n/pieceRows].published[n%pieceRows/64] |= 1 << (n % 64) }

// index prepares find. Rows are no longer added.
func (r *rows) index() {
	if r.sorted == nil {
		r.sorted = make([]uint32, r.count)
	}
	for i := range r.sorted {
		r.sorted[i] = uint32(i)
	}
	slices.SortFunc(r.sorted, func(a, b uint32) int { return cmp.Compare(r.event(a), r.event(b)) })
}

// find returns the number of the row of an event.
func (r *rows) find(event uint64) (n uint32, found bool) {
	i, found := slices.BinarySearchFunc(r.sorted, event, func(n uint32, event uint64) int { return cmp.Compare(r.event(n), event) })
	if !found {
		return 0, false
	}
	return r.sorted[i], true
}

// repeated returns how many rows have the event ID of another row.
func (r *rows) repeated() (n int) {
	for i := 1; i < len(r.sorted); i++ {
		if r.event(r.sorted[i]) == r.event(r.sorted[i-1]) {
			n++
		}
	}
	return n
}

// published returns how many rows are published.
func (r *rows) published() (count int64) {
	for n := range r.count {
		if r.isPublished(n) {
			count++
		}
	}
	return count
}

// holes returns the numbers of the rows that are not published although a later
// row of the same key is, in the order of the stream.
func (r *rows) holes() (holes []uint32) {
	byKey := r.sorted // index puts it in order again
	slices.SortFunc(byKey, func(a, b uint32) int { return cmp.Or(cmp.Compare(r.key(a), r.key(b)), cmp.Compare(b, a)) })
	later := false // a row of this key is published
	for i, n := range byKey {
		if i == 0 || r.key(n) != r.key(byKey[i-1]) {
			later = false
		}
		if r.isPublished(n) {
			later = true
		} else if later {
			holes = append(holes, n)
		}
	}
	r.index()
	slices.Sort(holes)
	return holes
}
