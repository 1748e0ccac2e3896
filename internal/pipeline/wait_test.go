package pipeline

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/checkpoint"
)

var errStop = errors.New("stop")

func keepWell(context.Context) error { return nil }

// interruptible returns what the talk brings, and when.
func TestInterruptible(t *testing.T) {
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
		"it answers":                            {takes: 2 * time.Second, want: 2 * time.Second, value: 7},
		"it fails":                              {takes: 2 * time.Second, fails: errModelKafka, want: 2 * time.Second, err: errModelKafka},
		"it is stopped":                         {takes: 20 * time.Second, stopped: 5 * time.Second, want: 5 * time.Second, err: errStop, discarded: true},
		"it is stopped, and would have failed":  {takes: 20 * time.Second, fails: errModelKafka, stopped: 5 * time.Second, want: 5 * time.Second, err: errStop},
		"it answers before it is stopped":       {takes: 5 * time.Second, stopped: 5*time.Second + time.Millisecond, want: 5 * time.Second, value: 7},
		"what is kept is lost":                  {takes: 20 * time.Second, lost: 7 * time.Second, want: 9 * time.Second, err: lost, discarded: true},
		"what is kept is lost when it answered": {takes: 8 * time.Second, lost: 7 * time.Second, want: 8 * time.Second, value: 7},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				ctx, cancel := context.WithCancelCause(t.Context())
				if test.stopped > 0 {
					time.AfterFunc(test.stopped, func() { cancel(errStop) })
				}
				discarded := make(chan int, 1)
				value, err := interruptible(ctx, func(context.Context) error {
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

// What is kept is looked at every three seconds.
func TestInterruptibleKeeps(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		var kept []time.Duration
		_, err := interruptible(t.Context(), func(context.Context) error {
			kept = append(kept, time.Since(began))
			return nil
		}, func(ctx context.Context) (int, error) {
			pass(ctx, 10*time.Second)
			return 0, nil
		}, func(int) {})
		require.NoError(t, err)
		assert.Equal(t, []time.Duration{3 * time.Second, 6 * time.Second, 9 * time.Second}, kept)
	})
}

// The talk is told that nothing waits for it any more, and why.
func TestInterruptibleTellsTheTalk(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		lost := errors.New("lock is lost")
		told := make(chan error, 1)
		_, err := interruptible(t.Context(), func(context.Context) error { return lost }, func(ctx context.Context) (int, error) {
			<-ctx.Done()
			told <- context.Cause(ctx)
			return 0, ctx.Err()
		}, func(int) { t.Error("nothing is to be discarded") })
		require.ErrorIs(t, err, lost)
		require.ErrorIs(t, <-told, lost)
	})
}

// A take-over that comes too late leaves neither a connection nor the lock of the file
// store behind.
func TestLateHoldingIsClosed(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "checkpoint.json")
	perform(t, func(s *stage) {
		s.config.Checkpoint.Store, s.config.Checkpoint.Path = "file", path
		s.world.kafka.Freeze()
		s.start()
		s.began = time.Now()
		s.at(5 * time.Second)
		s.stop()
		_, err := s.exit()
		require.NoError(s, err)
		pass(s.Context(), time.Minute)
		store, err := checkpoint.OpenFile(path)
		require.NoError(s, err, "the lock is free")
		require.NoError(s, store.Close())
	})
}

// A holding that is taken over after the instance was stopped is closed, with its store
// and its connection.
func TestLateTakeOverClosesWhatItHolds(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "checkpoint.json")
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 0)
		dial := w.connectKafka(&process{world: w})
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Second, func() { cancel(errStop) })
		var late *holding
		_, err := interruptible(ctx, keepWell, func(context.Context) (*holding, error) {
			store, err := checkpoint.OpenFile(path)
			require.NoError(t, err)
			cluster, err := dial(w.config(&process{}).Client)
			require.NoError(t, err)
			<-time.After(10 * time.Second)
			late = &holding{store: store, cluster: cluster}
			return late, nil
		}, (*holding).close)
		require.ErrorIs(t, err, errStop)
		_, err = checkpoint.OpenFile(path)
		require.ErrorContains(t, err, "is in use")
		<-time.After(10 * time.Second)
		synctest.Wait()
		store, err := checkpoint.OpenFile(path)
		require.NoError(t, err, "the lock is free")
		require.NoError(t, store.Close())
		assert.True(t, late.cluster.(*modelKafka).closed)
	})
}

// The lock is looked at while Kafka does not answer a start: without it, the take-over is
// given up, and another instance has the way free.
func TestTakeOverEndsWithTheLock(t *testing.T) {
	t.Parallel()
	perform(t, func(s *stage) {
		s.start()
		s.began = time.Now()
		s.world.kafka.Freeze()
		s.at(5 * time.Second)
		s.otherHolds(true)
		s.until("it stands by", func() bool { return s.pipeline.Status().Phase == Standby })
		assert.LessOrEqual(s, time.Since(s.began), 6500*time.Millisecond, "the ping at 6 s fails")
		s.world.kafka.Thaw()
		s.at(time.Minute)
		assert.Zero(s, s.opened())
		assert.Empty(s, s.ledger.attempts(), "nothing is written without the lock")
	})
}

// A take-over that was left behind does not ask for the producer id: it would end a healthy
// owner without having the lock.
func TestLateTakeOverEndsNoOwner(t *testing.T) {
	t.Parallel()
	perform(t, func(s *stage) {
		s.start()
		s.stop()
		_, _ = s.exit()
		cluster, err := s.world.connectKafka(s.process)(s.config.Client)
		require.NoError(s, err)
		defer cluster.Close()
		clear(s.world.writers)
		ctx, cancel := context.WithCancelCause(s.Context())
		cancel(errStop)
		require.ErrorIs(s, s.pipeline.own(ctx, &holding{cluster: cluster}, checkpoint.Identity{Slot: modelSlotName}), errStop)
		assert.Empty(s, s.world.writers)
	})
}

// sleep tells whether it slept, ring never blocks.
func TestSleepAndRing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		began := time.Now()
		assert.True(t, sleep(ctx, 4*time.Second))
		assert.Equal(t, 4*time.Second, time.Since(began))
		assert.False(t, sleep(ctx, 4*time.Second))
		assert.Equal(t, 5*time.Second, time.Since(began))
		bell := make(chan struct{}, 1)
		ring(bell)
		ring(bell)
		assert.Len(t, bell, 1)
	})
}
