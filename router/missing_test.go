package router

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/outboxstream/streamer/decoder"
	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/internal/kafkatest"
	"github.com/outboxstream/streamer/internal/kafkatest/fake"
)

// stale are brokers that do not know a topic that exists, as one that has just
// restarted may for a moment.
var stale = map[string]struct {
	brokers int
	fault   kfake.Fault
}{
	"the only broker, once":    {1, kfake.Fault{Count: 1}},
	"the only broker, thrice":  {1, kfake.Fault{Count: 3}},
	"any of three, once":       {3, kfake.Fault{Count: 1}},
	"one of three, for long":   {3, kfake.Fault{Count: -1, Nodes: []int32{0}}},
	"another of three, longer": {3, kfake.Fault{Count: -1, Nodes: []int32{1}}},
	"two of three, for long":   {3, kfake.Fault{Count: -1, Nodes: []int32{0, 2}}},
}

// What a broker says does not exist is believed only when it is confirmed.
func TestStaleBroker(t *testing.T) {
	t.Parallel()
	const topic = "orders"
	for name, test := range stale {
		for what, ask := range map[string]func(*testing.T, *scribe){
			"fence": func(t *testing.T, s *scribe) {
				t.Helper()
				existing, err := s.client.Existing([]string{topic, "other"})
				require.NoError(t, err)
				assert.Equal(t, map[string][]int32{topic: {0, 1}, "other": {0, 1}}, existing)
			},
			"measure": func(t *testing.T, s *scribe) {
				t.Helper()
				ends, err := s.client.Ends(t.Context(), []string{topic})
				require.NoError(t, err)
				assert.Equal(t, map[string]map[int32]int64{topic: {0: 2, 1: 1}}, ends)
			},
			"read back": func(t *testing.T, s *scribe) {
				t.Helper()
				found := s.readBack(readBackOf(map[string]Marks{topic: {Offsets: []int64{0, 0}}}))
				assert.Equal(t, []Landmark{landmark(2, topic, 1), landmark(3, topic, 0)}, found.Landmarks)
				assert.Empty(t, found.Gaps)
				assert.Empty(t, found.Missing)
			},
			"renew the fence": func(t *testing.T, s *scribe) {
				t.Helper()
				o := &Owner{Client: s.client}
				left, err := o.existing(partitionsOf(topic, 2))
				require.NoError(t, err)
				assert.Equal(t, partitionsOf(topic, 2), left)
			},
			"admit": func(t *testing.T, s *scribe) {
				t.Helper()
				found, err := (&Owner{Client: s.client}).Admit(topic, 2)
				require.NoError(t, err)
				assert.NotEmpty(t, found.TopicID)
			},
			"does it exist": func(t *testing.T, s *scribe) {
				t.Helper()
				existing, err := s.client.Exist(topic)
				require.NoError(t, err)
				assert.Equal(t, []string{topic}, existing)
			},
			"scan": func(t *testing.T, s *scribe) {
				t.Helper()
				logs, err := s.client.Logs(t.Context(), topic)
				require.NoError(t, err)
				assert.Len(t, logs, 2)
			},
			"dead letters": func(t *testing.T, s *scribe) {
				t.Helper()
				spans, err := s.client.whole(t.Context(), topic)
				require.NoError(t, err)
				assert.Len(t, spans, 2)
				_, err = Letters(t.Context(), s.client, topic, map[decoder.Attribute]string{})
				require.NoError(t, err)
			},
		} {
			t.Run(name+", "+what, func(t *testing.T) {
				t.Parallel()
				cluster := fake.Start(t, kfake.NumBrokers(test.brokers), kfake.SeedTopics(2, topic, "other"))
				s := newScribe(t, cluster.Brokers())
				s.ours(topic, 0, 1, 3)
				s.ours(topic, 1, 2)
				fault := test.fault
				fault.Keys, fault.Topic, fault.Err = []kmsg.Key{kmsg.Metadata}, topic, kerr.UnknownTopicOrPartition
				cluster.Fault(fault)
				ask(t, s)
			})
		}
	}
}

// A topic that is gone costs some seconds, once.
func TestMissingTopicIsConfirmedOnce(t *testing.T) {
	t.Parallel()
	cluster := fake.Start(t, kfake.SeedTopics(2, "orders"))
	s := newScribe(t, cluster.Brokers())
	began := time.Now()
	existing, err := s.client.Existing([]string{"orders", "gone"})
	require.NoError(t, err)
	assert.Equal(t, partitionsOf("orders", 2), existing)
	took := time.Since(began)
	assert.GreaterOrEqual(t, took, confirmation)
	began = time.Now()
	for range 3 {
		existing, err = s.client.Existing([]string{"orders", "gone"})
		require.NoError(t, err)
		assert.Equal(t, partitionsOf("orders", 2), existing)
	}
	assert.Less(t, time.Since(began), took/2, "what is confirmed is believed")

	require.NoError(t, cluster.CreateTopic("gone", 1, nil))
	existing, err = s.client.Existing([]string{"gone"})
	require.NoError(t, err)
	assert.Equal(t, partitionsOf("gone", 1), existing)
	require.NoError(t, cluster.DeleteTopic("gone"))
	began = time.Now()
	_, err = s.client.Existing([]string{"gone"})
	require.NoError(t, err)
	assert.GreaterOrEqual(t, time.Since(began), confirmation, "it was there meanwhile")

	s.client.ExpectMissing([]string{"former"}) // a checkpoint says so
	began = time.Now()
	existing, err = s.client.Existing([]string{"orders", "former"})
	require.NoError(t, err)
	assert.Equal(t, partitionsOf("orders", 2), existing)
	assert.Less(t, time.Since(began), confirmation/2)
}

// While most brokers do not answer, nothing is known.
func TestMissingTopicWithoutMostBrokers(t *testing.T) {
	t.Parallel()
	cluster := fake.Start(t, kfake.SeedTopics(2, "orders"))
	s := newScribe(t, cluster.Brokers())
	asked := 0
	cluster.ControlKey(int16(kmsg.Metadata), func(kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		if asked++; asked <= 2 || cluster.CurrentNode() == 0 {
			return nil, nil, false
		}
		return nil, errors.New("hung up"), true
	})
	_, err := s.client.Existing([]string{"gone"})
	require.ErrorContains(t, err, `topic "gone"`)
	require.ErrorContains(t, err, "1 of 3 brokers")
}

// Before a checkpoint topic is created it is there already, whatever a broker has
// said, and it need not be ours to create.
func TestStaleBrokerAndCheckpointTopic(t *testing.T) {
	t.Parallel()
	for name, test := range stale {
		for _, mayCreate := range []bool{true, false} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				cluster := fake.Start(t, kfake.NumBrokers(test.brokers))
				require.NoError(t, cluster.CreateTopic(checkpoints, 1, map[string]string{"cleanup.policy": "compact"}))
				id := cluster.TopicInfo(checkpoints).TopicID
				client := connect(t, clientConfig(cluster.Brokers()))
				fault := test.fault
				fault.Keys, fault.Topic, fault.Err = []kmsg.Key{kmsg.Metadata}, checkpoints, kerr.UnknownTopicOrPartition
				cluster.Fault(fault)
				if !mayCreate {
					cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.CreateTopics}, Topic: checkpoints, Err: kerr.TopicAuthorizationFailed, Count: -1})
				}
				topic := NewCompactedTopic(client, checkpoints)
				require.NoError(t, topic.Ensure(t.Context(), 1))
				assert.Equal(t, id, cluster.TopicInfo(checkpoints).TopicID)
			})
		}
	}
}

// A topic that the checkpoint names and that is gone is a gap, and its marks stay:
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
	assert.Contains(t, found.Gaps[0], `topic "gone" does not exist`)
	gone.Missing = true
	assert.Equal(t, map[string]Marks{"gone": gone}, found.Missing)

	marks["gone"] = gone
	s.client = connect(t, clientConfig(cluster.Brokers()))
	s.client.ExpectMissing([]string{"gone"})
	began := time.Now()
	again := s.readBack(readBackOf(marks))
	assert.Less(t, time.Since(began), confirmation/2)
	assert.Empty(t, again.Gaps, "it was said before")
	assert.Equal(t, found.Missing, again.Missing)

	require.NoError(t, cluster.CreateTopic("gone", 2, nil))
	again = s.readBack(readBackOf(marks))
	assert.Empty(t, again.Missing)
	assert.Equal(t, FoundTopic{ID: again.Topics["gone"].ID, Partitions: make([]FoundPartition, 2)}, again.Topics["gone"])
}

// A broker that knows fewer partitions than the checkpoint is behind: they are
// never taken away.
func TestReadBackFewerPartitions(t *testing.T) {
	t.Parallel()
	cluster := kafkatest.Shared(t)
	s := newScribe(t, cluster.Brokers())
	topic := cluster.NewTopic(t, 1, nil)
	described, err := s.client.topicIDs([]string{topic})
	require.NoError(t, err)
	_, err = readBackOf(map[string]Marks{topic: {ID: described[topic].id, Offsets: []int64{0, 0}}}).Read(t.Context(), s.client)
	require.ErrorContains(t, err, "1 of 2 partitions")
}

// A topic that was missing when others were read back may hold what was published.
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
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
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
				assert.Equal(t, config.Found.Missing, r.producer.Marks(commitOf(0)), "checkpoints keep it")
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
		})
	}
}
