package consume

import (
	"context"
	"sync"
)

// feedAhead is how many records of a partition wait to be delivered before it is
// paused.
const feedAhead = 2000

// Feed is what a client has fetched of a partition and is not yet delivered. It
// takes all that comes, and asks for a pause when that is enough: what is on its way
// then still comes. So no partition keeps the others from being fetched.
type Feed struct {
	deliver       func(ctx context.Context, r Record) error
	pause, resume func()

	mu      sync.Mutex
	waiting []Record
	paused  bool
	more    chan struct{} // has a value if something has come
}

// Feed returns the feed of a partition. pause and resume are called in turns.
func (p *Partition) Feed(pause, resume func()) *Feed { return newFeed(p.Deliver, pause, resume) }

func newFeed(deliver func(context.Context, Record) error, pause, resume func()) *Feed {
	return &Feed{deliver: deliver, pause: pause, resume: resume, more: make(chan struct{}, 1)}
}

// Add takes records, in the order of their offsets.
func (f *Feed) Add(records ...Record) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.waiting = append(f.waiting, records...)
	if len(f.waiting) > feedAhead && !f.paused {
		f.paused = true
		f.pause()
	}
	select {
	case f.more <- struct{}{}:
	default:
	}
}

func (f *Feed) take() []Record {
	f.mu.Lock()
	defer f.mu.Unlock()
	records := f.waiting
	f.waiting = nil
	if f.paused {
		f.paused = false
		f.resume()
	}
	return records
}

// Run delivers records until ctx ends, which is no error, or the consumer has failed.
func (f *Feed) Run(ctx context.Context) error {
	for {
		select {
		case <-f.more:
		case <-ctx.Done():
			return nil
		}
		for _, r := range f.take() {
			if err := f.deliver(ctx, r); err != nil {
				if ctx.Err() != nil {
					return nil //nolint:nilerr // the partition is revoked
				}
				return err
			}
		}
	}
}
