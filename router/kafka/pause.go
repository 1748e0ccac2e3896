package kafka

import (
	"context"
	"time"

	"github.com/cenkalti/backoff/v5"
)

// longestPause is between two questions to a cluster that does not get better.
const longestPause = time.Second

// pauses are the times between questions whose answer is expected to change by
// itself. They grow, with jitter, so that a cluster in trouble is not asked a hundred
// times a second.
type pauses struct{ next *backoff.ExponentialBackOff }

func pausesFrom(first time.Duration) pauses {
	next := backoff.NewExponentialBackOff()
	next.InitialInterval, next.MaxInterval = first, longestPause
	return pauses{next}
}

// rest waits, and reports whether ctx is still alive.
func (p pauses) rest(ctx context.Context) bool {
	pause(ctx, p.next.NextBackOff())
	return ctx.Err() == nil
}

// sleep waits where nothing can end the wait.
func (p pauses) sleep() { <-time.After(p.next.NextBackOff()) }

// pause waits for a time, or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
