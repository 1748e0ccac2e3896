package replication

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// advancer moves the slot itself while its copies are read. It has its own
// session and goroutine because a move may take a while: the server reads the
// WAL from the slot's restart position each time.
type advancer struct {
	control *Control

	wake    chan struct{}
	cancel  context.CancelFunc
	running sync.WaitGroup

	mu     sync.Mutex
	target LSN
	done   LSN
	err    error
	moved  chan struct{} // closed and replaced when done or err changes
}

func newAdvancer(ctx context.Context, c Config) (*advancer, error) {
	c.LockTimeout = 0
	control, err := Connect(ctx, c)
	if err != nil {
		return nil, err
	}
	a := &advancer{control: control, wake: make(chan struct{}, 1), moved: make(chan struct{})}
	running, cancel := context.WithCancel(context.WithoutCancel(ctx))
	a.cancel = cancel
	a.running.Go(func() { a.run(running) })
	return a, nil
}

// advance asks for the slot to be moved to the given position. It returns the
// error of an earlier move, if one failed.
func (a *advancer) advance(to LSN) error {
	a.mu.Lock()
	a.target = max(a.target, to)
	err := a.err
	a.mu.Unlock()
	select {
	case a.wake <- struct{}{}:
	default:
	}
	return err
}

// restShare is how long the advancer rests after a move, as a multiple of the
// time the move took. Each move makes the server read the WAL again.
const restShare = 4

func (a *advancer) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-a.wake:
		}
		began := time.Now()
		if !a.move(ctx) {
			return
		}
		rest := time.NewTimer(min(restShare*time.Since(began), 5*time.Second))
		select {
		case <-ctx.Done():
			rest.Stop()
			return
		case <-rest.C:
		}
	}
}

// move moves the slot to the target, and reports whether to go on.
func (a *advancer) move(ctx context.Context) bool {
	a.mu.Lock()
	to, done := a.target, a.done
	a.mu.Unlock()
	if to <= done {
		return true
	}
	err := a.control.AdvanceSlot(ctx, to)
	a.mu.Lock()
	defer a.mu.Unlock()
	if err != nil {
		a.err = err
	} else {
		a.done = to
	}
	close(a.moved)
	a.moved = make(chan struct{})
	return err == nil
}

// finish waits until the slot is at the furthest position that was asked for.
func (a *advancer) finish(deadline time.Time) error {
	timeout := time.NewTimer(time.Until(deadline))
	defer timeout.Stop()
	for {
		a.mu.Lock()
		behind, err, moved := a.done < a.target, a.err, a.moved
		a.mu.Unlock()
		if err != nil || !behind {
			return err
		}
		select {
		case <-moved:
		case <-timeout.C:
			return fmt.Errorf("slot %q could not be moved to the checkpoint in time", a.control.SlotName())
		}
	}
}

func (a *advancer) close() {
	a.cancel()
	a.running.Wait()
	a.control.Close()
}
