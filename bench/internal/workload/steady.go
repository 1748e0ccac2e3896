package workload

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// Clock remembers when each event was about to be created. Events are numbered
// from First.
type Clock struct {
	First int64
	began []time.Time // written before its event is created, read after it has come back
}

// NewClock is for the events from first to before first + events.
func NewClock(first, events int64) *Clock {
	return &Clock{First: first, began: make([]time.Time, events)}
}

// Events is how many are expected.
func (c *Clock) Events() int64 { return int64(len(c.began)) }

// start records that the events from n to before n + rows are about to be
// created.
func (c *Clock) start(n, rows int64) {
	now := time.Now()
	for i := range rows {
		c.began[n-c.First+i] = now
	}
}

// Since returns how long ago event n was about to be created, and false if it
// is not one of the clock's events.
func (c *Clock) Since(n int64, now time.Time) (time.Duration, bool) {
	i := n - c.First
	if i < 0 || i >= int64(len(c.began)) {
		return 0, false
	}
	return now.Sub(c.began[i]), true
}

// Make creates the events from n to before n + rows, and returns once they are
// committed or sent. One maker is used by one goroutine.
type Make func(ctx context.Context, n, rows int64) error

// RowsAtRate is the number of rows of each transaction at a steady rate: single
// rows as long as the machine can be expected to commit that many.
func RowsAtRate(rate int) int64 {
	if rate > 2_000 {
		return 10
	}
	return 1
}

// Steadily creates all events of the clock at the given rate. Each maker
// creates every n-th transaction at the time when it is due, or as soon as it
// can.
func (c *Clock) Steadily(ctx context.Context, rate int, makers []Make) error {
	rows := RowsAtRate(rate)
	began := time.Now()
	transactions := c.Events() / rows
	errs := make([]error, len(makers))
	var all sync.WaitGroup
	for i, do := range makers {
		all.Go(func() {
			for t := int64(i); t < transactions && errs[i] == nil; t += int64(len(makers)) {
				due := began.Add(time.Duration(t*rows) * time.Second / time.Duration(rate))
				if errs[i] = until(ctx, due); errs[i] != nil {
					return
				}
				n := c.First + t*rows
				c.start(n, rows)
				errs[i] = do(ctx, n, rows)
			}
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

func until(ctx context.Context, due time.Time) error {
	wait := time.Until(due)
	if wait <= 0 {
		return context.Cause(ctx)
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Inserter creates events by inserting into the outbox over a connection.
func (w Workload) Inserter(conn *pgx.Conn) Make {
	return func(ctx context.Context, n, rows int64) error {
		_, err := conn.Exec(ctx, "SELECT write_rows($1, $2, $3)", n, rows, w.Types)
		if err != nil {
			return fmt.Errorf("insert event %d: %w", n, err)
		}
		return nil
	}
}
