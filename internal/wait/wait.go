// Package wait provides the ways in which the streamer waits: for a time, until
// something is done, and for calls that a context cannot interrupt. Each wait
// ends with its context.
package wait

import (
	"context"
	"time"
)

// For waits for d, and reports whether ctx is still alive.
func For(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// Until tries at intervals until it is done or fails, and reports whether it
// was done before patience ran out.
func Until(ctx context.Context, patience, every time.Duration, try func() (done bool, err error)) (bool, error) {
	for deadline := time.Now().Add(patience); ; {
		done, err := try()
		if done || err != nil || time.Now().After(deadline) {
			return done, err
		}
		if !For(ctx, every) {
			return false, context.Cause(ctx)
		}
	}
}

// Talk waits for a call that talks to a server and cannot be interrupted
// everywhere. A server that does not answer must not hold up a stop. A call
// that has not returned when ctx ends is abandoned, and ends by its own
// timeout. What it still returns goes to discard, which may be nil, so that it
// holds no lock and no connection.
func Talk[T any](ctx context.Context, talk func(context.Context) (T, error), discard func(T)) (T, error) {
	never := func(context.Context) error { return nil }
	return TalkWhile(ctx, time.Hour, never, talk, discard)
}

// TalkWhile is Talk, but calls keep at intervals meanwhile. If keep fails, the
// wait ends with its error.
func TalkWhile[T any](
	ctx context.Context, every time.Duration, keep func(context.Context) error, talk func(context.Context) (T, error), discard func(T),
) (T, error) {
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
		case <-ctx.Done(): // the caller no longer waits
			if err == nil && discard != nil {
				discard(value)
			}
		}
	}()
	ticker := time.NewTicker(every)
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
