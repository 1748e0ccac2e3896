package service

import (
	"context"
	"fmt"
	"time"
)

// Load calls do with one number after the other, up to n, at a rate per second. A
// process that was killed goes on: count is a query that says how many are done. The
// last one may be done although its process did not live to see it, so that do has
// to tell: it reports whether there was anything to do.
func Load(
	ctx context.Context, s *Service, count string, n int, rate float64, do func(ctx context.Context, number int) (fresh bool, err error),
) error {
	var done int
	if err := s.Pool.QueryRow(ctx, count).Scan(&done); err != nil {
		return fmt.Errorf("count what is done: %w", err)
	}
	tick := time.NewTicker(time.Duration(float64(time.Second) / rate))
	defer tick.Stop()
	for number := done + 1; number <= n; number++ {
		fresh, err := do(ctx, number)
		if err != nil {
			return err
		}
		if !fresh {
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
