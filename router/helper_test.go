package router

import (
	"context"
	"fmt"
	"maps"
	"testing"

	"github.com/IBM/sarama"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/decoder"
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

// withColumn is the core columns and one more.
func withColumn(a decoder.Attribute, column string) map[decoder.Attribute]string {
	columns := maps.Clone(coreColumns)
	columns[a] = column
	return columns
}

// readPartition hands every record of a partition, up to its end as of now, to
// visit.
func readPartition(ctx context.Context, c *Client, topic string, partition int32, visit func(offset int64, r *sarama.Record) error) error {
	logs, err := c.Logs(ctx, topic)
	if err != nil {
		return err
	}
	if int(partition) >= len(logs) {
		return fmt.Errorf("topic %q has %d partitions", topic, len(logs))
	}
	return c.Scan(ctx, logs[partition], func(record *LogRecord) error {
		r := &sarama.Record{Key: record.Key, Value: record.Value}
		for _, h := range record.Headers {
			header := sarama.RecordHeader(h)
			r.Headers = append(r.Headers, &header)
		}
		return visit(record.Offset, r)
	})
}

// plain is the batch as sarama encodes it by itself.
func plain(b *Batch, c codec, id int64, epoch int16) *sarama.RecordBatch {
	wire := &sarama.RecordBatch{}
	b.wire(wire, nil, c, id, epoch, make([]*sarama.Record, b.count()))
	wire.CompressionLevel, wire.Records = c.level, b.records()
	return wire
}
