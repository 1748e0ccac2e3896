package pipeline

import (
	"context"
	"time"

	"github.com/cenkalti/backoff/v5"
)

// pollInterval is how often a wait looks at the clock when there is no news.
const pollInterval = time.Second

// interruptible waits for what talks to Kafka, which a context cannot interrupt
// everywhere: a broker that does not answer must not hold up a stop. What has not
// returned when ctx ends is left behind, to end by its own timeout; what it still
// brings goes to discard, so that it holds no lock and no connection. keep is called
// at intervals meanwhile, and ends the wait if it fails.
func interruptible[T any](ctx context.Context, keep func(context.Context) error, talk func(context.Context) (T, error), discard func(T)) (T, error) {
	type outcome struct {
		value T
		err   error
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	done := make(chan outcome)
	go func() {
		value, err := talk(ctx)
		select {
		case done <- outcome{value, err}:
		case <-ctx.Done(): // nobody waits any more
			if err == nil {
				discard(value)
			}
		}
	}()
	ticker := time.NewTicker(pingEvery)
	defer ticker.Stop()
	for {
		select {
		case o := <-done:
			return o.value, o.err
		case <-ctx.Done():
			var none T
			return none, context.Cause(ctx)
		case <-ticker.C:
			if err := keep(ctx); err != nil {
				cancel(err)
			}
		}
	}
}

// retries are pauses with jitter that grow up to retry.max.
func (g ground) retries() *backoff.ExponentialBackOff {
	pause := backoff.NewExponentialBackOff()
	pause.InitialInterval, pause.MaxInterval = g.config.RetryInitial, g.config.RetryMax
	return pause
}

// sleep waits, and reports whether ctx is still alive.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// ring tells whoever listens to a channel of one that there is news. It never
// blocks.
func ring(bell chan<- struct{}) {
	select {
	case bell <- struct{}{}:
	default:
	}
}
