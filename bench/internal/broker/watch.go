package broker

import (
	"context"
	"fmt"
	"time"
)

// Moments are the moments of a catch-up, as a reader of the topics sees them.
type Moments struct {
	First time.Time // the first event has arrived
	Last  time.Time // all events have arrived
}

// Observer is called at moments of a catch-up.
type Observer struct {
	First func() // there is an event
	Last  func() // all events may have arrived; the last call counts
}

// settleFor is how long the number of events must stay the same to be final.
const settleFor = 100 * time.Millisecond

// Watch returns when all events have arrived. ended is closed when the contender
// has ended, for whatever reason.
//
// Events that are written in transactions have markers among them, which only a
// reading of the partitions can tell from events. That reading would disturb the
// contender, so it waits until there are enough records, and no more arrive.
func (a *Arrivals) Watch(ctx context.Context, events int64, ended <-chan struct{}, observer Observer) (m Moments, err error) {
	ticker := time.NewTicker(a.interval())
	defer ticker.Stop()
	var count int64
	for over := false; ; {
		before := count
		var at time.Time
		if count, at, err = a.Count(); err != nil {
			return m, err
		}
		if count > 0 && m.First.IsZero() {
			m.First = at
			observer.First()
		}
		if count >= events && count > before {
			m.Last = at
			observer.Last()
		}
		if count >= events && (!a.transactional() || over || at.Sub(m.Last) > settleFor) {
			if count, err = a.scan(count); err != nil || count >= events {
				return m, err
			}
		}
		if over {
			return m, fmt.Errorf("ended with %d of %d events in Kafka", count, events)
		}
		select {
		case <-ticker.C:
		case <-ended:
			over = true // counted one last time
		case <-ctx.Done():
			return m, fmt.Errorf("%d of %d events in Kafka: %w", count, events, context.Cause(ctx))
		}
	}
}

// interval is the time between two counts.
func (a *Arrivals) interval() time.Duration {
	if many := 100; len(a.partitions) > many {
		return 100 * time.Millisecond // polling is work for the broker
	}
	return 5 * time.Millisecond
}

// Final returns the number of events after the contender has been stopped.
func (a *Arrivals) Final(ctx context.Context) (int64, error) {
	before, _, err := a.Count()
	if err != nil {
		return 0, err
	}
	for {
		select {
		case <-time.After(settleFor):
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
		now, _, err := a.Count()
		if err != nil {
			return now, err
		}
		if now == before {
			return a.scan(now)
		}
		before = now
	}
}
