package router

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/IBM/sarama"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/internal/kafkatest/model"
)

const checkpoints = "streamer.checkpoints"

// values returns the values in the partition of the checkpoints.
func (m *modelled) values() (all []string) {
	m.Lock()
	defer m.Unlock()
	for _, r := range m.Topics[checkpoints].Partitions[0].Log {
		all = append(all, string(r.Value))
	}
	return all
}

// The answers after which a record may be in the partition, and the answers
// after which it is not.
var (
	ambiguous = map[string]model.Fault{
		"cut after the append":            {Kind: model.CutAfter},
		"cut before the append":           {Kind: model.CutBefore},
		"handled after the cut":           {Kind: model.Ghost},
		"no answer":                       {Kind: model.Stall},
		"no block in the answer":          {Kind: model.DropBlock},
		"timed out, written":              model.Fail(model.ErrorAfter, sarama.ErrRequestTimedOut),
		"too few replicas after":          model.Fail(model.ErrorAfter, sarama.ErrNotEnoughReplicasAfterAppend),
		"leadership lost, written":        model.Fail(model.ErrorAfter, sarama.ErrNotLeaderForPartition),
		"storage error, written":          model.Fail(model.ErrorAfter, sarama.ErrKafkaStorageError),
		"an error of no name, written":    model.Fail(model.ErrorAfter, sarama.ErrUnknown),
		"an answer of a later Kafka":      model.Fail(model.ErrorAfter, sarama.KError(4711)),
		"refused by the connection":       {Kind: model.RefuseSend},
		"timed out, and nothing is there": model.Fail(model.ErrorBefore, sarama.ErrRequestTimedOut),
	}
	refusals = map[string]model.Fault{
		"invalid":          model.Fail(model.ErrorBefore, sarama.ErrInvalidRecord),
		"too large":        model.Fail(model.ErrorBefore, sarama.ErrMessageSizeTooLarge),
		"against a policy": model.Fail(model.ErrorBefore, sarama.ErrPolicyViolation),
		"not permitted":    model.Fail(model.ErrorBefore, sarama.ErrClusterAuthorizationFailed),
	}
)

// A write that may have happened is given up. If its sequence numbers were
// reused, the next write would be answered as a duplicate and never reach the
// partition.
func TestWriteThatMayHaveHappenedIsGivenUp(t *testing.T) {
	t.Parallel()
	for name, fault := range ambiguous {
		for why, refusal := range refusals {
			inBubble(t, name+", then "+why, func(t *testing.T) {
				m := newModel(1)
				m.Topic(checkpoints, 1)
				m.Faults[model.At(checkpoints, 0, 1)] = fault
				m.Faults[model.At(checkpoints, 0, 2)] = refusal
				r := newRig(t, m, someConfig())
				require.NoError(t, r.producer.Write(t.Context(), checkpoints, 0, nil, []byte("first")))
				err := r.producer.Write(t.Context(), checkpoints, 0, nil, []byte("given up"))
				require.Equal(t, failure.Refused, failure.ClassOf(err))
				m.requireTrue(r, "next")
			})
		}
		inBubble(t, name+", then the topic is unknown", func(t *testing.T) {
			m := newModel(1)
			m.Topic(checkpoints, 1)
			m.Faults[model.At(checkpoints, 0, 1)] = fault
			r := newRig(t, m, someConfig())
			require.NoError(t, r.producer.Write(t.Context(), checkpoints, 0, nil, []byte("first")))
			m.Lock()
			m.RefreshFault = func(string) error { return sarama.ErrUnknownTopicOrPartition }
			m.Unlock()
			err := r.producer.Write(t.Context(), checkpoints, 0, nil, []byte("given up"))
			require.ErrorIs(t, err, sarama.ErrUnknownTopicOrPartition)
			require.Equal(t, failure.Refused, failure.ClassOf(err))
			m.Lock()
			m.RefreshFault = nil
			m.Unlock()
			m.requireTrue(r, "next")
		})
	}
}

// requireTrue writes a value. If Write succeeds, it checks that the value is in
// the partition once. Otherwise it checks that only a new producer session
// continues.
func (m *modelled) requireTrue(r *rig, value string) {
	r.Helper()
	began := time.Now()
	err := r.producer.Write(r.Context(), checkpoints, 0, nil, []byte(value))
	if err == nil {
		require.Equal(r, value, m.values()[len(m.values())-1], "a successful write is in the partition")
		return
	}
	require.ErrorIs(r, err, ErrSequenceLost)
	require.Less(r, time.Since(began), time.Second, "at once")
	require.ErrorIs(r, r.producer.Err(), ErrSequenceLost)
	require.Equal(r, failure.Transient, failure.ClassOf(r.producer.Err()), "a new session helps")
	require.Equal(r, failure.Transient, failure.ClassOf(err))
	pass(5 * time.Minute) // everything on its way arrives
	require.NotContains(r, m.values(), value)
	r.end()
	r.begin()
	require.NoError(r, r.producer.Write(r.Context(), checkpoints, 0, nil, []byte(value)))
	require.Equal(r, value, m.values()[len(m.values())-1])
}

// A write queued after a write that may have happened fails at once.
func TestWritesBehindOneThatIsGivenUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newModel(1)
		m.Topic(checkpoints, 1)
		m.Faults[model.At(checkpoints, 0, 0)] = model.Fault{Kind: model.CutAfter}
		m.Faults[model.At(checkpoints, 0, 1)] = refusals["invalid"]
		r := newRig(t, m, someConfig())
		answers := make(chan error, 3)
		for i := range 3 {
			go func() { answers <- r.producer.Write(t.Context(), checkpoints, 0, nil, []byte{'a' + byte(i)}) }()
			synctest.Wait()
		}
		began, lost := time.Now(), 0
		for range 3 {
			if err := <-answers; errors.Is(err, ErrSequenceLost) {
				lost++
			}
		}
		assert.Equal(t, 2, lost, "the first write has its own reason")
		assert.Less(t, time.Since(began), time.Second)
		assert.Equal(t, []string{"a"}, m.values())
	})
}

// A write whose sequence numbers certainly were not used leaves them to the
// next write.
func TestWriteThatDidNotHappen(t *testing.T) {
	t.Parallel()
	for name, refusal := range refusals {
		inBubble(t, name, func(t *testing.T) {
			m := newModel(1)
			m.Topic(checkpoints, 1)
			m.Faults[model.At(checkpoints, 0, 1)] = model.Fail(model.ErrorBefore, sarama.ErrNotEnoughReplicas)
			m.Faults[model.At(checkpoints, 0, 2)] = refusal
			r := newRig(t, m, someConfig())
			require.NoError(t, r.producer.Write(t.Context(), checkpoints, 0, nil, []byte("first")))
			err := r.producer.Write(t.Context(), checkpoints, 0, nil, []byte("given up"))
			require.Equal(t, failure.Refused, failure.ClassOf(err))
			require.NoError(t, r.producer.Write(t.Context(), checkpoints, 0, nil, []byte("next")))
			require.NoError(t, r.producer.Err())
			assert.Equal(t, []string{"first", "next"}, m.values())
		})
	}
}

// A write whose caller has gone is no longer sent. Writes that were on their
// way arrive in the order of their calls: no older value is ever written after
// a newer one.
func TestWriteWithoutItsCaller(t *testing.T) {
	t.Parallel()
	write := func(r *rig, value string, patience time.Duration) error {
		ctx, cancel := context.WithTimeout(r.Context(), patience)
		defer cancel()
		return r.producer.Write(ctx, checkpoints, 0, nil, []byte(value))
	}
	inBubble(t, "it was not sent", func(t *testing.T) {
		m := newModel(1)
		m.Topic(checkpoints, 1)
		r := newRig(t, m, someConfig())
		m.Topics[checkpoints].Partitions[0].SetLeader(-1)
		for _, value := range []string{"a", "b", "c"} {
			require.ErrorIs(t, write(r, value, time.Second), context.DeadlineExceeded)
		}
		m.Lock()
		m.Topics[checkpoints].Partitions[0].SetLeader(0)
		m.Unlock()
		pass(time.Minute)
		require.NoError(t, write(r, "next", time.Minute))
		assert.Equal(t, []string{"next"}, m.values())
	})
	inBubble(t, "it was sent", func(t *testing.T) {
		m := newModel(1)
		m.Topic(checkpoints, 1)
		m.Faults[model.At(checkpoints, 0, 1)] = model.Fault{Kind: model.Slow}
		r := newRig(t, m, someConfig())
		require.NoError(t, write(r, "first", time.Minute))
		require.ErrorIs(t, write(r, "late", time.Second), context.DeadlineExceeded)
		require.NoError(t, write(r, "next", time.Minute))
		assert.Equal(t, []string{"first", "late", "next"}, m.values())
	})
	inBubble(t, "it has gone before", func(t *testing.T) {
		m := newModel(1)
		m.Topic(checkpoints, 1)
		r := newRig(t, m, someConfig())
		require.ErrorIs(t, write(r, "never", -time.Second), context.DeadlineExceeded)
		pass(time.Minute)
		assert.Empty(t, m.values())
	})
}
