package pipeline

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/outboxstream/streamer/replication"
)

// Company is what an instance has last seen of others at its slot. It informs
// operators and decides nothing.
type Company struct {
	At time.Time // zero: not looked yet
	// Working are the sessions that hold the lock or read the slot, as seen by an
	// instance that stands by.
	Working []replication.Holder
	// Standbys and Replay are seen by the instance that works.
	Standbys []replication.Holder
	Replay   *replication.ReplaySlotState
	// Unknown is why it could not be seen, empty if it could.
	Unknown string
}

type company struct{ seen atomic.Pointer[Company] }

// Company returns what this instance has last seen of others. Any goroutine may
// call it.
func (p *Pipeline) Company() Company {
	if seen := p.company.seen.Load(); seen != nil {
		return *seen
	}
	return Company{}
}

// lookForStandbys notes who stands by. An error is of no consequence: if the
// connection is lost, the next question about the slot says so.
func (t *tenure) lookForStandbys(ctx context.Context) {
	found, err := t.control.Company(ctx)
	seen := Company{At: time.Now(), Standbys: found.Standbys, Replay: found.Replay}
	if err != nil {
		seen.Unknown = err.Error()
	}
	t.company.seen.Store(&seen)
}

// lookForHolders notes who holds the lock or reads the slot.
func (t *tenure) lookForHolders(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	working, err := t.control.Holders(ctx)
	seen := Company{At: time.Now(), Working: working}
	if err != nil {
		seen.Unknown = err.Error()
	}
	t.company.seen.Store(&seen)
}
