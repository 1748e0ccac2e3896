package pipeline

import (
	"sync/atomic"
	"time"

	"github.com/outboxstream/streamer/replication"
)

// lookout is what the watching goroutine makes of what it sees of the slot. Only
// leaving and passed are shared with the session.
type lookout struct {
	leaving atomic.Bool   // another reader shall go on
	passed  atomic.Uint64 // everything below it has come by

	behind    func(replication.Slot, replication.LSN) bool // tells that another reader is the better way
	farBehind int                                          // how often in a row
	seen      sighting
}

// sighting is where WAL ended at a moment.
type sighting struct {
	at      time.Time
	flushed replication.LSN
}

// watchLag is told by the watching goroutine what the slot looks like. A stream
// that is found far behind twice in a row is left for the faster reader.
func (s *session) watchLag(slot replication.Slot) {
	l := &s.lookout
	at := replication.LSN(l.passed.Load())
	if !l.seen.at.IsZero() && at >= l.seen.flushed {
		s.lag.reachedEnd(l.seen.at) // everything has been read that was there when it was last looked at
	}
	l.seen = sighting{at: slot.At, flushed: slot.Flushed}
	s.flow.saver.transactions.note(slot.Flushed, slot.NextTransaction)
	if !l.behind(slot, at) {
		l.farBehind = 0
		return
	}
	if l.farBehind++; l.farBehind == 2 {
		l.leaving.Store(true)
		s.nudge()
	}
}
