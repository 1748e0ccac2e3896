package faults

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/IBM/sarama"

	"github.com/outboxstream/streamer/internal/kafkatest"
)

// record is a record as stored in Kafka.
type record struct {
	topic      string
	partition  int32
	offset     int64
	key, value []byte
	headers    []*sarama.RecordHeader
	timestamp  time.Time
}

func (r record) header(name string) string {
	for _, h := range r.headers {
		if string(h.Key) == name {
			return string(h.Value)
		}
	}
	return ""
}

// where returns the record's place, for messages.
func (r record) where() string { return fmt.Sprintf("%s/%d@%d", r.topic, r.partition, r.offset) }

// reader reads topics forward, each record once, with requests of its own: it
// knows when it is at the end. It is not safe for concurrent use.
type reader struct {
	cluster *kafkatest.Cluster
	client  sarama.Client
	topics  []string
	next    map[string]map[int32]int64 // offset to read next, by topic and partition
}

func newReader(cluster *kafkatest.Cluster, topics ...string) *reader {
	return &reader{cluster: cluster, topics: topics, next: map[string]map[int32]int64{}}
}

// read calls do for every record between the last read and the current ends of
// the partitions. A topic that does not exist yet is empty. After an error it
// may be called again: no record is skipped or delivered twice.
func (r *reader) read(ctx context.Context, do func(record)) error {
	if err := r.connect(); err != nil {
		return err
	}
	for _, topic := range r.topics {
		partitions, err := r.partitions(topic)
		if err != nil {
			return errors.Join(err, r.close())
		}
		for _, partition := range partitions {
			if err := r.partition(ctx, topic, partition, do); err != nil {
				return errors.Join(fmt.Errorf("read %s/%d: %w", topic, partition, err), r.close())
			}
		}
	}
	return nil
}

func (r *reader) connect() (err error) {
	if r.client != nil {
		return nil
	}
	config := r.cluster.Config(kafkatest.Admin)
	config.Net.DialTimeout = 3 * time.Second
	config.Net.ReadTimeout = 5 * time.Second
	config.Metadata.Retry.Max = 1
	r.client, err = sarama.NewClient(r.cluster.Brokers(), config)
	if err != nil {
		return fmt.Errorf("connect to Kafka: %w", err)
	}
	return nil
}

// close ends the connections; the next read connects again.
func (r *reader) close() error {
	if r.client == nil {
		return nil
	}
	err := r.client.Close()
	r.client = nil
	return err
}

func (r *reader) partitions(topic string) ([]int32, error) {
	if err := r.client.RefreshMetadata(topic); err != nil {
		if errors.Is(err, sarama.ErrUnknownTopicOrPartition) {
			return nil, nil
		}
		return nil, fmt.Errorf("metadata of %s: %w", topic, err)
	}
	return r.client.Partitions(topic)
}

func (r *reader) partition(ctx context.Context, topic string, partition int32, do func(record)) error {
	if r.next[topic] == nil {
		r.next[topic] = map[int32]int64{}
	}
	offset, begun := r.next[topic][partition]
	if !begun {
		oldest, err := r.client.GetOffset(topic, partition, sarama.OffsetOldest)
		if err != nil {
			return err
		}
		offset = oldest
	}
	end, err := r.client.GetOffset(topic, partition, sarama.OffsetNewest)
	if err != nil {
		return err
	}
	if end < offset {
		return fmt.Errorf("%w: it ends at %d, %d was read before", errTruncated, end, offset)
	}
	for offset < end {
		if err := ctx.Err(); err != nil {
			return err
		}
		batches, err := r.fetch(topic, partition, offset)
		if err != nil {
			return err
		}
		for _, batch := range batches {
			each(batch, topic, partition, offset, end, do)
			offset = max(offset, min(end, batch.FirstOffset+int64(batch.LastOffsetDelta)+1))
		}
		r.next[topic][partition] = offset
	}
	return nil
}

// errTruncated says that a partition is shorter than before.
var errTruncated = errors.New("partition was cut off or created again")

func (r *reader) fetch(topic string, partition int32, offset int64) ([]*sarama.RecordBatch, error) {
	leader, err := r.client.Leader(topic, partition)
	if err != nil {
		return nil, err
	}
	const enough = 4 << 20
	request := &sarama.FetchRequest{Version: 11, MinBytes: 1, MaxWaitTime: 100, MaxBytes: enough, SessionEpoch: -1}
	request.AddBlock(topic, partition, offset, enough, -1)
	response, err := leader.Fetch(request)
	if err != nil {
		return nil, err
	}
	block := response.GetBlock(topic, partition)
	if block == nil {
		return nil, errors.New("no answer for the partition")
	}
	if block.Err != sarama.ErrNoError {
		return nil, block.Err
	}
	var batches []*sarama.RecordBatch
	for _, records := range block.RecordsSet {
		if batch := records.RecordBatch; batch != nil && !batch.PartialTrailingRecord {
			batches = append(batches, batch)
		}
	}
	return batches, nil
}

// each calls do for the records of a batch from offset to before end.
// Transaction markers are not records.
func each(batch *sarama.RecordBatch, topic string, partition int32, offset, end int64, do func(record)) {
	if batch.Control {
		return
	}
	for _, r := range batch.Records {
		at := batch.FirstOffset + r.OffsetDelta
		if at < offset || at >= end {
			continue
		}
		do(record{
			topic: topic, partition: partition, offset: at, key: r.Key, value: r.Value,
			headers: slices.Clone(r.Headers), timestamp: batch.FirstTimestamp.Add(r.TimestampDelta),
		})
	}
}
