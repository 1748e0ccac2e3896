package checkpoint_test

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/checkpoint"
	"github.com/outboxstream/streamer/decoder"
	"github.com/outboxstream/streamer/internal/kafkatest"
	"github.com/outboxstream/streamer/router"
	"github.com/outboxstream/streamer/router/kafka"
)

// compactedTopic connects to the topic as the streamer does. Closing it, when
// the test ends, waits for the producer.
func compactedTopic(t *testing.T, brokers []string, name string) *kafka.CompactedTopic {
	t.Helper()
	client, err := kafka.Connect(kafka.ClientConfig{Brokers: brokers, ClientID: "streamer", RequestTimeout: 10 * time.Second})
	require.NoError(t, err)
	routes, err := router.NewRouter(router.Rules{
		Partitioner: "murmur2", Database: "shop",
		Tables: []router.TableRules{{
			Schema: "public", Table: "outbox",
			Source: "/shop", Type: "{type}", Topic: "outbox.{aggregate_type}", Key: "{aggregate_id}",
			Mode: router.Binary, NullPayload: router.NullJSON,
			Columns: map[decoder.Attribute]string{
				decoder.ID: "id", decoder.AggregateType: "aggregatetype", decoder.AggregateID: "aggregateid",
				decoder.Type: "type", decoder.Payload: "payload",
			},
		}},
	})
	require.NoError(t, err)
	config := router.ProducerConfig{
		Compression: "lz4", MaxBatchBytes: 1 << 20, MaxInFlightBytes: 8 << 20, RequestTimeout: 10 * time.Second,
		UnknownGrace: 10 * time.Second, RetryInitial: 50 * time.Millisecond, RetryMax: time.Second,
		MetadataInterval: time.Minute, Log: slog.New(slog.DiscardHandler),
	}
	var owner *kafka.Owner
	require.Eventually(t, func() bool { // a broker that has just started has no producer IDs yet
		owner, err = client.Anonymous(t.Context())
		return err == nil
	}, time.Minute, 100*time.Millisecond)
	producer := router.NewProducer(config, owner, routes, checkpoint.NewTracker(0), unobserved{}, func() {})
	t.Cleanup(func() {
		producer.Close()
		client.Close()
		producer.Wait()
	})
	topic := kafka.NewCompactedTopic(client, name)
	topic.WriteWith(producer.Write, slog.New(slog.DiscardHandler))
	_, err = topic.Ensure(t.Context(), 1)
	require.NoError(t, err)
	return topic
}

type unobserved struct{}

func (unobserved) Published(router.Publication) {}

func (unobserved) Failed(string) {}

func topicPlace(brokers []string, name string) place {
	return place{
		named: fmt.Sprintf("topic %q", name),
		open: func(t *testing.T) checkpoint.Store {
			t.Helper()
			return checkpoint.NewKafka(compactedTopic(t, brokers, name))
		},
		plant: func(t *testing.T, id checkpoint.Identity, stored string) {
			t.Helper()
			require.NoError(t, compactedTopic(t, brokers, name).Append(t.Context(), []byte(id.Key()), []byte(stored)))
		},
	}
}

func TestKafkaStoreOnKafka(t *testing.T) {
	t.Parallel()
	cluster := kafkatest.Shared(t)
	onKafka := func(t *testing.T) place {
		t.Helper()
		return topicPlace(cluster.Brokers(), kafkatest.TopicName(t))
	}
	conform(t, onKafka, func(t *testing.T) place {
		t.Helper()
		own := kafkatest.New(t, kafkatest.Options{})
		p := topicPlace(own.Brokers(), "checkpoints")
		p.fail = func(t *testing.T) (repair func()) {
			t.Helper()
			require.NoError(t, own.KillBroker(0))
			return func() { require.NoError(t, own.StartBroker(context.WithoutCancel(t.Context()), 0)) }
		}
		return p
	})
}

// TestKafkaStoreBehindManyRecords has the only record of a quiet streamer at
// the beginning of a topic that a busy streamer has filled.
func TestKafkaStoreBehindManyRecords(t *testing.T) {
	t.Parallel()
	topic := compactedTopic(t, kafkatest.Shared(t).Brokers(), kafkatest.TopicName(t))
	store := checkpoint.NewKafka(topic)
	require.NoError(t, store.Save(t.Context(), record(100)))
	busy := record(1)
	busy.Slot = "busy"
	for ; busy.LSN < 500; busy.LSN++ {
		require.NoError(t, store.Save(t.Context(), busy))
	}
	got, err := store.Load(t.Context(), ours)
	require.NoError(t, err)
	assert.Equal(t, record(100), got)
	got, err = store.Load(t.Context(), busy.Identity)
	require.NoError(t, err)
	assert.EqualValues(t, 499, got.LSN)
}
