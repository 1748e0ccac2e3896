package saramagroup

import (
	"context"
	"fmt"

	"github.com/IBM/sarama"

	"github.com/outboxstream/streamer/consume"
)

// kafka answers what a consumer asks about partitions.
type kafka struct{ client sarama.Client }

var _ consume.Client = kafka{}

func (k kafka) Partitions(_ context.Context, topic string) (int32, error) {
	if err := k.client.RefreshMetadata(topic); err != nil {
		return 0, fmt.Errorf("partitions of %s: %w", topic, err)
	}
	numbers, err := k.client.Partitions(topic)
	if err != nil {
		return 0, fmt.Errorf("partitions of %s: %w", topic, err)
	}
	return int32(len(numbers)), nil
}

func (k kafka) Oldest(_ context.Context, topic string, partition int32) (int64, error) {
	offset, err := k.client.GetOffset(topic, partition, sarama.OffsetOldest)
	if err != nil {
		return 0, fmt.Errorf("oldest offset of %s-%d: %w", topic, partition, err)
	}
	return offset, nil
}

func (k kafka) End(_ context.Context, topic string, partition int32) (int64, error) {
	offset, err := k.client.GetOffset(topic, partition, sarama.OffsetNewest)
	if err != nil {
		return 0, fmt.Errorf("end of %s-%d: %w", topic, partition, err)
	}
	return offset, nil
}

// Holds reads, because only that tells records from the markers that take an
// offset as well.
func (k kafka) Holds(ctx context.Context, topic string, partition int32, from, until int64) (bool, error) {
	for from < until && ctx.Err() == nil {
		next, found, err := k.look(topic, partition, from, until)
		if err != nil || found {
			return found, err
		}
		if next <= from {
			return true, nil // the broker has not given it yet
		}
		from = next
	}
	return false, ctx.Err()
}

// look reads a few batches, and returns the offset after them, or that one of their
// records is none of the control records and below until.
func (k kafka) look(topic string, partition int32, offset, until int64) (next int64, found bool, err error) {
	broker, err := k.client.Leader(topic, partition)
	if err != nil {
		return 0, false, fmt.Errorf("leader of %s-%d: %w", topic, partition, err)
	}
	request := &sarama.FetchRequest{Version: 4, MaxWaitTime: 100, MinBytes: 1, MaxBytes: 64 << 10, Isolation: sarama.ReadUncommitted}
	request.AddBlock(topic, partition, offset, 64<<10, -1)
	response, err := broker.Fetch(request)
	if err != nil {
		return 0, false, fmt.Errorf("read %s-%d: %w", topic, partition, err)
	}
	block := response.GetBlock(topic, partition)
	if block == nil {
		return 0, false, nil
	}
	if block.Err != sarama.ErrNoError {
		if err := k.client.RefreshMetadata(topic); err != nil {
			return 0, false, fmt.Errorf("read %s-%d: %w", topic, partition, err)
		}
		return 0, false, fmt.Errorf("read %s-%d: %w", topic, partition, block.Err)
	}
	for _, records := range block.RecordsSet {
		batch := records.RecordBatch
		if batch == nil { // of the time before Kafka 0.11
			return 0, true, nil
		}
		for _, r := range batch.Records {
			if at := batch.FirstOffset + r.OffsetDelta; !batch.Control && at >= offset && at < until {
				return 0, true, nil
			}
		}
		next = batch.LastOffset() + 1
	}
	return next, false, nil
}
