package kafkatest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/IBM/sarama"
)

// Consume returns all messages that a topic holds now, oldest first: partition
// after partition, each in order. It includes messages of aborted transactions.
func Consume(ctx context.Context, brokers []string, topic string) ([]*sarama.ConsumerMessage, error) {
	return (&Cluster{configured: brokers}).Consume(ctx, topic)
}

// Consume is the function [Consume] with the rights of the user [Admin].
func (c *Cluster) Consume(ctx context.Context, topic string) (messages []*sarama.ConsumerMessage, err error) {
	client, err := sarama.NewClient(c.Brokers(), c.Config(Admin))
	if err != nil {
		return nil, fmt.Errorf("connect to Kafka: %w", err)
	}
	defer client.Close()
	partitions, err := client.Partitions(topic)
	if err != nil {
		return nil, fmt.Errorf("partitions of topic %q: %w", topic, err)
	}
	for _, partition := range partitions {
		of, err := consumeWithRetry(ctx, client, topic, partition)
		if err != nil {
			return nil, fmt.Errorf("consume partition %d of topic %q: %w", partition, topic, err)
		}
		messages = append(messages, of...)
	}
	return messages, nil
}

// consumeWithRetry starts reading the partition again while its leader moves,
// for 30 s at most: tests read topics whose brokers they have just killed.
func consumeWithRetry(
	ctx context.Context, client sarama.Client, topic string, partition int32,
) (messages []*sarama.ConsumerMessage, err error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	var permanent error
	err = poll(ctx, nil, func() error {
		messages, err = consumePartition(ctx, client, topic, partition)
		if failed, ok := errors.AsType[sarama.KError](err); ok && !slices.Contains(leaderMoves, failed) {
			permanent = err
			return nil
		}
		if err != nil {
			_ = client.RefreshMetadata(topic) // otherwise the next attempt fails
		}
		return err
	})
	return messages, errors.Join(permanent, err)
}

// leaderMoves are the errors that go away without intervention.
var leaderMoves = []sarama.KError{
	sarama.ErrLeaderNotAvailable, sarama.ErrNotLeaderForPartition, sarama.ErrOffsetNotAvailable,
	sarama.ErrBrokerNotAvailable, sarama.ErrReplicaNotAvailable,
}

// consumePartition fetches batch after batch instead of using sarama's
// consumer, which does not report when it has passed the end. The last offsets
// may belong to transaction markers or to compacted messages.
func consumePartition(
	ctx context.Context, client sarama.Client, topic string, partition int32,
) (messages []*sarama.ConsumerMessage, err error) {
	offset, err := client.GetOffset(topic, partition, sarama.OffsetOldest)
	if err != nil {
		return nil, err
	}
	end, err := client.GetOffset(topic, partition, sarama.OffsetNewest)
	if err != nil {
		return nil, err
	}
	for offset < end {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		batches, err := fetchBatches(client, topic, partition, offset)
		if err != nil {
			return nil, err
		}
		for _, batch := range batches {
			messages = appendMessages(messages, batch, topic, partition, offset, end)
			offset = max(offset, batch.FirstOffset+int64(batch.LastOffsetDelta)+1)
		}
	}
	return messages, nil
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
		return nil, errors.Join(err, leader.Close()) // closed, so that it connects again
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

// appendMessages adds the messages of a batch with offsets from start to
// before end.
func appendMessages(
	messages []*sarama.ConsumerMessage, batch *sarama.RecordBatch, topic string, partition int32,
	start, end int64,
) []*sarama.ConsumerMessage {
	if batch.Control {
		return messages
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
		messages = append(messages, &sarama.ConsumerMessage{
			Topic: topic, Partition: partition, Offset: offset, Timestamp: timestamp,
			Key: record.Key, Value: record.Value, Headers: record.Headers,
		})
	}
	return messages
}

// String renders a message for test output: its place, its key, its headers in
// their order, its value.
func String(message *sarama.ConsumerMessage) string {
	var text strings.Builder
	fmt.Fprintf(&text, "%s/%d@%d key=%s", message.Topic, message.Partition, message.Offset, quoted(message.Key))
	for _, header := range message.Headers {
		fmt.Fprintf(&text, " %s=%s", header.Key, quoted(header.Value))
	}
	fmt.Fprintf(&text, " value=%s", quoted(message.Value))
	return text.String()
}

// Dump returns one line for each message, as [String] does.
func Dump(messages []*sarama.ConsumerMessage) string {
	var text strings.Builder
	for _, message := range messages {
		text.WriteString(String(message) + "\n")
	}
	return text.String()
}

// quoted distinguishes a missing value from an empty one.
func quoted(value []byte) string {
	if value == nil {
		return "null"
	}
	return fmt.Sprintf("%q", value)
}
