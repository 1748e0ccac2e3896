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
	"github.com/outboxstream/streamer/internal/wait"
)

var errStop = errors.New("stop")

// A take-over that finishes too late leaves neither a connection nor the lock
// of the file store behind.
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

// A holding taken over after the instance was stopped is closed, with its store
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
		_, err := wait.Talk(ctx, func(context.Context) (*holding, error) {
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

// The lock is checked while Kafka does not answer a start. Without the lock,
// the take-over is abandoned, and another instance can proceed.
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

// An abandoned take-over does not request the producer ID: it would end a
// healthy owner without having the lock.
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
		require.ErrorIs(s, s.pipeline.becomeOwner(ctx, &holding{cluster: cluster}, checkpoint.Identity{Slot: modelSlotName}), errStop)
		assert.Empty(s, s.world.writers)
	})
}

// wait.For reports whether it waited to the end. ring never blocks.
func TestSleepAndRing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		began := time.Now()
		assert.True(t, wait.For(ctx, 4*time.Second))
		assert.Equal(t, 4*time.Second, time.Since(began))
		assert.False(t, wait.For(ctx, 4*time.Second))
		assert.Equal(t, 5*time.Second, time.Since(began))
		bell := make(chan struct{}, 1)
		ring(bell)
		ring(bell)
		assert.Len(t, bell, 1)
	})
}
