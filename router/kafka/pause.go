package kafka

import (
	"context"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/outboxstream/streamer/internal/wait"
)

// longestPause is the longest pause between two requests to a cluster that does
// not recover.
const longestPause = time.Second

// pauses are the times between requests whose answer is expected to change by
// itself. They grow, with jitter, so that a cluster in trouble does not get a
// hundred requests a second.
type pauses struct{ next *backoff.ExponentialBackOff }

func pausesFrom(first time.Duration) pauses {
	next := backoff.NewExponentialBackOff()
	next.InitialInterval, next.MaxInterval = first, longestPause
	return pauses{next}
}

// wait waits and reports whether ctx is still alive.
func (p pauses) wait(ctx context.Context) bool {
	return wait.For(ctx, p.next.NextBackOff())
}
