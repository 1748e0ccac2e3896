package pipeline

import (
	"slices"
	"sort"

	"github.com/outboxstream/streamer/checkpoint"
	"github.com/outboxstream/streamer/internal/mutation"
	"github.com/outboxstream/streamer/replication"
	"github.com/outboxstream/streamer/router"
	"github.com/outboxstream/streamer/router/wire"
)

// trail holds the positions at which a checkpoint can be made, and the last row
// below each, so that a checkpoint can name that row. It belongs to the reading
// goroutine and allocates nothing once it has grown.
type trail struct {
	steps   []step          // ascending by LSN
	last    step            // of the last transaction read completely
	open    step            // of the transaction being read
	pending bool            // open has a row
	reached replication.LSN // everything below it has been read
	stride  int             // transactions between two steps
	strode  int             // transactions that the newest step covers
}

// step is a position between two transactions, and the last row below it.
type step struct {
	lsn        replication.LSN
	point      router.Point
	eventID    []byte
	commitTime int64
	exact      bool // that row is known
}

// longestTrail bounds the number of steps. When it is reached, every second
// step is dropped, and the strides between steps are twice as long until fewer
// are in use. So whatever is in flight, some steps are below what is
// acknowledged.
const longestTrail = 1024

func newTrail(r resumePoint) trail {
	t := trail{stride: 1, last: step{lsn: r.low, point: r.point, exact: r.Exact}, reached: r.low}
	if last, known := lastOf(r.Record); known {
		t.last.eventID, t.last.commitTime = []byte(last.EventID), last.CommitTime
	}
	return t
}

// begin forgets the part of a transaction read before a connection ended.
func (t *trail) begin() { t.pending = t.pending && mutation.Active(mutation.TrailAcrossConnections) }

// pass notes a row that was read, whatever became of it.
func (t *trail) pass(at router.Point, eventID []byte, commitTime int64) {
	t.open.point, t.open.commitTime, t.open.exact = at, commitTime, true
	t.open.eventID = append(t.open.eventID[:0], eventID...)
	t.pending = true
}

// reach notes that everything below lsn has been read: the end of a
// transaction, or an idle position. After a lost connection, positions noted
// before reappear and change nothing.
func (t *trail) reach(lsn replication.LSN) {
	if t.pending && t.open.point.Position.Compare(t.last.point.Position) > 0 {
		t.last, t.open = t.open, t.last
	}
	t.pending = false
	if lsn <= t.reached {
		return
	}
	t.reached = lsn
	n := len(t.steps)
	if n > 0 && t.steps[n-1].point == t.last.point {
		t.steps[n-1].lsn = lsn // the same row is the last one below it
		return
	}
	if n == 0 || t.strode >= t.stride {
		if n == longestTrail {
			t.thin()
		}
		n, t.strode = len(t.steps)+1, 0
		t.steps = slices.Grow(t.steps, 1)[:n]
	}
	t.strode++
	s := &t.steps[n-1]
	s.lsn, s.point, s.commitTime, s.exact = lsn, t.last.point, t.last.commitTime, t.last.exact
	s.eventID = append(s.eventID[:0], t.last.eventID...)
}

// thin drops every second step, but not the newest. Swapping keeps the memory.
func (t *trail) thin() {
	kept := 0
	for i := 1; i < len(t.steps); i += 2 {
		t.steps[kept], t.steps[i] = t.steps[i], t.steps[kept]
		kept++
	}
	t.steps = t.steps[:kept]
	t.stride *= 2
}

// below is the last step at or below an LSN, or nil. It is valid until the
// trail changes.
func (t *trail) below(lsn replication.LSN) *step {
	n := t.count(lsn)
	if n == 0 {
		return nil
	}
	return &t.steps[n-1]
}

// count is how many steps are at or below an LSN.
func (t *trail) count(lsn replication.LSN) int {
	return sort.Search(len(t.steps), func(i int) bool { return t.steps[i].lsn > lsn })
}

// forget drops the steps at or below a stored checkpoint.
func (t *trail) forget(stored replication.LSN) {
	if n := t.count(stored); n > 0 {
		for to, from := 0, n; from < len(t.steps); to, from = to+1, from+1 {
			t.steps[to], t.steps[from] = t.steps[from], t.steps[to]
		}
		t.steps = t.steps[:len(t.steps)-n]
	}
	if len(t.steps) < longestTrail/4 {
		t.stride = max(1, t.stride/2)
	}
}

// event is the last row below the step, as a checkpoint names it. The step must
// be exact.
func (s *step) event() *checkpoint.Event {
	return &checkpoint.Event{Sequence: wire.FormatSequence(s.point.Position), ID: string(s.eventID), CommitTime: s.commitTime}
}
