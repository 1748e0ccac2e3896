package wait

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var (
	errTest    = errors.New("test")
	errStopped = errors.New("stopped")
)

func TestFor(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		assert.True(t, For(t.Context(), time.Minute))
		assert.Equal(t, time.Minute, time.Since(began))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		assert.False(t, For(ctx, time.Minute))
		assert.Equal(t, time.Minute+time.Second, time.Since(began))
	})
}

func TestUntil(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		doneAt, failsAt int // the attempt
		ends            time.Duration
		tries           int
		done            bool
		err             error
		took            time.Duration
	}{
		"at once":       {doneAt: 1, tries: 1, done: true},
		"soon":          {doneAt: 3, tries: 3, done: true, took: 2 * time.Second},
		"never":         {tries: 7, took: 6 * time.Second}, // the last one is past the deadline
		"fails":         {failsAt: 2, tries: 2, err: errTest, took: time.Second},
		"context ended": {ends: 2500 * time.Millisecond, tries: 3, err: context.DeadlineExceeded, took: 2500 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ctx := t.Context()
				if test.ends > 0 {
					timed, cancel := context.WithTimeout(ctx, test.ends)
					defer cancel()
					ctx = timed
				}
				began, tries := time.Now(), 0
				done, err := Until(ctx, 5*time.Second, time.Second, func() (bool, error) {
					if tries++; tries == test.failsAt {
						return false, errTest
					}
					return tries == test.doneAt, nil
				})
				assert.Equal(t, test.done, done)
				require.ErrorIs(t, err, test.err)
				assert.Equal(t, test.tries, tries)
				assert.Equal(t, test.took, time.Since(began))
			})
		})
	}
}

// TalkWhile returns the result of the talk, when the talk ends.
func TestTalkWhile(t *testing.T) {
	t.Parallel()
	lost := errors.New("lock is lost")
	for name, test := range map[string]struct {
		takes     time.Duration
		fails     error         // of the talk
		stopped   time.Duration // 0: never
		lost      time.Duration // 0: never
		want      time.Duration
		err       error
		value     int
		discarded bool
	}{
		"it answers": {takes: 2 * time.Second, want: 2 * time.Second, value: 7},
		"it fails":   {takes: 2 * time.Second, fails: errTest, want: 2 * time.Second, err: errTest},
		"it is stopped": {
			takes: 20 * time.Second, stopped: 5 * time.Second, want: 5 * time.Second, err: errStopped, discarded: true,
		},
		"it is stopped, and would have failed": {
			takes: 20 * time.Second, fails: errTest, stopped: 5 * time.Second, want: 5 * time.Second, err: errStopped,
		},
		"it answers before it is stopped": {
			takes: 5 * time.Second, stopped: 5*time.Second + time.Millisecond, want: 5 * time.Second, value: 7,
		},
		"what is kept is lost": {
			takes: 20 * time.Second, lost: 7 * time.Second, want: 9 * time.Second, err: lost, discarded: true,
		},
		"what is kept is lost when it answered": {takes: 8 * time.Second, lost: 7 * time.Second, want: 8 * time.Second, value: 7},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				ctx, cancel := context.WithCancelCause(t.Context())
				if test.stopped > 0 {
					time.AfterFunc(test.stopped, func() { cancel(errStopped) })
				}
				discarded := make(chan int, 1)
				value, err := TalkWhile(ctx, 3*time.Second, func(context.Context) error {
					if test.lost > 0 && time.Since(began) >= test.lost {
						return lost
					}
					return nil
				}, func(context.Context) (int, error) { // which a context cannot interrupt
					<-time.After(test.takes)
					if test.fails != nil {
						return 0, test.fails
					}
					return 7, nil
				}, func(value int) { discarded <- value })
				assert.Equal(t, test.want, time.Since(began))
				assert.Equal(t, test.value, value)
				require.ErrorIs(t, err, test.err)
				<-time.After(time.Minute)
				synctest.Wait()
				assert.Len(t, discarded, map[bool]int{true: 1}[test.discarded])
				cancel(nil)
			})
		})
	}
}

// keep is called at each interval.
func TestTalkWhileKeeps(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		var kept []time.Duration
		_, err := TalkWhile(t.Context(), 3*time.Second, func(context.Context) error {
			kept = append(kept, time.Since(began))
			return nil
		}, func(ctx context.Context) (int, error) {
			For(ctx, 10*time.Second)
			return 0, nil
		}, func(int) {})
		require.NoError(t, err)
		assert.Equal(t, []time.Duration{3 * time.Second, 6 * time.Second, 9 * time.Second}, kept)
	})
}

// The talk learns that nothing waits for it any more, and why.
func TestTalkIsTold(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		lost := errors.New("lock is lost")
		told := make(chan error, 1)
		_, err := TalkWhile(t.Context(), 3*time.Second, func(context.Context) error { return lost }, func(ctx context.Context) (int, error) {
			<-ctx.Done()
			told <- context.Cause(ctx)
			return 0, ctx.Err()
		}, func(int) { t.Error("nothing is to be discarded") })
		require.ErrorIs(t, err, lost)
		require.ErrorIs(t, <-told, lost)
	})
}

func TestTalk(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, errStopped)
		defer cancel()
		value, err := Talk(ctx, func(context.Context) (int, error) { return 7, nil }, nil)
		require.NoError(t, err)
		assert.Equal(t, 7, value)
		_, err = Talk(ctx, func(context.Context) (int, error) {
			<-time.After(time.Minute)
			return 7, nil
		}, nil)
		require.ErrorIs(t, err, errStopped)
		<-time.After(time.Minute)
	})
}
