package pipeline

import (
	"slices"
	"sync"

	"github.com/outboxstream/streamer/replication"
)

// transactions estimates the server's next transaction ID at a position in its
// WAL, so that a lag can be given in transactions. It is a line through what
// the server reported from time to time. The zero value knows nothing.
type transactions struct {
	mu   sync.Mutex
	line []landing
}

// landing is the next transaction ID when the WAL ended at lsn.
type landing struct {
	lsn  replication.LSN
	next int64
}

// longestLine bounds the points of the line. When it is reached, every second
// point is dropped, so the line becomes coarser the longer it is.
const longestLine = 256

// note adds what the server reports. It ignores points that are not ahead of
// the last.
func (t *transactions) note(lsn replication.LSN, next int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n := len(t.line); next == 0 || n > 0 && lsn <= t.line[n-1].lsn {
		return
	}
	if len(t.line) == longestLine {
		for i := range longestLine / 2 {
			t.line[i] = t.line[2*i]
		}
		t.line = t.line[:longestLine/2]
	}
	t.line = append(t.line, landing{lsn, next})
}

// at estimates the next transaction ID at lsn, or returns 0 if it is unknown.
// After its last point the line continues with the same slope. Earlier points
// are forgotten: the caller does not go back.
func (t *transactions) at(lsn replication.LSN) int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.line) == 0 || lsn < t.line[0].lsn {
		return 0
	}
	for len(t.line) > 2 && t.line[1].lsn <= lsn {
		t.line = slices.Delete(t.line, 0, 1)
	}
	from, to := t.line[0], t.line[len(t.line)-1]
	if len(t.line) > 1 {
		to = t.line[1]
	}
	if to.lsn == from.lsn {
		return from.next
	}
	return from.next + int64(float64(to.next-from.next)*float64(lsn-from.lsn)/float64(to.lsn-from.lsn))
}
