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

// Watch returns when all events have arrived. It calls first as soon as there
// is one. ended is closed when the contender has ended, for whatever reason.
func (a *Arrivals) Watch(ctx context.Context, events int64, ended <-chan struct{}, first func()) (m Moments, err error) {
	interval := 5 * time.Millisecond
	if many := 100; len(a.partitions) > many {
		interval = 100 * time.Millisecond // polling is work for the broker
	}
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	var count int64
	for over := false; ; {
		var at time.Time
		if count, at, err = a.Count(); err != nil {
			return m, err
		}
		if count > 0 && m.First.IsZero() {
			m.First = at
			first()
		}
		if count >= events {
			m.Last = at
			return m, nil
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
