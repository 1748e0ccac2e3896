package router

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
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
	"github.com/outboxstream/streamer/router/kafka"
)

// liveConfig is for a real broker, which runs in real time.
func liveConfig() ProducerConfig {
	config := someConfig()
	config.MaxBatchBytes, config.MaxInFlightBytes = 16<<10, 1<<20
	config.RequestTimeout, config.RetryInitial, config.RetryMax = 5*time.Second, 20*time.Millisecond, 500*time.Millisecond
	return config
}

// newLiveRig returns a rig with a producer into a real cluster.
func newLiveRig(t *testing.T, brokers []string, config ProducerConfig, rules Rules) *rig {
	t.Helper()
	client, err := kafka.Connect(someClient(brokers))
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		_, _, err := client.InitProducerID(t.Context()) // not before the coordinator is ready
		return err == nil
	}, 30*time.Second, 50*time.Millisecond)
	owner, err := client.Anonymous(t.Context())
	require.NoError(t, err)
	r := &rig{T: t, cluster: owner, close: client.Close, config: config, rules: rules, notified: make(chan struct{}, 1)}
	r.begin()
	// Kafka forgets producers whose records are a day old.
	r.shift = time.Since(time.UnixMicro(numbered(0, "", "").CommitTime))
	return r
}

// requireDelivered checks that the topic holds every event of the stream once,
// in order, in the partition of Java's client.
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
		require.Less(r, at, len(routed[m.Partition]),
			"partition %d has more events than were routed to it: %s at offset %d", m.Partition, id, m.Offset)
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
				rules.Tables[0].Topic = cluster.NewTopic(t, partitions, nil)
				config := liveConfig()
				config.Compression = compression
				r := newLiveRig(t, cluster.Brokers(), config, rules)
				require.NoError(t, r.feed(events, keys))
				require.NoError(t, r.settle())
				assert.Equal(t, commitOf(events-1), r.tracker.Confirmed())
				assert.Zero(t, r.producer.InFlight())
				messages, err := cluster.Consume(t.Context(), rules.Tables[0].Topic)
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

// A real broker with a small limit: batches are halved until they fit. A record
// that does not fit alone is named, and nothing after it is written.
func TestProducerTooLargeForKafka(t *testing.T) {
	t.Parallel()
	cluster := kafkatest.Shared(t)
	rules := someRules()
	rules.Tables[0].Topic = cluster.NewTopic(t, 1, map[string]string{"max.message.bytes": "2000"})
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
			break // settle returns the same error
		}
	}
	err := r.settle()
	require.Equal(t, failure.Refused, failure.ClassOf(err))
	require.ErrorContains(t, err, `"event-320"`)
	messages, err := cluster.Consume(t.Context(), rules.Tables[0].Topic)
	require.NoError(t, err)
	r.requireDelivered(messages, 1)
}

func TestProducerThroughRestarts(t *testing.T) {
	testserver.Long(t)
	t.Parallel()
	if testing.Short() {
		t.Skip("starts its own Kafka cluster")
	}
	cluster := kafkatest.New(t, kafkatest.Options{})
	rules := someRules()
	rules.Tables[0].Topic = cluster.NewTopic(t, 4, nil)
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
	messages, err := cluster.Consume(t.Context(), rules.Tables[0].Topic)
	require.NoError(t, err)
	r.requireDelivered(messages, 4)
	assert.Equal(t, commitOf(r.next-1), r.tracker.Confirmed())
}

// Leaders move between three brokers all the time.
func TestProducerWhileLeadersMove(t *testing.T) {
	t.Parallel()
	rules := someRules()
	rules.Tables[0].Topic = "moving"
	cluster := fake.Start(t, kfake.SeedTopics(6, rules.Tables[0].Topic))
	r := newLiveRig(t, cluster.Brokers(), liveConfig(), rules)
	for range 40 {
		require.NoError(t, r.feed(50, 23))
		cluster.ShufflePartitionLeaders()
	}
	require.NoError(t, r.settle())
	messages, err := kafkatest.Consume(t.Context(), cluster.Brokers(), rules.Tables[0].Topic)
	require.NoError(t, err)
	r.requireDelivered(messages, 6)
}

// The response to every fifth request is lost with its connection.
func TestProducerWhileConnectionsBreak(t *testing.T) {
	t.Parallel()
	rules := someRules()
	rules.Tables[0].Topic = "breaking"
	cluster := fake.Start(t, kfake.SeedTopics(6, rules.Tables[0].Topic))
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
	messages, err := kafkatest.Consume(t.Context(), cluster.Brokers(), rules.Tables[0].Topic)
	require.NoError(t, err)
	r.requireDelivered(messages, 6)
}

// A topic that the brokers cannot create is waited for like any other, and the
// refusal says why it was not created.
func TestProducerIntoKafkaThatCreatesNoTopics(t *testing.T) {
	t.Parallel()
	cluster := fake.Start(t, kfake.NumBrokers(1), fake.Without(kmsg.CreateTopics))
	config, rules := liveConfig(), someRules()
	config.UnknownGrace = time.Minute
	create := someClient(cluster.Brokers())
	create.Topics.Create = true
	client, err := kafka.Connect(create)
	require.NoError(t, err)
	owner, err := client.Anonymous(t.Context())
	require.NoError(t, err)
	r := &rig{T: t, cluster: owner, close: client.Close, config: config, rules: rules, notified: make(chan struct{}, 1)}
	r.begin()
	_, err = r.producer.Append(numbered(1, "order", "key"))
	require.NoError(t, err)
	refused := func() bool { return strings.Contains(r.producer.Waiting(), "do not support CreateTopics") }
	require.Eventually(t, refused, 10*time.Second, time.Millisecond)
	require.NoError(t, cluster.CreateTopic("outbox.event.order", 1, nil))
	require.Eventually(t, func() bool { return !refused() }, 10*time.Second, time.Millisecond)

	r.end()
	r.config.UnknownGrace = 0
	client, err = kafka.Connect(create)
	require.NoError(t, err)
	owner, err = client.Anonymous(t.Context())
	require.NoError(t, err)
	r.cluster, r.close = owner, client.Close
	r.begin()
	_, err = r.producer.Append(numbered(1, "bill", "key"))
	require.NoError(t, err)
	require.Eventually(t, func() bool { return r.producer.Err() != nil }, 10*time.Second, time.Millisecond)
	err = r.producer.Err()
	require.ErrorContains(t, err, "brokers do not support CreateTopics")
	assert.Equal(t, failure.Refused, failure.ClassOf(err))
	assert.Equal(t, "create the topic with the tools of your Kafka service", failure.Fix(err))
}

// Several thousand records in many batches, larger together than one fetch.
func TestReadPartition(t *testing.T) {
	t.Parallel()
	cluster := kafkatest.Shared(t)
	rules := someRules()
	rules.Tables[0].Topic = cluster.NewTopic(t, 1, nil)
	r := newLiveRig(t, cluster.Brokers(), liveConfig(), rules)
	require.NoError(t, r.feed(6000, 3))
	require.NoError(t, r.settle())
	client := connected(t, cluster.Brokers())
	next := int64(0)
	require.NoError(t, readPartition(t.Context(), client, rules.Tables[0].Topic, 0, func(offset int64, record *sarama.Record) error {
		require.Equal(t, next, offset)
		id, _ := identify(record)
		require.Equal(t, fmt.Sprintf("event-%d", offset), id)
		next++
		return nil
	}))
	assert.EqualValues(t, 6000, next)

	stop := errors.New("enough")
	require.ErrorIs(t, readPartition(t.Context(), client, rules.Tables[0].Topic, 0, func(int64, *sarama.Record) error { return stop }), stop)
	require.Error(t, readPartition(t.Context(), client, rules.Tables[0].Topic, 7, nil))
	require.Error(t, readPartition(t.Context(), client, kafkatest.TopicName(t), 0, nil))
}

// Compaction leaves gaps, and after deleted records the partition begins later.
func TestReadPartitionOverGaps(t *testing.T) {
	t.Parallel()
	const name = "compacted"
	cluster := fake.Start(t, kfake.NumBrokers(1))
	require.NoError(t, cluster.CreateTopic(name, 1, map[string]string{
		"cleanup.policy": "compact", "min.cleanable.dirty.ratio": "0", "segment.bytes": "2000",
	}))
	rules := someRules()
	r := newLiveRig(t, cluster.Brokers(), liveConfig(), rules)
	for i := range 500 {
		require.NoError(t, r.producer.Write(t.Context(), name, 0, fmt.Appendf(nil, "slot-%d", i%7), fmt.Append(nil, i)))
	}
	cluster.Compact()
	client := connected(t, cluster.Brokers())
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
