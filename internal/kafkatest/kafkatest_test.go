package kafkatest_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/outboxstream/streamer/internal/kafkatest"
	"github.com/outboxstream/streamer/internal/kafkatest/fake"
	"github.com/outboxstream/streamer/internal/testserver"
)

func TestMain(m *testing.M) {
	if os.Getenv("KAFKATEST_HELPER") == "1" {
		startAndWait()
		return
	}
	os.Exit(kafkatest.Main(m))
}

// startAndWait is the process that TestBrokerEndsWithItsParent kills.
func startAndWait() {
	cluster, err := kafkatest.Start(context.Background(), kafkatest.Options{})
	if err != nil {
		fmt.Println("error:", err)
		return
	}
	fmt.Println(cluster.PID(0), clusterFolder(cluster))
	select {}
}

func clusterFolder(c *kafkatest.Cluster) string { return filepath.Dir(filepath.Dir(c.DataDir(0))) }

func produce(t *testing.T, c *kafkatest.Cluster, user string, messages ...*sarama.ProducerMessage) error {
	t.Helper()
	config := c.Config(user)
	config.Producer.Return.Successes = true
	config.Producer.RequiredAcks = sarama.WaitForAll
	config.Producer.Partitioner = sarama.NewManualPartitioner
	producer, err := sarama.NewSyncProducer(c.Brokers(), config)
	if err != nil {
		return err
	}
	defer producer.Close()
	return producer.SendMessages(messages)
}

func message(topic string, partition int32, value string) *sarama.ProducerMessage {
	return &sarama.ProducerMessage{
		Topic: topic, Partition: partition, Key: sarama.StringEncoder("key"), Value: sarama.StringEncoder(value),
		Headers: []sarama.RecordHeader{{Key: []byte("b"), Value: []byte("2")}, {Key: []byte("a"), Value: []byte("1")}},
	}
}

func values(messages []*sarama.ConsumerMessage) (values []string) {
	for _, m := range messages {
		values = append(values, string(m.Value))
	}
	return values
}

// runs reports whether the process exists and is no zombie. In a container
// nothing may collect zombies.
func runs(pid int) bool {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !strings.Contains(string(status), ") Z ")
}

func TestConsume(t *testing.T) {
	cluster := kafkatest.Shared(t)
	topic := cluster.NewTopic(t, 2, map[string]string{"compression.type": "lz4"})
	require.Same(t, cluster, kafkatest.Shared(t))

	none, err := kafkatest.Consume(t.Context(), cluster.Brokers(), topic)
	require.NoError(t, err)
	assert.Empty(t, none)

	var sent []*sarama.ProducerMessage
	for i := range 5 {
		sent = append(sent, message(topic, int32(1-i%2), strconv.Itoa(i)))
	}
	require.NoError(t, produce(t, cluster, "", sent...))
	got, err := kafkatest.Consume(t.Context(), cluster.Brokers(), topic)
	require.NoError(t, err)
	assert.Equal(t, []string{"1", "3", "0", "2", "4"}, values(got))
	assert.Equal(t, topic+`/0@0 key="key" b="2" a="1" value="1"`, kafkatest.String(got[0]))
	assert.Equal(t, 5, strings.Count(kafkatest.Dump(got), "\n"))

	_, err = kafkatest.Consume(t.Context(), cluster.Brokers(), kafkatest.TopicName(t))
	require.ErrorIs(t, err, sarama.ErrUnknownTopicOrPartition)
}

// The last offset of such a partition belongs to a marker, which is never
// delivered to a consumer.
func TestConsumeBehindTransactionMarkers(t *testing.T) {
	cluster := kafkatest.Shared(t)
	topic := cluster.NewTopic(t, 1, nil)
	config := cluster.Config("")
	config.Producer.Return.Successes = true
	config.Producer.RequiredAcks = sarama.WaitForAll
	config.Producer.Idempotent = true
	config.Producer.Transaction.ID = topic
	config.Net.MaxOpenRequests = 1
	producer, err := sarama.NewSyncProducer(cluster.Brokers(), config)
	require.NoError(t, err)
	defer producer.Close()
	require.NoError(t, producer.BeginTxn())
	_, _, err = producer.SendMessage(message(topic, 0, "in a transaction"))
	require.NoError(t, err)
	require.NoError(t, producer.CommitTxn())

	got, err := kafkatest.Consume(t.Context(), cluster.Brokers(), topic)
	require.NoError(t, err)
	assert.Equal(t, []string{"in a transaction"}, values(got))
}

func TestOneBroker(t *testing.T) {
	cluster := kafkatest.New(t, kafkatest.Options{Settings: map[string]string{"message.max.bytes": "2000"}})
	topic := cluster.NewTopic(t, 1, nil)
	require.NoError(t, produce(t, cluster, "", message(topic, 0, "kept")))
	require.ErrorIs(t, sendError(produce(t, cluster, "", message(topic, 0, strings.Repeat("x", 3000)))), sarama.ErrMessageSizeTooLarge)
	pid, addresses := cluster.PID(0), cluster.Brokers()

	require.NoError(t, cluster.Stop())
	assert.False(t, runs(pid))
	assert.Contains(t, cluster.Log(0), "shut down completed")
	require.NoError(t, cluster.StartBroker(t.Context(), 0))
	require.ErrorContains(t, cluster.StartBroker(t.Context(), 0), "it is running")
	require.ErrorContains(t, cluster.KillBroker(1), "there are 1")

	require.NoError(t, cluster.KillBroker(0))
	require.NoError(t, cluster.StartBroker(t.Context(), 0))
	assert.Equal(t, addresses, cluster.Brokers())
	got, err := kafkatest.Consume(t.Context(), addresses, topic)
	require.NoError(t, err)
	assert.Equal(t, []string{"kept"}, values(got))

	folder, pid := clusterFolder(cluster), cluster.PID(0)
	require.NoError(t, cluster.PauseBroker(0))
	require.NoError(t, cluster.Close(), "a paused one as well")
	assert.False(t, runs(pid))
	assert.NoDirExists(t, folder)
}

// sendError returns the error of the first message.
func sendError(err error) error {
	if failed, ok := errors.AsType[sarama.ProducerErrors](err); ok {
		return failed[0].Err
	}
	return err
}

func TestThreeBrokers(t *testing.T) {
	testserver.Long(t)
	cluster := kafkatest.New(t, kafkatest.Options{Brokers: 3})
	require.Len(t, cluster.Brokers(), 3)
	topic := cluster.NewTopic(t, 3, nil)
	send := func(value string) {
		t.Helper()
		require.NoError(t, produce(t, cluster, "", message(topic, 0, value), message(topic, 1, value), message(topic, 2, value)))
	}
	send("all")
	require.NoError(t, cluster.KillBroker(2))
	send("two")
	require.NoError(t, cluster.StartBroker(t.Context(), 2))
	require.NoError(t, cluster.PauseBroker(1))
	time.AfterFunc(time.Second, func() { assert.NoError(t, cluster.ResumeBroker(1)) })
	send("after a pause")
	require.NoError(t, cluster.StopBroker(0))
	send("two again")
	require.NoError(t, cluster.Stop())
	require.NoError(t, cluster.StartAgain(t.Context()))

	got, err := kafkatest.Consume(t.Context(), cluster.Brokers(), topic)
	require.NoError(t, err)
	for partition := range 3 {
		var of []string
		for _, m := range got {
			// At least once: this producer may repeat what it sent to a killed broker.
			if value := string(m.Value); int(m.Partition) == partition && (len(of) == 0 || of[len(of)-1] != value) {
				of = append(of, value)
			}
		}
		assert.Equal(t, []string{"all", "two", "after a pause", "two again"}, of)
	}
}

func TestAuthorizer(t *testing.T) {
	cluster := kafkatest.New(t, kafkatest.Options{Authorizer: true, Users: map[string]string{"alice": `p"ss`}})
	topic := cluster.NewTopic(t, 1, nil)
	resource := sarama.Resource{ResourceType: sarama.AclResourceTopic, ResourceName: topic, ResourcePatternType: sarama.AclPatternLiteral}

	require.ErrorIs(t, sendError(produce(t, cluster, "alice", message(topic, 0, "denied"))), sarama.ErrTopicAuthorizationFailed)
	require.NoError(t, cluster.Allow(t.Context(), "alice", resource, sarama.AclOperationWrite, sarama.AclOperationDescribe))
	require.NoError(t, produce(t, cluster, "alice", message(topic, 0, "allowed")))
	require.NoError(t, cluster.Deny(t.Context(), "alice", resource, sarama.AclOperationWrite))
	require.NoError(t, cluster.AllowAll(t.Context(), "alice"))
	require.ErrorIs(t, sendError(produce(t, cluster, "alice", message(topic, 0, "denied"))), sarama.ErrTopicAuthorizationFailed)
	require.Error(t, produce(t, cluster, "mallory", message(topic, 0, "unknown user")))

	got, err := cluster.Consume(t.Context(), topic)
	require.NoError(t, err)
	assert.Equal(t, []string{"allowed"}, values(got))
}

func TestBrokerEndsWithItsParent(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux ends the broker with a killed parent")
	}
	kafkatest.Shared(t)
	parent := exec.CommandContext(t.Context(), os.Args[0])
	parent.Env = append(os.Environ(), "KAFKATEST_HELPER=1", "STREAMER_TEST_KAFKA_BROKERS=")
	output, err := parent.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, parent.Start())
	line, err := bufio.NewReader(output).ReadString('\n')
	require.NoError(t, err)
	var pid int
	var folder string
	_, err = fmt.Sscan(line, &pid, &folder)
	require.NoError(t, err, line)
	require.True(t, runs(pid))

	require.NoError(t, parent.Process.Signal(syscall.SIGKILL))
	require.Error(t, parent.Wait())
	assert.Eventually(t, func() bool { return !runs(pid) }, 10*time.Second, 20*time.Millisecond)

	// The next cluster uses the cache and removes the leftovers of the killed one.
	kafkatest.New(t, kafkatest.Options{Progress: func(line string) { t.Errorf("progress: %s", line) }})
	assert.NoDirExists(t, folder)
}

func TestConfiguredCluster(t *testing.T) {
	cluster := kafkatest.Shared(t)
	topic := cluster.NewTopic(t, 1, nil)
	t.Setenv("STREAMER_TEST_KAFKA_BROKERS", strings.Join(cluster.Brokers(), ","))
	configured, err := kafkatest.Start(t.Context(), kafkatest.Options{})
	require.NoError(t, err)
	require.NoError(t, configured.Stop())
	require.NoError(t, configured.Close())
	require.Error(t, configured.KillBroker(0))
	require.NoError(t, produce(t, configured, "", message(topic, 0, "still there")))
	t.Run("deletes the topics of a test", func(t *testing.T) { configured.NewTopic(t, 1, nil) })
}

// A broker that uses ZooKeeper and has just started knows no topic for a moment.
func TestReaderMissesATopic(t *testing.T) {
	brokers := fake.Start(t, kfake.NumBrokers(1), kfake.SeedTopics(1, "orders")).Brokers()
	t.Setenv("STREAMER_TEST_KAFKA_BROKERS", strings.Join(brokers, ","))
	cluster, err := kafkatest.Start(t.Context(), kafkatest.Options{})
	require.NoError(t, err)
	reader := kafkatest.NewReader(cluster, "orders", "never")
	t.Cleanup(func() { _ = reader.Close() })
	read := func() error { return reader.Read(t.Context(), func(*sarama.ConsumerMessage) {}) }
	require.NoError(t, read(), "a topic that does not exist yet is empty")
	require.NoError(t, cluster.DeleteTopic(t.Context(), "orders"))
	require.ErrorIs(t, read(), sarama.ErrUnknownTopicOrPartition, "a topic that was there is not empty")
	reader.Rewind()
	require.NoError(t, read())
}
