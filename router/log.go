package router

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/IBM/sarama"

	"github.com/outboxstream/streamer/internal/failure"
)

// fetchBytes is how much of a partition one fetch brings; a larger batch comes
// whole.
const fetchBytes = 1 << 20

// ReadPartition hands every record of a partition, from the first to the end as
// of now, to visit, in order. Control records are passed over.
func (c *Client) ReadPartition(ctx context.Context, topic string, partition int32, visit func(offset int64, r *sarama.Record) error) error {
	next, err := c.client.GetOffset(topic, partition, sarama.OffsetOldest)
	if err != nil {
		return fmt.Errorf("first offset of topic %q partition %d: %w", topic, partition, err)
	}
	end, err := c.client.GetOffset(topic, partition, sarama.OffsetNewest)
	if err != nil {
		return fmt.Errorf("end of topic %q partition %d: %w", topic, partition, err)
	}
	// A throttled broker may answer with nothing for a while.
	const patience = 20
	for empty := 0; next < end; {
		if err := ctx.Err(); err != nil {
			return err
		}
		batches, err := c.fetch(topic, partition, next)
		if err != nil {
			return fmt.Errorf("read topic %q partition %d at offset %d: %w", topic, partition, next, err)
		}
		if empty++; empty > patience {
			return fmt.Errorf("read topic %q partition %d: nothing at offset %d although it ends at %d", topic, partition, next, end)
		}
		for _, batch := range batches {
			if batch.PartialTrailingRecord {
				continue
			}
			empty = 0
			if err := visitBatch(batch, next, visit); err != nil {
				return err
			}
			next = max(next, batch.LastOffset()+1)
		}
	}
	return nil
}

func visitBatch(batch *sarama.RecordBatch, from int64, visit func(int64, *sarama.Record) error) error {
	if batch.Control {
		return nil
	}
	for _, r := range batch.Records {
		offset := batch.FirstOffset + r.OffsetDelta
		if offset < from {
			continue // the fetch began inside a batch
		}
		if err := visit(offset, r); err != nil {
			return err
		}
	}
	return nil
}

func (c *Client) fetch(topic string, partition int32, offset int64) ([]*sarama.RecordBatch, error) {
	broker, err := c.client.Leader(topic, partition)
	if err != nil {
		return nil, err
	}
	request := &sarama.FetchRequest{Version: 11, MaxWaitTime: 500, MinBytes: 1, MaxBytes: fetchBytes, SessionEpoch: -1}
	request.AddBlock(topic, partition, offset, fetchBytes, -1)
	response, err := broker.Fetch(request)
	if err != nil {
		return nil, err
	}
	block := response.GetBlock(topic, partition)
	if block == nil {
		return nil, sarama.ErrIncompleteResponse
	}
	if block.Err != sarama.ErrNoError {
		return nil, block.Err
	}
	var batches []*sarama.RecordBatch
	for _, set := range block.RecordsSet {
		if set.RecordBatch != nil {
			batches = append(batches, set.RecordBatch)
		}
	}
	return batches, nil
}

// CompactedTopic is a topic of one partition that keeps the last value of each
// key. It is the log that checkpoint.KafkaStore writes to.
type CompactedTopic struct {
	client   *Client
	producer *Producer
	name     string
	// replicationFactor is what Ensure was called with, or -1.
	replicationFactor int
}

// NewCompactedTopic returns the topic for reading; UseProducer makes it
// writable.
func NewCompactedTopic(c *Client, name string) *CompactedTopic {
	return &CompactedTopic{client: c, name: name, replicationFactor: -1}
}

// UseProducer lets Append write with the producer id of the data.
func (t *CompactedTopic) UseProducer(p *Producer) { t.producer = p }

// Name is the topic's name.
func (t *CompactedTopic) Name() string { return t.name }

// Ensure creates the topic if it is missing, and refuses one that would forget
// values or keep them apart.
func (t *CompactedTopic) Ensure(ctx context.Context, replicationFactor int) error {
	t.replicationFactor = replicationFactor
	err := t.client.Refresh(t.name)
	if errors.Is(err, sarama.ErrUnknownTopicOrPartition) {
		err = t.client.CreateTopic(t.name, TopicConfig{Partitions: 1, ReplicationFactor: replicationFactor, Configs: map[string]string{
			"cleanup.policy": "compact", "min.cleanable.dirty.ratio": "0.1", "segment.ms": "3600000",
		}})
		if err == nil {
			err = t.client.waitTopic(ctx, t.name)
		}
	}
	if errors.Is(err, sarama.ErrTopicAuthorizationFailed) {
		return failure.Refuse(fmt.Errorf("checkpoint topic %q: %w: allow Create, Describe, Read and Write on it to our principal, or create it beforehand", t.name, err))
	}
	if err != nil {
		return fmt.Errorf("checkpoint topic %q: %w", t.name, err)
	}
	if count, err := t.client.Partitions(t.name); err == nil && count != 1 {
		return failure.Refuse(fmt.Errorf("checkpoint topic %q has %d partitions, it must have one: name another in checkpoint.kafka.topic", t.name, count))
	}
	policy, err := t.client.TopicSetting(t.name, "cleanup.policy")
	if err == nil && !strings.Contains(policy, "compact") {
		return failure.Refuse(fmt.Errorf("checkpoint topic %q has cleanup.policy=%s and would forget checkpoints: set cleanup.policy=compact", t.name, policy))
	}
	return nil // without DescribeConfigs permission the policy cannot be seen
}

// firstLast is how many offsets at the end of the topic Last looks at first. A
// value names every partition that is written to, so it may be large.
const firstLast = 16

// Last returns the newest value stored under key, or nil. It looks for it
// backwards from the end, because a topic that many share may be large.
func (t *CompactedTopic) Last(ctx context.Context, key []byte) ([]byte, error) {
	last, err := t.last(ctx, key)
	if errors.Is(err, sarama.ErrTopicAuthorizationFailed) && failure.ClassOf(err) != failure.Refused {
		err = failure.Refuse(fmt.Errorf("%w: allow Describe and Read on it to our principal", err))
	}
	return last, err
}

func (t *CompactedTopic) last(ctx context.Context, key []byte) (value []byte, err error) {
	floor, err := t.client.client.GetOffset(t.name, 0, sarama.OffsetOldest)
	if err != nil {
		return nil, fmt.Errorf("first offset of topic %q partition 0: %w", t.name, err)
	}
	end, err := t.client.client.GetOffset(t.name, 0, sarama.OffsetNewest)
	if err != nil {
		return nil, fmt.Errorf("end of topic %q partition 0: %w", t.name, err)
	}
	found := false
	for window := int64(firstLast); !found && end > floor; window *= 8 {
		s := &span{topicPartition: topicPartition{t.name, 0}, next: max(floor, end-window), end: end}
		end = s.next // what the next, larger window is for
		err := t.client.readSpans(ctx, []*span{s}, func(_ *span, _ int64, r *sarama.Record) error {
			if string(r.Key) == string(key) {
				value, found = bytes.Clone(r.Value), true
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return value, nil
}

// Append writes a value and returns when all in-sync replicas have it. A topic
// that has been deleted meanwhile is created again: what is appended is all that
// has to be in it.
func (t *CompactedTopic) Append(ctx context.Context, key, value []byte) error {
	err := t.producer.Write(ctx, t.name, 0, key, value)
	if !errors.Is(err, sarama.ErrUnknownTopicOrPartition) || t.replicationFactor < 0 {
		return err
	}
	if created := t.Ensure(ctx, t.replicationFactor); created != nil {
		return errors.Join(err, created)
	}
	t.producer.log.Error("checkpoint topic had been deleted and was created again", "topic", t.name)
	return t.producer.Write(ctx, t.name, 0, key, value)
}
