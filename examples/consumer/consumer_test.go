package consumer_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/outboxstream/streamer/examples/consumer"
)

const orderPlaced = `{"version": 1, "order_id": "order-1"}`

// header creates a record header from text.
func header(key, value string) *sarama.RecordHeader {
	return &sarama.RecordHeader{Key: []byte(key), Value: []byte(value)}
}

// binaryRecord is what the streamer writes in binary mode.
func binaryRecord(id, sequence string) *sarama.ConsumerMessage {
	return &sarama.ConsumerMessage{
		Topic: "outbox.event.order", Partition: 3, Offset: 42, Key: []byte("order-1"), Value: []byte(orderPlaced),
		Headers: []*sarama.RecordHeader{
			header("ce_specversion", "1.0"),
			header("ce_id", id),
			header("ce_source", "/shop/outbox"),
			header("ce_type", "order.placed"),
			header("ce_time", "2026-11-21T10:19:00.123456Z"),
			header("ce_subject", "order-1"),
			header("ce_sequence", sequence),
			header("ce_partitionkey", "order-1"),
			header("content-type", "application/json"),
		},
	}
}

// structuredRecord is the same in structured mode.
func structuredRecord(id, sequence string) *sarama.ConsumerMessage {
	return &sarama.ConsumerMessage{
		Topic: "outbox.event.order", Partition: 3, Offset: 43, Key: []byte("order-1"),
		Value: fmt.Appendf(nil, `{"specversion":"1.0","id":%q,"source":"/shop/outbox","type":"order.placed",`+
			`"time":"2026-11-21T10:19:00.123456Z","subject":"order-1","sequence":%q,"partitionkey":"order-1",`+
			`"datacontenttype":"application/json","data":%s}`, id, sequence, orderPlaced),
		Headers: []*sarama.RecordHeader{header("content-type", "application/cloudevents+json; charset=UTF-8")},
	}
}

func TestDecode(t *testing.T) {
	t.Parallel()

	for name, record := range map[string]*sarama.ConsumerMessage{
		"binary mode":     binaryRecord("e1", "00000000016b3748-00000001"),
		"structured mode": structuredRecord("e1", "00000000016b3748-00000001"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e, err := consumer.Decode(record)
			require.NoError(t, err)
			assert.Equal(t, "1.0", e.SpecVersion())
			assert.Equal(t, "e1", e.ID())
			assert.Equal(t, "/shop/outbox", e.Source())
			assert.Equal(t, "order.placed", e.Type())
			assert.Equal(t, "order-1", e.Subject())
			assert.Equal(t, time.Date(2026, 11, 21, 10, 19, 0, 123_456_000, time.UTC), e.Time())
			assert.Equal(t, "application/json", e.DataContentType())
			assert.JSONEq(t, orderPlaced, string(e.Data()))
			assert.Equal(t, map[string]any{"sequence": "00000000016b3748-00000001", "partitionkey": "order-1"}, e.Extensions())
		})
	}

	t.Run("the payload of a binary record keeps its bytes", func(t *testing.T) {
		t.Parallel()
		e, err := consumer.Decode(binaryRecord("e1", "1"))
		require.NoError(t, err)
		assert.Equal(t, orderPlaced, string(e.Data())) //nolint:testifylint // bytes are compared, not JSON values
	})

	t.Run("a record without a value is an event without data", func(t *testing.T) {
		t.Parallel()
		record := binaryRecord("e1", "1")
		record.Value = nil
		e, err := consumer.Decode(record)
		require.NoError(t, err)
		assert.Empty(t, e.Data())
	})
}

func TestDecodeRefuses(t *testing.T) {
	t.Parallel()

	without := func(name string) *sarama.ConsumerMessage {
		record := binaryRecord("e1", "1")
		var kept []*sarama.RecordHeader
		for _, h := range record.Headers {
			if string(h.Key) != name {
				kept = append(kept, h)
			}
		}
		record.Headers = kept
		return record
	}
	foreign := binaryRecord("e1", "1")
	foreign.Headers = nil
	torn := structuredRecord("e1", "1")
	torn.Value = torn.Value[:20]

	for name, record := range map[string]*sarama.ConsumerMessage{
		"a record that is no CloudEvent":     foreign,
		"a record without specversion":       without("ce_specversion"),
		"a record without id":                without("ce_id"),
		"a record without source":            without("ce_source"),
		"a structured record that is broken": torn,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := consumer.Decode(record)
			require.ErrorContains(t, err, fmt.Sprintf("record outbox.event.order-3@%d", record.Offset))
		})
	}
}

func TestInbox(t *testing.T) {
	t.Parallel()

	from := func(source, id, sequence string) event.Event {
		e := event.New()
		e.SetSource(source)
		e.SetID(id)
		if sequence != "" {
			e.SetExtension("sequence", sequence)
		}
		return e
	}
	for name, test := range map[string]struct {
		events []event.Event
		want   []consumer.Verdict
	}{
		"ascending sequences with gaps are new": {
			[]event.Event{from("/a", "1", "010"), from("/a", "2", "020"), from("/a", "3", "100")},
			[]consumer.Verdict{consumer.New, consumer.New, consumer.New},
		},
		"a repeated suffix is repeated": {
			[]event.Event{from("/a", "1", "1"), from("/a", "2", "2"), from("/a", "1", "1"), from("/a", "2", "2"), from("/a", "3", "3")},
			[]consumer.Verdict{consumer.New, consumer.New, consumer.Repeated, consumer.Repeated, consumer.New},
		},
		"the same id of another source is another event": {
			[]event.Event{from("/a", "1", "5"), from("/b", "1", "1")},
			[]consumer.Verdict{consumer.New, consumer.New},
		},
		"a new event behind a later one is out of order": {
			[]event.Event{from("/a", "2", "2"), from("/a", "1", "1"), from("/a", "3", "2")},
			[]consumer.Verdict{consumer.New, consumer.OutOfOrder, consumer.OutOfOrder},
		},
		"without a sequence only the identity counts": {
			[]event.Event{from("/a", "2", ""), from("/a", "1", ""), from("/a", "2", "")},
			[]consumer.Verdict{consumer.New, consumer.New, consumer.Repeated},
		},
		"what is older than the memory is out of order": {
			[]event.Event{
				from("/a", "1", "1"), from("/a", "2", "2"), from("/a", "3", "3"), from("/a", "4", "4"),
				from("/a", "1", "1"), from("/a", "4", "4"),
			},
			[]consumer.Verdict{consumer.New, consumer.New, consumer.New, consumer.New, consumer.OutOfOrder, consumer.Repeated},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inbox := consumer.NewInbox(3)
			var got []consumer.Verdict
			for _, e := range test.events {
				got = append(got, inbox.Check(e))
			}
			assert.Equal(t, test.want, got)
		})
	}
}

func TestLine(t *testing.T) {
	t.Parallel()
	record := binaryRecord("e1", "0001")
	record.Value = []byte("{\n}")
	decoded, err := consumer.Decode(record)
	require.NoError(t, err)
	assert.Equal(t,
		"outbox.event.order-3@42  order.placed  key=order-1  id=e1  source=/shop/outbox  sequence=0001  [repeated]  { }",
		consumer.Delivery{Record: record, Event: decoded, Verdict: consumer.Repeated}.Line())
	assert.Equal(t, "not a CloudEvent: torn", consumer.Delivery{Record: record, Err: errors.New("torn")}.Line())
}

// broker starts a Kafka cluster in this process and returns a function that
// appends records to a topic.
func broker(t *testing.T) (brokers []string, send func(topic string, records ...*sarama.ConsumerMessage)) {
	t.Helper()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.DefaultNumPartitions(1), kfake.AllowAutoTopicCreation())
	require.NoError(t, err)
	t.Cleanup(cluster.Close)

	config := sarama.NewConfig()
	config.Producer.Return.Successes = true
	producer, err := sarama.NewSyncProducer(cluster.ListenAddrs(), config)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, producer.Close()) })
	return cluster.ListenAddrs(), func(topic string, records ...*sarama.ConsumerMessage) {
		for _, record := range records {
			message := &sarama.ProducerMessage{
				Topic: topic, Key: sarama.ByteEncoder(record.Key), Value: sarama.ByteEncoder(record.Value),
			}
			for _, h := range record.Headers {
				message.Headers = append(message.Headers, *h)
			}
			_, _, err := producer.SendMessage(message)
			assert.NoError(t, err)
		}
	}
}

func TestRun(t *testing.T) {
	t.Parallel()

	t.Run("reads what is there and what comes, from topics old and new", func(t *testing.T) {
		t.Parallel()
		brokers, send := broker(t)
		send("elsewhere", binaryRecord("x", "1"))
		send("outbox.event.order",
			binaryRecord("e1", "1"), structuredRecord("e2", "2"), binaryRecord("e1", "1"),
			&sarama.ConsumerMessage{Value: []byte("noise")}, binaryRecord("e0", "0"))

		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		var mutex sync.Mutex
		got := make(map[string][]string)
		cfg := consumer.Config{Brokers: brokers, Group: "g", Prefix: "outbox.event.", FromBeginning: true}
		err := consumer.Run(ctx, cfg, func(_ context.Context, d consumer.Delivery) error {
			mutex.Lock()
			defer mutex.Unlock()
			topic := d.Record.Topic
			got[topic] = append(got[topic], identify(d))
			if len(got["outbox.event.order"]) == 5 && topic == "outbox.event.order" {
				send("outbox.event.customer", binaryRecord("c1", "1"))
			}
			if topic == "outbox.event.customer" {
				cancel()
			}
			return nil
		})
		require.NoError(t, err)
		assert.Equal(t, map[string][]string{
			"outbox.event.order":    {"e1 new", "e2 new", "e1 repeated", "no event", "e0 out of order"},
			"outbox.event.customer": {"c1 new"},
		}, got)
	})

	t.Run("a record whose handling failed comes again", func(t *testing.T) {
		t.Parallel()
		brokers, send := broker(t)
		send("orders", binaryRecord("e1", "1"), binaryRecord("e2", "2"), binaryRecord("e3", "3"))
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		cfg := consumer.Config{Brokers: brokers, Group: "g", Topics: []string{"orders"}, FromBeginning: true}

		broken := errors.New("no paper")
		err := consumer.Run(ctx, cfg, func(_ context.Context, d consumer.Delivery) error {
			if d.Event.ID() == "e2" {
				return broken
			}
			return nil
		})
		require.ErrorIs(t, err, broken)
		require.ErrorContains(t, err, "handle record orders-0@1")

		var got []string
		err = consumer.Run(ctx, cfg, func(_ context.Context, d consumer.Delivery) error {
			got = append(got, d.Event.ID())
			if d.Event.ID() == "e3" {
				cancel()
			}
			return nil
		})
		require.NoError(t, err)
		assert.Equal(t, []string{"e2", "e3"}, got)
	})

	t.Run("a broker that is not there is an error", func(t *testing.T) {
		t.Parallel()
		cfg := consumer.Config{Brokers: []string{"127.0.0.1:1"}, Group: "g", Prefix: "outbox.event."}
		err := consumer.Run(t.Context(), cfg, func(context.Context, consumer.Delivery) error { return nil })
		require.ErrorContains(t, err, "connect to Kafka")
	})
}

// identify names the event and the inbox's verdict on it.
func identify(d consumer.Delivery) string {
	if d.Err != nil {
		return "no event"
	}
	return d.Event.ID() + " " + string(d.Verdict)
}
