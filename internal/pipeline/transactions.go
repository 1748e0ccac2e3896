package pipeline

import (
	"slices"
	"sync"

	"github.com/outboxstream/streamer/replication"
)

// transactions knows about which transaction ID the server had come to where its
// log was written, so that a lag can be told in transactions. It is a line
// through what the server said now and then. The zero value knows nothing.
type transactions struct {
	mu   sync.Mutex
	line []landing
}

// landing is the next transaction ID when the log ended at lsn.
type landing struct {
	lsn  replication.LSN
	next int64
}

// longestLine bounds the line. Every second point gives way when it is reached,
// so that the line becomes coarser the longer it is.
const longestLine = 256

// note adds what the server says. Points that are not ahead of the last are of
// no use.
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

// at is about the next transaction ID at lsn, 0 if that is not known. The line
// goes on behind its last point as it came there. What lies before is forgotten:
// the caller does not go back.
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
