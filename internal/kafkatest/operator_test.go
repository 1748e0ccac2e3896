package kafkatest_test

import (
	"io"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/internal/kafkatest"
	"github.com/outboxstream/streamer/internal/testserver"
)

const patience = 60 * time.Second

func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	require.Eventually(t, condition, patience, 50*time.Millisecond, what)
}

func leader(t *testing.T, c *kafkatest.Cluster, topic string) int {
	t.Helper()
	partitions, err := c.Partitions(topic)
	require.NoError(t, err)
	return partitions[0].Leader
}

func TestLeaders(t *testing.T) { //nolint:tparallel // one after the other, on one cluster
	testserver.Long(t)
	t.Parallel()
	cluster := kafkatest.New(t, kafkatest.Options{Brokers: 3})
	topic := cluster.NewTopic(t, 2, map[string]string{"min.insync.replicas": "1"})
	t.Run("a partition's leader moves where it is told to", func(t *testing.T) {
		for _, to := range []int{2, 0, 1, 1} {
			require.NoError(t, cluster.MoveLeader(t.Context(), topic, 0, to))
			assert.Equal(t, to, leader(t, cluster, topic))
			require.NoError(t, produce(t, cluster, "", message(topic, 0, "moved")))
		}
	})
	t.Run("a coordinator moves and gives the next epoch", func(t *testing.T) {
		id, epoch, err := cluster.TakeOver(t.Context(), "streamer-one", 1)
		require.NoError(t, err)
		for i, to := range []int{2, 0} {
			require.NoError(t, cluster.MoveCoordinator(t.Context(), "streamer-one", to))
			now, err := cluster.Coordinator("streamer-one")
			require.NoError(t, err)
			assert.Equal(t, to, now)
			sameID, next, err := cluster.TakeOver(t.Context(), "streamer-one", 1)
			require.NoError(t, err)
			assert.Equal(t, id, sameID)
			assert.Equal(t, epoch+int16(i)+1, next)
		}
	})
	t.Run("a leader that was not in sync loses what was acknowledged", func(t *testing.T) {
		const last, behind = 0, 1
		require.NoError(t, cluster.Reassign(t.Context(), topic, 0, last, behind))
		require.NoError(t, cluster.MoveLeader(t.Context(), topic, 0, last))
		require.NoError(t, cluster.KillBroker(behind))
		eventually(t, "one is out of sync", func() bool {
			partitions, err := cluster.Partitions(topic)
			return err == nil && slices.Equal(partitions[0].InSync, []int{last})
		})
		require.NoError(t, produce(t, cluster, "", message(topic, 0, "acknowledged by one")))
		require.NoError(t, cluster.KillBroker(last))
		require.NoError(t, cluster.StartBroker(t.Context(), behind))
		require.NoError(t, cluster.ElectUnclean(t.Context(), topic, 0))
		assert.Equal(t, behind, leader(t, cluster, topic))
		got, err := cluster.Consume(t.Context(), topic)
		require.NoError(t, err)
		assert.Contains(t, values(got), "moved")
		assert.NotContains(t, values(got), "acknowledged by one")
	})
}

// through is a proxy that serves one connection after the other and counts
// them.
func through(t *testing.T, target string) (address string, connections func() int) {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { listener.Close() })
	var count atomic.Int64
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			count.Add(1)
			server, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", target)
			if err != nil {
				client.Close()
				continue
			}
			go func() { _, _ = io.Copy(server, client); server.Close() }()
			go func() { _, _ = io.Copy(client, server); client.Close() }()
		}
	}()
	return listener.Addr().String(), func() int { return int(count.Load()) }
}

func TestProxied(t *testing.T) {
	testserver.Long(t)
	t.Parallel()
	var connections func() int
	cluster := kafkatest.New(t, kafkatest.Options{Proxied: func(_ int, listener string) (address string, err error) {
		address, connections = through(t, listener)
		return address, nil
	}})
	topic := cluster.NewTopic(t, 1, nil)
	require.NoError(t, produce(t, cluster, "", message(topic, 0, "directly")))
	assert.Zero(t, connections())
	got, err := kafkatest.Consume(t.Context(), cluster.ProxiedBrokers(), topic)
	require.NoError(t, err)
	assert.Equal(t, []string{"directly"}, values(got))
	assert.Positive(t, connections())
}

func TestOperator(t *testing.T) { //nolint:tparallel // as above
	testserver.Long(t)
	t.Parallel()
	cluster := kafkatest.New(t, kafkatest.Options{
		Authorizer: true, Users: map[string]string{"alice": "secret"}, DiskBytes: 64 << 20,
		Settings: kafkatest.ForgetfulSettings(3 * time.Second),
	})
	require.NoError(t, cluster.AllowAll(t.Context(), "alice"))
	t.Run("a topic grows, goes and comes again", func(t *testing.T) {
		topic := cluster.NewTopic(t, 1, nil)
		require.NoError(t, cluster.AddPartitions(t.Context(), topic, 3))
		require.NoError(t, produce(t, cluster, "alice", message(topic, 2, "first")))
		require.NoError(t, cluster.DeleteTopic(t.Context(), topic))
		require.Error(t, produce(t, cluster, "alice", message(topic, 0, "gone")))
		require.NoError(t, cluster.CreateTopic(t.Context(), topic, 1, nil))
		got, err := cluster.Consume(t.Context(), topic)
		require.NoError(t, err)
		assert.Empty(t, got)
		for range 10 {
			require.NoError(t, cluster.AddPartitions(t.Context(), topic, 8))
			require.NoError(t, cluster.DeleteTopic(t.Context(), topic))
			require.NoError(t, cluster.CreateTopic(t.Context(), topic, 1, nil), "at once")
		}
	})
	t.Run("a setting changes and goes back", func(t *testing.T) {
		topic := cluster.NewTopic(t, 1, nil)
		large := message(topic, 0, strings.Repeat("x", 3000))
		require.NoError(t, cluster.SetTopic(t.Context(), topic, "max.message.bytes", "2000"))
		require.ErrorIs(t, sendError(produce(t, cluster, "alice", large)), sarama.ErrMessageSizeTooLarge)
		require.NoError(t, cluster.SetTopic(t.Context(), topic, "max.message.bytes", ""))
		require.NoError(t, produce(t, cluster, "alice", large))
	})
	t.Run("a right is withdrawn and given back", func(t *testing.T) {
		topic := cluster.NewTopic(t, 1, nil)
		resource := sarama.Resource{ResourceType: sarama.AclResourceTopic, ResourceName: topic, ResourcePatternType: sarama.AclPatternLiteral}
		require.NoError(t, cluster.Deny(t.Context(), "alice", resource, sarama.AclOperationWrite))
		require.ErrorIs(t, sendError(produce(t, cluster, "alice", message(topic, 0, "denied"))), sarama.ErrTopicAuthorizationFailed)
		require.NoError(t, cluster.LiftDenial(t.Context(), "alice", resource, sarama.AclOperationWrite))
		require.NoError(t, produce(t, cluster, "alice", message(topic, 0, "allowed")))
		require.Error(t, cluster.LiftDenial(t.Context(), "alice", resource, sarama.AclOperationWrite))
	})
	t.Run("a client that sends too much is told to wait", func(t *testing.T) {
		topic := cluster.NewTopic(t, 1, nil)
		require.NoError(t, cluster.ThrottleProducers(1000))
		config := cluster.Config("alice")
		config.ClientID = "greedy"
		eventually(t, "the broker names a pause", func() bool { return throttled(t, cluster, config, topic) })
		require.NoError(t, cluster.ThrottleProducers(0))
	})
	t.Run("an idle transactional id is forgotten", func(t *testing.T) {
		first, _, err := cluster.TakeOver(t.Context(), "idle", 1)
		require.NoError(t, err)
		same, epoch, err := cluster.TakeOver(t.Context(), "idle", 1)
		require.NoError(t, err)
		assert.Equal(t, first, same)
		assert.EqualValues(t, 1, epoch)
		// Polling keeps it alive, so the pauses are longer than its lifetime.
		require.Eventually(t, func() bool {
			other, epoch, err := cluster.TakeOver(t.Context(), "idle", 1)
			return err == nil && other != first && epoch == 0
		}, patience, 6*time.Second)
	})
	t.Run("a full disk ends the broker, and it starts again when there is room", func(t *testing.T) {
		topic := cluster.NewTopic(t, 1, nil)
		require.NoError(t, produce(t, cluster, "alice", message(topic, 0, "kept")))
		require.NoError(t, cluster.FillDisk(0))
		for range 100 { // until the rest of the last block is written
			if produce(t, cluster, "alice", message(topic, 0, strings.Repeat("y", 10_000))) != nil {
				break
			}
		}
		eventually(t, "the broker has ended", func() bool { return !runs(cluster.PID(0)) })
		require.NoError(t, cluster.FreeDisk(0))
		require.NoError(t, cluster.StartBroker(t.Context(), 0))
		got, err := cluster.Consume(t.Context(), topic)
		require.NoError(t, err)
		assert.Contains(t, values(got), "kept")
	})
}

func TestTransactionalIDs(t *testing.T) {
	testserver.Long(t)
	t.Parallel()
	cluster := kafkatest.New(t, kafkatest.Options{Settings: kafkatest.ForgetfulSettings(3 * time.Second)})
	for _, id := range []string{"one", "another", "one"} {
		_, _, err := cluster.TakeOver(t.Context(), id, 1)
		require.NoError(t, err)
	}
	ids, err := cluster.TransactionalIDs(t.Context())
	require.NoError(t, err)
	assert.ElementsMatch(t, []string{"one", "another"}, ids)
	eventually(t, "the brokers have forgotten both", func() bool {
		ids, err = cluster.TransactionalIDs(t.Context())
		return err == nil && len(ids) == 0
	})
}

// throttled sends 10 kB and reports whether the answer contains a throttle
// time.
func throttled(t *testing.T, cluster *kafkatest.Cluster, config *sarama.Config, topic string) bool {
	t.Helper()
	config.Producer.Return.Successes = true
	broker := sarama.NewBroker(cluster.Brokers()[0])
	require.NoError(t, broker.Open(config))
	defer broker.Close()
	batch := &sarama.RecordBatch{
		Version: 2, ProducerID: -1, ProducerEpoch: -1, FirstSequence: -1, FirstTimestamp: time.Now(), MaxTimestamp: time.Now(),
		Records: []*sarama.Record{{Value: make([]byte, 10_000)}},
	}
	request := &sarama.ProduceRequest{RequiredAcks: sarama.WaitForAll, Timeout: 5000, Version: 3}
	request.AddBatch(topic, 0, batch)
	answer, err := broker.Produce(request)
	require.NoError(t, err)
	return answer.ThrottleTime > 0
}
