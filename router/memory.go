package router

import "math/bits"

// memory lends batches the memory for their records and takes it back. A busy
// producer thus allocates nothing and leaves the garbage collector nothing to
// do. memory keeps no more than limit bytes that are not lent. It belongs to
// one goroutine.
type memory struct {
	free  [largestClass - smallestClass + 1][][]byte // sizes are powers of two
	kept  int                                        // bytes in free
	limit int
}

const (
	smallestClass = 11 // 2 KiB
	largestClass  = 21 // 2 MiB; anything larger is left to the garbage collector
)

// grow returns b with room for more bytes and takes back b's old space. On a
// nil memory it allocates with make.
func (m *memory) grow(b []byte, more int) []byte {
	need := len(b) + more
	if need <= cap(b) {
		return b
	}
	class := max(bits.Len(uint(need-1)), smallestClass)
	if m == nil || class > largestClass {
		return append(make([]byte, 0, max(need, 2*cap(b))), b...)
	}
	larger := append(m.take(class), b...)
	m.give(b)
	return larger
}

func (m *memory) take(class int) []byte {
	list := &m.free[class-smallestClass]
	n := len(*list)
	if n == 0 {
		return make([]byte, 0, 1<<class)
	}
	b := (*list)[n-1]
	(*list)[n-1] = nil
	*list = (*list)[:n-1]
	m.kept -= cap(b)
	return b[:0]
}

// give takes b back if it came from this memory and there is room for it.
func (m *memory) give(b []byte) {
	class := bits.Len(uint(cap(b))) - 1
	if m == nil || class < smallestClass || class > largestClass || cap(b) != 1<<class || m.kept+cap(b) > m.limit {
		return
	}
	m.free[class-smallestClass] = append(m.free[class-smallestClass], b)
	m.kept += cap(b)
}
