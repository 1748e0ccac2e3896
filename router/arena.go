package router

// arena hands out pieces of large chunks and takes them all back at once.
// Pieces never move, so slices and pointers into them stay valid until reset.
type arena[T any] struct {
	chunks  [][]T
	current int // chunk being filled
	used    int // items of it
	total   int // items in all chunks
	min     int // items in the first chunk; later ones double
	max     int // items in a regular chunk
}

// take returns n items, which hold whatever they held before.
func (a *arena[T]) take(n int) []T {
	for ; a.current < len(a.chunks); a.current, a.used = a.current+1, 0 {
		if chunk := a.chunks[a.current]; len(chunk)-a.used >= n {
			piece := chunk[a.used : a.used+n : a.used+n]
			a.used += n
			return piece
		}
	}
	size := max(n, min(a.max, a.min<<min(len(a.chunks), 20)))
	a.chunks = append(a.chunks, make([]T, size))
	a.total += size
	a.used = n
	return a.chunks[a.current][:n:n]
}

// giveBack returns the last n items of the last piece taken.
func (a *arena[T]) giveBack(n int) { a.used -= n }

// reset takes everything back. Chunks above the regular size are dropped; it
// tells whether there were any.
func (a *arena[T]) reset() (dropped bool) {
	keep := a.chunks[:0]
	a.total = 0
	for _, chunk := range a.chunks {
		if len(chunk) <= a.max {
			keep = append(keep, chunk)
			a.total += len(chunk)
		}
	}
	dropped = len(keep) < len(a.chunks)
	clear(a.chunks[len(keep):])
	a.chunks, a.current, a.used = keep, 0, 0
	return dropped
}

// clear forgets what the pieces held.
func (a *arena[T]) clear() {
	for _, chunk := range a.chunks {
		clear(chunk)
	}
}
