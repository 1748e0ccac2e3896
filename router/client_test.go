package router

import (
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/internal/kafkatest"
	"github.com/outboxstream/streamer/internal/kafkatest/fake"
	"github.com/outboxstream/streamer/internal/kafkatest/model"
	"github.com/outboxstream/streamer/internal/testserver"
)

func clientConfig(brokers []string) ClientConfig {
	return ClientConfig{Brokers: brokers, ClientID: "streamer-test", RequestTimeout: 5 * time.Second}
}

func connect(t *testing.T, c ClientConfig) *Client {
	t.Helper()
	client, err := Connect(c)
	require.NoError(t, err)
	t.Cleanup(client.Close)
	return client
}

// reach connects and asks for something.
func reach(t *testing.T, c ClientConfig) error {
	t.Helper()
	client, err := Connect(c)
	if err != nil {
		return err
	}
	defer client.Close()
	_, _, err = client.InitProducerID()
	return err
}

func TestConnectUnreachable(t *testing.T) {
	t.Parallel()
	ports, err := testserver.FreePorts(1)
	require.NoError(t, err)
	address := "127.0.0.1:" + strconv.Itoa(ports[0])
	err = reach(t, clientConfig([]string{address}))
	require.ErrorContains(t, err, address)
	assert.Equal(t, failure.Transient, failure.ClassOf(err))
}

func TestConnectRefusesItsConfiguration(t *testing.T) {
	t.Parallel()
	missing := filepath.Join(t.TempDir(), "missing.pem")
	for name, test := range map[string]struct {
		spoil   func(*ClientConfig)
		problem string
	}{
		"version":     {func(c *ClientConfig) { c.Version = "new" }, "kafka.version"},
		"old version": {func(c *ClientConfig) { c.Version = "2.3.1" }, "older than 2.4.0"},
		"no brokers":  {func(c *ClientConfig) { c.Brokers = nil }, "connect to Kafka"},
		"CA file":     {func(c *ClientConfig) { c.TLS = TLSConfig{Enabled: true, CAFile: missing} }, "kafka.tls.ca_file"},
		"certificate": {func(c *ClientConfig) { c.TLS = TLSConfig{Enabled: true, CertFile: missing, KeyFile: missing} }, "kafka.tls.cert_file"},
		"password": {func(c *ClientConfig) {
			c.SASL = SASLConfig{Mechanism: "PLAIN", Username: "u", Password: func() (string, error) { return "", os.ErrNotExist }}
		}, "kafka.sasl.password"},
		"mechanism": {func(c *ClientConfig) {
			c.SASL = SASLConfig{Mechanism: "NONE", Username: "u", Password: func() (string, error) { return "p", nil }}
		}, "SASL"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := clientConfig([]string{"127.0.0.1:1"})
			test.spoil(&c)
			_, err := Connect(c)
			require.ErrorContains(t, err, test.problem)
			assert.Equal(t, failure.Misconfigured, failure.ClassOf(err))
		})
	}
}

// Renewed files are used at the next connection.
func TestCertificateAuthoritiesAreReadAgain(t *testing.T) {
	t.Parallel()
	server := httptest.NewTLSServer(nil)
	t.Cleanup(server.Close)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	right := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	require.NoError(t, os.WriteFile(ca, right, 0o600))
	c := clientConfig(nil)
	c.TLS = TLSConfig{Enabled: true, CAFile: ca}
	config, err := saramaConfig(c)
	require.NoError(t, err)
	dial := func() error {
		conn, err := config.Net.Proxy.Dialer.Dial("tcp", server.Listener.Addr().String())
		if err == nil {
			err = conn.Close()
		}
		return err
	}
	require.NoError(t, dial())
	require.NoError(t, os.WriteFile(ca, []byte("nothing of use"), 0o600))
	require.ErrorContains(t, dial(), "kafka.tls.ca_file")
	require.NoError(t, os.WriteFile(ca, right, 0o600))
	require.NoError(t, dial())
}

func withPassword(brokers []string, mechanism, password string) ClientConfig {
	c := clientConfig(brokers)
	c.SASL = SASLConfig{Mechanism: mechanism, Username: "streamer", Password: func() (string, error) { return password, nil }}
	return c
}

func TestConnectSASL(t *testing.T) {
	t.Parallel()
	for _, mechanism := range []string{"PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"} {
		t.Run(mechanism, func(t *testing.T) {
			t.Parallel()
			cluster := fake.Start(t, kfake.NumBrokers(1), kfake.EnableSASL(), kfake.Superuser(mechanism, "streamer", "right"))
			require.NoError(t, reach(t, withPassword(cluster.Brokers(), mechanism, "right")))
			require.Error(t, reach(t, withPassword(cluster.Brokers(), mechanism, "incorrect")))
		})
	}
	t.Run("wrong password", func(t *testing.T) {
		t.Parallel()
		// The fake hangs up instead of saying why.
		cluster := kafkatest.New(t, kafkatest.Options{Users: map[string]string{"streamer": "right"}})
		err := reach(t, withPassword(cluster.Brokers(), "PLAIN", "incorrect"))
		require.ErrorContains(t, err, "kafka.sasl")
		assert.NotContains(t, err.Error(), "incorrect")
		assert.Equal(t, failure.Misconfigured, failure.ClassOf(err))
	})
}

func TestConnectTLS(t *testing.T) {
	t.Parallel()
	server := httptest.NewTLSServer(nil) // its certificate is for 127.0.0.1
	t.Cleanup(server.Close)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	require.NoError(t, os.WriteFile(ca, text, 0o600))
	cluster := fake.Start(t, kfake.NumBrokers(1), kfake.TLS(server.TLS.Clone()))
	c := clientConfig(cluster.Brokers())
	c.TLS = TLSConfig{Enabled: true, CAFile: ca}
	require.NoError(t, reach(t, c))
	c.TLS = TLSConfig{Enabled: true, CAFile: ca, ServerName: "other.test"}
	require.Equal(t, failure.Misconfigured, failure.ClassOf(reach(t, c)))
	c.TLS = TLSConfig{Enabled: true}
	err := reach(t, c)
	require.ErrorContains(t, err, "kafka.tls.ca_file")
	require.Equal(t, failure.Misconfigured, failure.ClassOf(err))
}

func TestCreateTopic(t *testing.T) {
	t.Parallel()
	cluster := kafkatest.Shared(t)
	client := connect(t, clientConfig(cluster.Brokers()))
	name := kafkatest.TopicName(t)
	there, err := client.HasTopic(name)
	require.NoError(t, err)
	assert.False(t, there)
	require.ErrorIs(t, client.Refresh(name), sarama.ErrUnknownTopicOrPartition)

	require.NoError(t, client.Create(name), "off by default")
	require.ErrorIs(t, client.Refresh(name), sarama.ErrUnknownTopicOrPartition)

	topic := TopicConfig{Partitions: 3, ReplicationFactor: 1, Configs: map[string]string{"max.message.bytes": "123456"}}
	require.NoError(t, client.CreateTopic(name, topic))
	require.NoError(t, client.waitTopic(t.Context(), name))
	require.NoError(t, client.CreateTopic(name, TopicConfig{}), "one that exists stays")
	count, err := client.Partitions(name)
	require.NoError(t, err)
	assert.Equal(t, 3, count)
	value, err := client.TopicSetting(name, "max.message.bytes")
	require.NoError(t, err)
	assert.Equal(t, "123456", value)
	_, err = client.TopicSetting(name, "no.such.setting")
	require.Error(t, err)
	names, err := client.Topics(name[:len(name)-1])
	require.NoError(t, err)
	assert.Contains(t, names, name)
	require.Error(t, client.CreateTopic("no topic!", TopicConfig{}))
	require.Error(t, client.CreateTopic(kafkatest.TopicName(t), TopicConfig{ReplicationFactor: 9}))
}

// liveConfig is for a real broker, whose time is real.
func liveConfig() ProducerConfig {
	config := someConfig()
	config.MaxBatchBytes, config.MaxInFlightBytes = 16<<10, 1<<20
	config.RequestTimeout, config.RetryInitial, config.RetryMax = 5*time.Second, 20*time.Millisecond, 500*time.Millisecond
	return config
}

// newLiveRig is a producer into a real cluster.
func newLiveRig(t *testing.T, brokers []string, config ProducerConfig, rules Rules) *rig {
	t.Helper()
	client, err := Connect(clientConfig(brokers))
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		_, _, err := client.InitProducerID() // not before the coordinator is ready
		return err == nil
	}, 30*time.Second, 50*time.Millisecond)
	owner, err := client.Anonymous()
	require.NoError(t, err)
	r := &rig{T: t, cluster: owner, close: client.Close, config: config, rules: rules, notified: make(chan struct{}, 1)}
	r.begin()
	// Kafka forgets producers whose records are a day old.
	r.shift = time.Since(time.UnixMicro(numbered(0, "", "").CommitTime))
	return r
}

// requireDelivered compares what is in the topic with the stream: all, once,
// in order, in Java's partition.
func (r *rig) requireDelivered(messages []*sarama.ConsumerMessage, partitions int) {
	r.Helper()
	next := map[int32]int{}
	routed := map[int32][]string{}
	for _, e := range r.stream {
		id := int32(partitionFor(string(e.Attribute(2)), partitions))
		routed[id] = append(routed[id], string(e.Attribute(0)))
	}
	for _, m := range messages {
		headers := make([]*sarama.RecordHeader, len(m.Headers))
		copy(headers, m.Headers)
		id, _ := identify(&sarama.Record{Headers: headers, Value: m.Value})
		at := next[m.Partition]
		require.Less(r, at, len(routed[m.Partition]), "partition %d has more than was routed to it: %s at offset %d", m.Partition, id, m.Offset)
		require.Equal(r, routed[m.Partition][at], id, "partition %d offset %d", m.Partition, m.Offset)
		next[m.Partition]++
	}
	require.Len(r, messages, len(r.stream), "lost at the end")
}

func TestProducerIntoKafka(t *testing.T) {
	t.Parallel()
	cluster := kafkatest.Shared(t)
	for _, compression := range []string{"none", "gzip", "snappy", "lz4", "zstd"} {
		for _, mode := range []Mode{Binary, Structured} {
			t.Run(fmt.Sprintf("%s %s", compression, mode), func(t *testing.T) {
				t.Parallel()
				const partitions, keys, events = 6, 53, 2000
				rules := withMode(mode)
				rules.Topic = cluster.NewTopic(t, partitions, nil)
				config := liveConfig()
				config.Compression = compression
				r := newLiveRig(t, cluster.Brokers(), config, rules)
				require.NoError(t, r.feed(events, keys))
				require.NoError(t, r.settle())
				assert.Equal(t, commitOf(events-1), r.tracker.Confirmed())
				assert.Zero(t, r.producer.InFlight())
				messages, err := cluster.Consume(t.Context(), rules.Topic)
				require.NoError(t, err)
				r.requireDelivered(messages, partitions)
				for i, m := range messages {
					if i%97 == 0 {
						got := readBySDK(t, &sarama.Record{Headers: m.Headers, Key: m.Key, Value: m.Value})
						assert.Equal(t, string(m.Key), got.Extensions()["partitionkey"])
						assert.Equal(t, got.Time().Truncate(time.Millisecond).UnixMilli(), m.Timestamp.UnixMilli())
					}
				}
			})
		}
	}
}

// A real broker with a small limit: batches are halved until they fit; a record
// that does not fit alone is named, and nothing behind it is written.
func TestProducerTooLargeForKafka(t *testing.T) {
	t.Parallel()
	cluster := kafkatest.Shared(t)
	rules := someRules()
	rules.Topic = cluster.NewTopic(t, 1, map[string]string{"max.message.bytes": "2000"})
	r := newLiveRig(t, cluster.Brokers(), liveConfig(), rules)
	require.NoError(t, r.feed(300, 3))
	require.NoError(t, r.settle())
	for n := r.next; n < 340; n++ {
		e := numbered(n, "order", "k")
		if n == 320 {
			e.Data = fmt.Appendf(nil, "%q", make([]byte, 3000))
		}
		if n < 320 {
			r.stream = append(r.stream, e)
		}
		if _, err := r.append(e); err != nil {
			break // it is the same error that settle gives
		}
	}
	err := r.settle()
	require.Equal(t, failure.Refused, failure.ClassOf(err))
	require.ErrorContains(t, err, `"event-320"`)
	messages, err := cluster.Consume(t.Context(), rules.Topic)
	require.NoError(t, err)
	r.requireDelivered(messages, 1)
}

func TestProducerThroughRestarts(t *testing.T) {
	testserver.Long(t)
	t.Parallel()
	if testing.Short() {
		t.Skip("starts a Kafka cluster of its own")
	}
	cluster := kafkatest.New(t, kafkatest.Options{})
	rules := someRules()
	rules.Topic = cluster.NewTopic(t, 4, nil)
	r := newLiveRig(t, cluster.Brokers(), liveConfig(), rules)
	require.NoError(t, r.feed(500, 23))
	for _, end := range []func(int) error{cluster.StopBroker, cluster.KillBroker} {
		ended := make(chan error, 1)
		go func() {
			if err := end(0); err != nil {
				ended <- err
				return
			}
			ended <- cluster.StartBroker(t.Context(), 0)
		}()
		for restarting := true; restarting; {
			require.NoError(t, r.feed(20, 23))
			select {
			case err := <-ended:
				require.NoError(t, err)
				restarting = false
			case <-time.After(10 * time.Millisecond):
			}
		}
		require.NoError(t, r.feed(300, 23))
		require.NoError(t, r.settle())
	}
	messages, err := cluster.Consume(t.Context(), rules.Topic)
	require.NoError(t, err)
	r.requireDelivered(messages, 4)
	assert.Equal(t, commitOf(r.next-1), r.tracker.Confirmed())
}

// Leaders move between three brokers all the time.
func TestProducerWhileLeadersMove(t *testing.T) {
	t.Parallel()
	rules := someRules()
	rules.Topic = "moving"
	cluster := fake.Start(t, kfake.SeedTopics(6, rules.Topic))
	r := newLiveRig(t, cluster.Brokers(), liveConfig(), rules)
	for range 40 {
		require.NoError(t, r.feed(50, 23))
		cluster.ShufflePartitionLeaders()
	}
	require.NoError(t, r.settle())
	messages, err := kafkatest.Consume(t.Context(), cluster.Brokers(), rules.Topic)
	require.NoError(t, err)
	r.requireDelivered(messages, 6)
}

// The response to every fifth request is lost with its connection.
func TestProducerWhileConnectionsBreak(t *testing.T) {
	t.Parallel()
	rules := someRules()
	rules.Topic = "breaking"
	cluster := fake.Start(t, kfake.SeedTopics(6, rules.Topic))
	n := 0
	cluster.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		if n++; n%5 == 0 {
			return nil, model.ErrCut, true
		}
		return nil, nil, false
	})
	r := newLiveRig(t, cluster.Brokers(), liveConfig(), rules)
	require.NoError(t, r.feed(1500, 23))
	require.NoError(t, r.settle())
	messages, err := kafkatest.Consume(t.Context(), cluster.Brokers(), rules.Topic)
	require.NoError(t, err)
	r.requireDelivered(messages, 6)
}

func TestCompactedTopic(t *testing.T) {
	t.Parallel()
	cluster := kafkatest.Shared(t)
	r := newLiveRig(t, cluster.Brokers(), liveConfig(), someRules())
	client := connect(t, clientConfig(cluster.Brokers()))
	log := NewCompactedTopic(client, kafkatest.TopicName(t))
	log.WriteWith(r.producer.Write, slog.New(slog.DiscardHandler))
	require.NoError(t, log.Ensure(t.Context(), 1))
	require.NoError(t, log.Ensure(t.Context(), 1), "a second time")
	policy, err := client.TopicSetting(log.Name(), "cleanup.policy")
	require.NoError(t, err)
	assert.Equal(t, "compact", policy)

	value, err := log.Last(t.Context(), []byte("slot"))
	require.NoError(t, err)
	assert.Nil(t, value, "empty topic")
	for i := range 300 {
		require.NoError(t, log.Append(t.Context(), fmt.Appendf(nil, "slot-%d", i%3), fmt.Append(nil, i)))
	}
	for i := range 3 {
		value, err := log.Last(t.Context(), fmt.Appendf(nil, "slot-%d", i))
		require.NoError(t, err)
		assert.Equal(t, strconv.Itoa(297+i), string(value))
	}
	value, err = log.Last(t.Context(), []byte("slot"))
	require.NoError(t, err)
	assert.Nil(t, value, "another key")

	two := NewCompactedTopic(client, cluster.NewTopic(t, 2, map[string]string{"cleanup.policy": "compact"}))
	err = two.Ensure(t.Context(), 1)
	require.ErrorContains(t, err, "2 partitions")
	assert.Equal(t, failure.Refused, failure.ClassOf(err))
	forgetting := NewCompactedTopic(client, cluster.NewTopic(t, 1, nil))
	err = forgetting.Ensure(t.Context(), 1)
	require.ErrorContains(t, err, "cleanup.policy=delete")
	assert.Equal(t, failure.Refused, failure.ClassOf(err))
}

// Several thousand records in many batches, larger together than one fetch.
func TestReadPartition(t *testing.T) {
	t.Parallel()
	cluster := kafkatest.Shared(t)
	rules := someRules()
	rules.Topic = cluster.NewTopic(t, 1, nil)
	r := newLiveRig(t, cluster.Brokers(), liveConfig(), rules)
	require.NoError(t, r.feed(6000, 3))
	require.NoError(t, r.settle())
	client := connect(t, clientConfig(cluster.Brokers()))
	next := int64(0)
	require.NoError(t, readPartition(t.Context(), client, rules.Topic, 0, func(offset int64, record *sarama.Record) error {
		require.Equal(t, next, offset)
		id, _ := identify(record)
		require.Equal(t, fmt.Sprintf("event-%d", offset), id)
		next++
		return nil
	}))
	assert.EqualValues(t, 6000, next)

	stop := errors.New("enough")
	require.ErrorIs(t, readPartition(t.Context(), client, rules.Topic, 0, func(int64, *sarama.Record) error { return stop }), stop)
	require.Error(t, readPartition(t.Context(), client, rules.Topic, 7, nil))
	require.Error(t, readPartition(t.Context(), client, kafkatest.TopicName(t), 0, nil))
}

// Compaction leaves gaps, and after deleted records the log begins later.
func TestReadPartitionOverGaps(t *testing.T) {
	t.Parallel()
	const name = "compacted"
	cluster := fake.Start(t, kfake.NumBrokers(1))
	require.NoError(t, cluster.CreateTopic(name, 1, map[string]string{"cleanup.policy": "compact", "min.cleanable.dirty.ratio": "0", "segment.bytes": "2000"}))
	rules := someRules()
	r := newLiveRig(t, cluster.Brokers(), liveConfig(), rules)
	for i := range 500 {
		require.NoError(t, r.producer.Write(t.Context(), name, 0, fmt.Appendf(nil, "slot-%d", i%7), fmt.Append(nil, i)))
	}
	cluster.Compact()
	client := connect(t, clientConfig(cluster.Brokers()))
	last, read := map[string]string{}, 0
	require.NoError(t, readPartition(t.Context(), client, name, 0, func(_ int64, record *sarama.Record) error {
		last[string(record.Key)] = string(record.Value)
		read++
		return nil
	}))
	assert.Less(t, read, 500, "something was compacted away")
	require.Len(t, last, 7)
	for i := 493; i < 500; i++ {
		assert.Equal(t, strconv.Itoa(i), last[fmt.Sprintf("slot-%d", i%7)])
	}
	require.NoError(t, cluster.DeleteRecords(name, 0, 497))
	read = 0
	require.NoError(t, readPartition(t.Context(), client, name, 0, func(int64, *sarama.Record) error { read++; return nil }))
	assert.Equal(t, 3, read)
}
