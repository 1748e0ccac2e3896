package service

import (
	"context"
	"time"
)

// Load calls do with 1 to n, at a rate per second. A process that was killed begins
// with 1 again: do reports whether there was anything to do, and Load does not
// linger over what was done before.
func Load(ctx context.Context, n int, rate float64, do func(ctx context.Context, number int) (done bool, err error)) error {
	tick := time.NewTicker(time.Duration(float64(time.Second) / rate))
	defer tick.Stop()
	for number := 1; number <= n; number++ {
		done, err := do(ctx, number)
		if err != nil {
			return err
		}
		if !done {
			continue
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
	return nil
}
