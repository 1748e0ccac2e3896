package kafka

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/IBM/sarama"

	"github.com/outboxstream/streamer/internal/failure"
)

// CompactedTopic is a topic with one partition that keeps the last value of
// each key. checkpoint.KafkaStore writes to it.
type CompactedTopic struct {
	client *Client
	name   string
	write  Write
	log    *slog.Logger
	// replicationFactor is what Ensure was called with, or -1.
	replicationFactor int
}

// Write appends a record to a partition and returns when all in-sync replicas
// have the record.
type Write func(ctx context.Context, topic string, partition int32, key, value []byte) error

// NewCompactedTopic returns the topic for reading. WriteWith makes it writable.
func NewCompactedTopic(c *Client, name string) *CompactedTopic {
	return &CompactedTopic{client: c, name: name, replicationFactor: -1}
}

// BrokerTime is the message.timestamp.type of topics whose records are
// timestamped by the broker that appends them. The checkpoint topic uses it, so
// that the broker's clock is visible.
const BrokerTime = "LogAppendTime"

// WriteWith lets Append write with the producer id that writes the data.
func (t *CompactedTopic) WriteWith(write Write, log *slog.Logger) { t.write, t.log = write, log }

// Name returns the topic's name.
func (t *CompactedTopic) Name() string { return t.name }

// Ensure creates the topic if it is missing, and reports whether it did. It
// refuses a topic that would lose values or spread them over partitions.
func (t *CompactedTopic) Ensure(ctx context.Context, replicationFactor int) (created bool, err error) {
	t.replicationFactor = replicationFactor
	if created, err = t.provide(ctx); err != nil {
		return false, fmt.Errorf("checkpoint topic %q: %w", t.name, err)
	}
	return created, t.check()
}

// provide creates the topic if it is missing.
func (t *CompactedTopic) provide(ctx context.Context) (created bool, err error) {
	err = t.client.Refresh(t.name)
	if errors.Is(err, sarama.ErrUnknownTopicOrPartition) {
		// The controller decides whether the topic exists.
		created, err = t.client.CreateTopic(t.name, TopicConfig{Partitions: 1, ReplicationFactor: t.replicationFactor, Configs: map[string]string{
			"cleanup.policy": "compact", "min.cleanable.dirty.ratio": "0.1", "segment.ms": "3600000", "message.timestamp.type": BrokerTime,
		}})
		if err == nil {
			err = t.client.waitTopic(ctx, t.name)
		}
	}
	forbidden := errors.Is(err, sarama.ErrTopicAuthorizationFailed)
	refused := failure.ClassOf(err) == failure.Refused
	if forbidden || refused {
		// The controller does not say so, but the topic may exist.
		if described, unknown := t.client.LookUp(ctx, []string{t.name}); unknown == nil && len(described) > 0 {
			return false, t.client.waitTopic(ctx, t.name)
		}
	}
	if forbidden {
		return false, failure.Refuse(failure.Advise(
			err, "grant the streamer's principal Create, Describe, Read and Write on the topic, or create it beforehand",
		))
	}
	if refused {
		err = failure.Advise(err, "give the checkpoint topic one partition and cleanup.policy=compact")
	}
	return created, err
}

// check refuses a topic that would lose values or spread them over partitions.
func (t *CompactedTopic) check() error {
	if count, err := t.client.Partitions(t.name); err == nil && count != 1 {
		return failure.Refuse(failure.Advise(
			fmt.Errorf("checkpoint topic %q has %d partitions, but must have one", t.name, count),
			"name another topic in checkpoint.kafka.topic",
		))
	}
	policy, err := t.client.TopicSetting(t.name, "cleanup.policy")
	if err == nil && !strings.Contains(policy, "compact") {
		return failure.Refuse(failure.Advise(
			fmt.Errorf("checkpoint topic %q has cleanup.policy=%s and would forget checkpoints", t.name, policy),
			"set cleanup.policy=compact on the topic",
		))
	}
	return nil // the policy is visible only with the DescribeConfigs permission
}

// firstLast is how many offsets at the end of the topic Last reads first. A
// value names every partition that is written to, so it may be large.
const firstLast = 16

// Last returns the newest value stored under key, or nil. It searches backwards
// from the end, because a shared topic may be large.
func (t *CompactedTopic) Last(ctx context.Context, key []byte) ([]byte, error) {
	return t.Find(ctx, func(have []byte) bool { return string(have) == string(key) })
}

// Find returns the newest value whose key matches, or nil.
func (t *CompactedTopic) Find(ctx context.Context, matches func(key []byte) bool) ([]byte, error) {
	last, err := t.find(ctx, matches)
	if errors.Is(err, sarama.ErrTopicAuthorizationFailed) && failure.ClassOf(err) != failure.Refused {
		err = failure.Refuse(failure.Advise(err, "grant the streamer's principal Describe and Read on the topic"))
	}
	return last, err
}

func (t *CompactedTopic) find(ctx context.Context, matches func(key []byte) bool) (value []byte, err error) {
	floor, err := t.offset(ctx, sarama.OffsetOldest)
	if err != nil {
		return nil, fmt.Errorf("first offset of topic %q partition 0: %w", t.name, err)
	}
	end, err := t.offset(ctx, sarama.OffsetNewest)
	if err != nil {
		return nil, fmt.Errorf("end of topic %q partition 0: %w", t.name, err)
	}
	found := false
	for window := int64(firstLast); !found && end > floor; window *= 8 {
		s := &Span{TopicPartition: TopicPartition{t.name, 0}, Next: max(floor, end-window), End: end}
		end = s.Next // the next, larger window ends here
		err := t.client.ReadSpans(ctx, []*Span{s}, func(_ *Span, _ int64, r *sarama.Record) error {
			if matches(r.Key) {
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

// offset asks the leader where the topic begins or ends. A broker needs a moment to
// know that it leads a topic that was just created: commands ask once, and should
// not fail because of that.
func (t *CompactedTopic) offset(ctx context.Context, at int64) (int64, error) {
	const patience = 10 * time.Second
	began := time.Now()
	for wait := pausesFrom(spanPause); ; {
		offset, err := t.client.client.GetOffset(t.name, 0, at)
		elsewhere := errors.Is(err, sarama.ErrNotLeaderForPartition) || errors.Is(err, sarama.ErrLeaderNotAvailable)
		if !elsewhere || time.Since(began) > patience || !wait.wait(ctx) {
			return offset, err
		}
		_ = t.client.client.RefreshMetadata(t.name)
	}
}

// Append writes a value and returns when all in-sync replicas have it. If the
// topic has been deleted, Append creates it again. The appended value is all
// that the topic must contain.
func (t *CompactedTopic) Append(ctx context.Context, key, value []byte) error {
	err := t.write(ctx, t.name, 0, key, value)
	if !errors.Is(err, sarama.ErrUnknownTopicOrPartition) || t.replicationFactor < 0 {
		return err
	}
	if _, failed := t.Ensure(ctx, t.replicationFactor); failed != nil {
		return errors.Join(err, failed)
	}
	t.log.Error("checkpoint topic had been deleted and was created again", "topic", t.name)
	return t.write(ctx, t.name, 0, key, value)
}
