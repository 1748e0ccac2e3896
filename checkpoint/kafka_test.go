package checkpoint_test

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/checkpoint"
	"github.com/outboxstream/streamer/internal/failure"
)

// memoryLog is a compacted topic in memory.
type memoryLog struct {
	mu     sync.Mutex
	values map[string][]byte
	err    error
}

func (l *memoryLog) Name() string { return "checkpoints" }

func (l *memoryLog) Last(_ context.Context, key []byte) ([]byte, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.values[string(key)], l.err
}

func (l *memoryLog) Find(_ context.Context, matches func([]byte) bool) (value []byte, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for key, v := range l.values {
		if matches([]byte(key)) {
			value = v
		}
	}
	return value, l.err
}

func (l *memoryLog) Append(_ context.Context, key, value []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err == nil {
		l.values[string(key)] = value
	}
	return l.err
}

func (l *memoryLog) fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.err = err
}

func memoryPlace(*testing.T) place {
	log := &memoryLog{values: map[string][]byte{}}
	return place{
		named: `topic "checkpoints"`,
		open:  func(*testing.T) checkpoint.Store { return checkpoint.NewKafka(log) },
		plant: func(_ *testing.T, id checkpoint.Identity, stored string) { log.values[id.Key()] = []byte(stored) },
		fail: func(*testing.T) (repair func()) {
			log.fail(errors.New("leader not available"))
			return func() { log.fail(nil) }
		},
	}
}

func TestKafkaStore(t *testing.T) {
	t.Parallel()
	conform(t, memoryPlace, memoryPlace)
	t.Run("a renamed database", func(t *testing.T) {
		t.Parallel()
		findsFormer(t, checkpoint.NewKafka(&memoryLog{values: map[string][]byte{}}))
	})
	t.Run("the class of the log's error is kept", func(t *testing.T) {
		t.Parallel()
		log := &memoryLog{err: failure.Refuse(errors.New("not authorised"))}
		store := checkpoint.NewKafka(log)
		_, err := store.Load(t.Context(), ours)
		require.ErrorIs(t, err, log.err)
		require.Equal(t, failure.Refused, failure.ClassOf(err))
		require.Equal(t, failure.Refused, failure.ClassOf(store.Save(t.Context(), record(1))))
	})
}
