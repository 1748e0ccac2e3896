package router

import (
	"errors"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/internal/kafkatest"
	"github.com/outboxstream/streamer/internal/testserver"
	"github.com/outboxstream/streamer/router/kafka"
)

// The streamer itself, and its checkpoints.
func TestFencedProducer(t *testing.T) {
	t.Parallel()
	cluster := kafkatest.Shared(t)
	id := kafkatest.TopicName(t)
	rules := someRules()
	rules.Tables[0].Topic = cluster.NewTopic(t, 3, nil)
	checkpoints := cluster.NewTopic(t, 1, map[string]string{"cleanup.policy": "compact"})
	old := owning(t, cluster.Brokers(), id)
	require.NoError(t, old.Fence(t.Context(), firstPartitions(checkpoints, 1)))
	r := newOwnedRig(t, old, rules)
	require.NoError(t, r.feed(50, 7))
	require.NoError(t, r.settle())
	require.NoError(t, r.producer.Write(t.Context(), checkpoints, 0, []byte("slot"), []byte("old")))

	successor := owning(t, cluster.Brokers(), id)
	all := firstPartitions(rules.Tables[0].Topic, 3)
	all[checkpoints] = []int32{0}
	require.NoError(t, successor.Fence(t.Context(), all))
	err := r.feed(50, 7)
	if err == nil {
		err = r.settle()
	}
	require.ErrorIs(t, err, kafka.ErrFenced)
	require.ErrorIs(t, err, sarama.ErrInvalidProducerEpoch)
	assert.Equal(t, failure.Transient, failure.ClassOf(err), "another tenure may succeed")
	require.ErrorIs(t, r.producer.Write(t.Context(), checkpoints, 0, []byte("slot"), []byte("zombie")), kafka.ErrFenced)

	value, err := kafka.NewCompactedTopic(successor.Client, checkpoints).Last(t.Context(), []byte("slot"))
	require.NoError(t, err)
	assert.Equal(t, "old", string(value))
	messages, err := cluster.Consume(t.Context(), rules.Tables[0].Topic)
	require.NoError(t, err)
	assert.Len(t, messages, 50)
}

// newOwnedRig returns a rig whose producer writes as the owner.
func newOwnedRig(t *testing.T, o *kafka.Owner, rules Rules) *rig {
	t.Helper()
	r := &rig{T: t, cluster: o, close: o.Close, config: liveConfig(), rules: rules, notified: make(chan struct{}, 1)}
	r.shift = time.Since(time.UnixMicro(numbered(0, "", "").CommitTime))
	r.begin()
	return r
}

// Brokers forget soon here. An owner that renews stays, and an owner that
// cannot renew stops by itself. A successor that starts after everything was
// forgotten can tell.
func TestBrokersForget(t *testing.T) {
	testserver.Long(t)
	t.Parallel()
	if testing.Short() {
		t.Skip("starts its own Kafka cluster")
	}
	const expiry = 12 * time.Second
	cluster := kafkatest.New(t, kafkatest.Options{Settings: kafkatest.ForgetfulSettings(expiry)})
	rules := someRules()
	rules.Tables[0].Topic = cluster.NewTopic(t, 2, nil)

	diligent := owning(t, cluster.Brokers(), "diligent")
	assert.Equal(t, expiry, diligent.Remembers())
	works := newOwnedRig(t, diligent, rules)
	works.config.MetadataInterval = time.Hour // renewals do not depend on it
	lazy := owning(t, cluster.Brokers(), "lazy")
	id, _ := lazy.ID()
	stops := newOwnedRig(t, lazy, rules)
	stops.end()
	lazy = owning(t, cluster.Brokers(), "lazy")
	stops = &rig{T: t, cluster: failingRenewals{lazy}, close: lazy.Close, config: liveConfig(), rules: rules, notified: make(chan struct{}, 1)}
	stops.begin()

	require.NoError(t, works.feed(1, 1))
	require.NoError(t, works.settle())
	fenced := time.Now() // or a moment later
	require.NoError(t, stops.feed(1, 1))
	require.NoError(t, stops.settle())
	var err error
	for deadline := time.Now().Add(2 * time.Minute); err == nil && time.Now().Before(deadline); {
		require.NoError(t, works.feed(1, 1))
		require.NoError(t, works.settle())
		if err = stops.feed(1, 1); err == nil {
			err = stops.settle()
		}
	}
	require.ErrorIs(t, err, kafka.ErrLapsed)
	require.ErrorIs(t, stops.producer.Err(), kafka.ErrLapsed)
	assert.Greater(t, time.Since(fenced), expiry/2)

	for deadline := time.Now().Add(3 * time.Minute); ; {
		require.True(t, time.Now().Before(deadline), "transactional id is never forgotten")
		require.NoError(t, works.feed(1, 1))
		require.NoError(t, works.settle())
		if time.Since(fenced) > expiry+3*time.Second {
			break
		}
	}
	var other int64
	require.Eventually(t, func() bool {
		// Each attempt refreshes the id, unless it was forgotten.
		other, _ = owning(t, cluster.Brokers(), "lazy").ID()
		return other != id
	}, time.Minute, expiry+4*time.Second)
	assert.NotEqual(t, id, other, "a successor gets another producer id")
	require.NoError(t, diligent.Lapsed())
	require.NoError(t, works.feed(10, 3))
	require.NoError(t, works.settle())
	before, _ := diligent.ID()
	after, _ := owning(t, cluster.Brokers(), "diligent").ID()
	assert.Equal(t, before, after)
}

// failingRenewals is an owner whose fence can no longer be renewed.
type failingRenewals struct{ *kafka.Owner }

func (f failingRenewals) Renew() (time.Duration, error) {
	return time.Second, errors.New("coordinator is on holiday")
}
