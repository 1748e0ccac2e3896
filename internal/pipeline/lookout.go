package pipeline

import (
	"sync/atomic"
	"time"

	"github.com/outboxstream/streamer/replication"
)

// lookout is what the watching goroutine concludes from the slot. Only leaving
// and passed are shared with the session.
type lookout struct {
	leaving atomic.Bool   // another reader is to continue
	passed  atomic.Uint64 // everything below it has been read

	behind    func(replication.Slot, replication.LSN) bool // reports whether another reader is the better way
	farBehind int                                          // how often in a row
	seen      sighting
}

// sighting is where the WAL ended at a moment.
type sighting struct {
	at      time.Time
	flushed replication.LSN
}

// watchLag receives the state of the slot from the watching goroutine. If a
// stream is found far behind twice in a row, the session ends in favour of the
// faster reader.
func (s *session) watchLag(slot replication.Slot) {
	l := &s.lookout
	at := replication.LSN(l.passed.Load())
	if !l.seen.at.IsZero() && at >= l.seen.flushed {
		s.lag.reachedEnd(l.seen.at) // everything that was there at the last look has been read
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
