package router

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/internal/kafkatest"
	"github.com/outboxstream/streamer/internal/kafkatest/fake"
)

// A topic that a restarted broker does not know yet is still read back.
func TestReadBackFromAStaleBroker(t *testing.T) {
	t.Parallel()
	const topic = "orders"
	for _, brokers := range []int{1, 3} {
		cluster := fake.Start(t, kfake.NumBrokers(brokers), kfake.SeedTopics(2, topic))
		s := newScribe(t, cluster.Brokers())
		s.ours(topic, 0, 1, 3)
		s.ours(topic, 1, 2)
		cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Metadata}, Topic: topic, Err: kerr.UnknownTopicOrPartition, Count: 1})
		found := s.readBack(readBackOf(map[string]Marks{topic: {Offsets: []int64{0, 0}}}))
		assert.Equal(t, []Landmark{landmark(2, topic, 1), landmark(3, topic, 0)}, found.Landmarks)
		assert.Empty(t, found.Gaps)
		assert.Empty(t, found.Missing)
	}
}

// A missing topic that the checkpoint names is a gap. Its marks stay, because
// it may come back.
func TestReadBackMissingTopic(t *testing.T) {
	t.Parallel()
	cluster := fake.Start(t, kfake.SeedTopics(2, "stays"))
	s := newScribe(t, cluster.Brokers())
	s.ours("stays", 0, 1)
	gone := Marks{ID: "AAAA", Offsets: []int64{7, 9}, Mixed: true}
	marks := map[string]Marks{"stays": {Offsets: []int64{0, 0}}, "gone": gone}
	found := s.readBack(readBackOf(marks))
	assert.NotContains(t, found.Topics, "gone")
	require.Len(t, found.Gaps, 1)
	assert.Contains(t, found.Gaps[0], `topic "gone" no longer exists`)
	gone.Missing = true
	assert.Equal(t, map[string]Marks{"gone": gone}, found.Missing)

	marks["gone"] = gone
	s.client = connected(t, cluster.Brokers())
	s.client.ExpectMissing([]string{"gone"})
	began := time.Now()
	again := s.readBack(readBackOf(marks))
	assert.Less(t, time.Since(began), 2*time.Second)
	assert.Empty(t, again.Gaps, "the gap was reported before")
	assert.Equal(t, found.Missing, again.Missing)

	require.NoError(t, cluster.CreateTopic("gone", 2, nil))
	again = s.readBack(readBackOf(marks))
	assert.Empty(t, again.Missing)
	assert.Equal(t, FoundTopic{ID: again.Topics["gone"].ID, Partitions: make([]FoundPartition, 2)}, again.Topics["gone"])
}

// A broker that knows fewer partitions than the checkpoint lags behind:
// partitions are never removed.
func TestReadBackFewerPartitions(t *testing.T) {
	t.Parallel()
	cluster := kafkatest.Shared(t)
	s := newScribe(t, cluster.Brokers())
	topic := cluster.NewTopic(t, 1, nil)
	described, err := s.client.LookUp(t.Context(), []string{topic})
	require.NoError(t, err)
	_, err = readBackOf(map[string]Marks{topic: {ID: described[topic].ID, Offsets: []int64{0, 0}}}).Read(t.Context(), s.client)
	require.ErrorContains(t, err, "1 of 2 partitions")
}

// A topic that was missing when others were read back may hold published
// events.
func TestProducerOfMissingTopic(t *testing.T) {
	t.Parallel()
	missed := Marks{ID: "A", Offsets: []int64{5, 6}, Mixed: true, Missing: true}
	for name, test := range map[string]struct {
		before, now string // id
		back        bool
	}{
		"the same":         {"A", "A", true},
		"another":          {"A", "B", false},
		"none has an id":   {"", "", true},
		"it has no id now": {"A", "", true},
		"it had no id":     {"", "B", true},
	} {
		inBubble(t, name, func(t *testing.T) {
			m := newModel(1)
			config, marks := someConfig(), missed
			marks.ID = test.before
			config.Found.Missing = map[string]Marks{orders: marks, "other": missed}
			r := newRig(t, m, config)
			time.AfterFunc(10*time.Second, func() {
				m.Lock()
				defer m.Unlock()
				m.Topic(orders, 2).ID = test.now
			})
			assert.Equal(t, config.Found.Missing, r.producer.Marks(commitOf(0)), "checkpoints keep the missing topic")
			err := r.feed(20, 3)
			if test.back {
				require.ErrorIs(t, err, errCameBack)
				require.Equal(t, failure.Transient, failure.ClassOf(err))
				require.Zero(t, r.inKafka())
				assert.Equal(t, config.Found.Missing, r.producer.Marks(commitOf(0)))
				return
			}
			require.NoError(t, err)
			r.requireComplete()
			now := r.producer.Marks(r.tracker.Confirmed())
			assert.Equal(t, missed, now["other"])
			assert.Equal(t, Marks{ID: test.now, Offsets: now[orders].Offsets}, now[orders])
		})
	}
}
