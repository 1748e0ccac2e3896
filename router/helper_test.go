package router

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/decoder"
	"github.com/outboxstream/streamer/router/kafka"
)

func encoderFor(t testing.TB, rules Rules) *encoder {
	t.Helper()
	routes, err := NewRouter(rules)
	require.NoError(t, err)
	return newEncoder(routes)
}

// tryEncode routes the event and writes it into the batch.
func tryEncode(enc *encoder, b *Batch, e *decoder.Event) error {
	d, err := enc.router.Route(e)
	if err != nil {
		return err
	}
	return enc.encode(b, e, &d)
}

func encodeInto(t testing.TB, enc *encoder, b *Batch, e *decoder.Event) {
	t.Helper()
	require.NoError(t, tryEncode(enc, b, e))
}

// withColumn returns the core columns and one more.
func withColumn(a decoder.Attribute, column string) map[decoder.Attribute]string {
	columns := maps.Clone(coreColumns)
	columns[a] = column
	return columns
}

// readPartition passes every record of a partition, up to its current end, to
// visit.
func readPartition(
	ctx context.Context, c *kafka.Client, topic string, partition int32, visit func(offset int64, r *sarama.Record) error,
) error {
	logs, err := c.Logs(ctx, topic)
	if err != nil {
		return err
	}
	if int(partition) >= len(logs) {
		return fmt.Errorf("topic %q has %d partitions", topic, len(logs))
	}
	return c.Scan(ctx, logs[partition], func(record *kafka.LogRecord) error {
		r := &sarama.Record{Key: record.Key, Value: record.Value}
		for _, h := range record.Headers {
			header := sarama.RecordHeader(h)
			r.Headers = append(r.Headers, &header)
		}
		return visit(record.Offset, r)
	})
}

// plain returns the batch as sarama itself encodes it.
func plain(b *Batch, c codec, id int64, epoch int16) *sarama.RecordBatch {
	wire := &sarama.RecordBatch{}
	b.wire(wire, nil, c, id, epoch, make([]*sarama.Record, b.count()))
	wire.CompressionLevel, wire.Records = c.level, b.records()
	return wire
}

func someClient(brokers []string) kafka.ClientConfig {
	return kafka.ClientConfig{Brokers: brokers, ClientID: "streamer-test", RequestTimeout: 5 * time.Second}
}

// connected returns a client of a cluster without passwords.
func connected(t testing.TB, brokers []string) *kafka.Client {
	t.Helper()
	client, err := kafka.Connect(someClient(brokers))
	require.NoError(t, err)
	t.Cleanup(client.Close)
	return client
}

// owning is a new instance's first step, on its own connection.
func owning(t testing.TB, brokers []string, transactionalID string) *kafka.Owner {
	t.Helper()
	o, err := connected(t, brokers).TakeOver(t.Context(), transactionalID)
	require.NoError(t, err)
	require.True(t, o.Fences())
	return o
}

// firstPartitions names the first n partitions of a topic.
func firstPartitions(topic string, n int32) map[string][]int32 {
	var ids []int32
	for id := range n {
		ids = append(ids, id)
	}
	return map[string][]int32{topic: ids}
}

// endsNow returns the current ends of the partitions of a topic.
func endsNow(t testing.TB, c *kafka.Client, topic string) []int64 {
	t.Helper()
	found, err := c.Ends(t.Context(), []string{topic})
	require.NoError(t, err)
	all := make([]int64, len(found[topic]))
	for id, end := range found[topic] {
		all[id] = end
	}
	return all
}

// clone returns rules that can be changed without changing r's tables.
func (r Rules) clone() Rules {
	r.Tables = slices.Clone(r.Tables)
	return r
}
