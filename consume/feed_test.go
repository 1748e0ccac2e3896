package consume

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
)

// A partition that cannot go on is paused, takes what still comes, and goes on in
// the order in which everything came.
func TestFeed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, revoke := context.WithCancel(t.Context())
		var delivered []int64
		blocked := make(chan struct{})
		var calls []string
		f := newFeed(func(_ context.Context, r Record) error {
			<-blocked
			delivered = append(delivered, r.Offset)
			return nil
		}, func() { calls = append(calls, "pause") }, func() { calls = append(calls, "resume") })
		ended := make(chan error)
		go func() { ended <- f.Run(ctx) }()
		var want []int64
		for n := range int64(3 * feedAhead) {
			f.Add(Record{Offset: n})
			want = append(want, n)
			if n == 0 {
				synctest.Wait() // it has the first one, and waits
			}
		}
		assert.Equal(t, []string{"pause"}, calls)
		close(blocked)
		synctest.Wait()
		assert.Equal(t, want, delivered)
		assert.Equal(t, []string{"pause", "resume"}, calls)
		revoke()
		assert.NoError(t, <-ended)
	})
}

func TestFeedEnds(t *testing.T) {
	t.Parallel()
	broken := errors.New("the consumer has failed")
	for name, c := range map[string]struct {
		revoked bool
		want    error
	}{"failed": {false, broken}, "revoked": {true, nil}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, revoke := context.WithCancel(t.Context())
			defer revoke()
			f := newFeed(func(context.Context, Record) error {
				if c.revoked {
					revoke()
				}
				return broken
			}, nil, nil)
			f.Add(Record{}, Record{Offset: 1})
			assert.Equal(t, c.want, f.Run(ctx))
		})
	}
}
