package kafkatest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/IBM/sarama"
)

// Reader reads topics forward, each message once. It fetches batch after batch
// instead of using sarama's consumer, which does not report when it has reached
// the end: the last offsets of a partition may belong to transaction markers or
// to compacted messages. It is not safe for concurrent use.
type Reader struct {
	Topics  []string
	cluster *Cluster
	client  sarama.Client
	next    map[string]map[int32]int64 // offset to read next, by topic and partition
}

// NewReader returns a reader with the rights of the user [Admin]. It connects
// with the first Read.
func NewReader(cluster *Cluster, topics ...string) *Reader {
	return &Reader{Topics: topics, cluster: cluster, next: map[string]map[int32]int64{}}
}

// Read calls do for every message between the last Read and the current ends of
// the partitions: partition after partition, each in order. It includes
// messages of aborted transactions. A topic that does not exist yet is empty.
// One that was read before must be there: with ZooKeeper, a broker that has just
// started knows no topic for a moment. After an error, Read may be called again:
// no message is skipped or delivered twice.
func (r *Reader) Read(ctx context.Context, do func(*sarama.ConsumerMessage)) error {
	if err := r.connect(); err != nil {
		return err
	}
	for _, topic := range r.Topics {
		partitions, err := r.partitions(topic)
		if err != nil && (r.next[topic] != nil || !errors.Is(err, sarama.ErrUnknownTopicOrPartition)) {
			return errors.Join(err, r.Close())
		}
		for _, partition := range partitions {
			if err := r.partition(ctx, topic, partition, do); err != nil {
				return errors.Join(fmt.Errorf("read partition %d of topic %q: %w", partition, topic, err), r.Close())
			}
		}
	}
	return nil
}

// Rewind makes the next Read begin with the oldest messages again.
func (r *Reader) Rewind() { clear(r.next) }

// Close ends the connections. The next Read connects again.
func (r *Reader) Close() error {
	if r.client == nil {
		return nil
	}
	err := r.client.Close()
	r.client = nil
	return err
}

func (r *Reader) connect() (err error) {
	if r.client != nil {
		return nil
	}
	config := r.cluster.Config(Admin)
	config.Net.DialTimeout = 3 * time.Second
	config.Net.ReadTimeout = 5 * time.Second
	config.Metadata.Retry.Max = 1
	if r.client, err = sarama.NewClient(r.cluster.Brokers(), config); err != nil {
		return fmt.Errorf("connect to Kafka: %w", err)
	}
	return nil
}

func (r *Reader) partitions(topic string) ([]int32, error) {
	if err := r.client.RefreshMetadata(topic); err != nil {
		return nil, fmt.Errorf("metadata of topic %q: %w", topic, err)
	}
	return r.client.Partitions(topic)
}

// errTruncated says that a partition is shorter than before.
var errTruncated = errors.New("partition was cut off or created again")

func (r *Reader) partition(ctx context.Context, topic string, partition int32, do func(*sarama.ConsumerMessage)) error {
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
		batches, err := fetchBatches(r.client, topic, partition, offset)
		if err != nil {
			return err
		}
		for _, batch := range batches {
			deliver(batch, topic, partition, offset, end, do)
			offset = max(offset, min(end, batch.FirstOffset+int64(batch.LastOffsetDelta)+1))
		}
		r.next[topic][partition] = offset
	}
	return nil
}

func fetchBatches(client sarama.Client, topic string, partition int32, offset int64) ([]*sarama.RecordBatch, error) {
	leader, err := client.Leader(topic, partition)
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

// deliver calls do for the messages of a batch with offsets from start to
// before end. Transaction markers are not messages.
func deliver(
	batch *sarama.RecordBatch, topic string, partition int32, start, end int64, do func(*sarama.ConsumerMessage),
) {
	if batch.Control {
		return
	}
	for _, record := range batch.Records {
		offset := batch.FirstOffset + record.OffsetDelta
		if offset < start || offset >= end {
			continue
		}
		timestamp := batch.FirstTimestamp.Add(record.TimestampDelta)
		if batch.LogAppendTime {
			timestamp = batch.MaxTimestamp
		}
		do(&sarama.ConsumerMessage{
			Topic: topic, Partition: partition, Offset: offset, Timestamp: timestamp,
			Key: record.Key, Value: record.Value, Headers: record.Headers,
		})
	}
}
