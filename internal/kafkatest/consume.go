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

// Consume is the function [Consume] with the rights of the user [Admin]. While
// leaders move, it goes on for 30 s at most: tests read topics whose brokers
// they have just killed.
func (c *Cluster) Consume(ctx context.Context, topic string) (messages []*sarama.ConsumerMessage, err error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	reader := NewReader(c, topic)
	defer func() { _ = reader.Close() }()
	var permanent error
	err = poll(ctx, nil, func() error {
		failed := reader.Read(ctx, func(m *sarama.ConsumerMessage) { messages = append(messages, m) })
		if failed == nil && len(reader.next) == 0 {
			permanent = fmt.Errorf("topic %q: %w", topic, sarama.ErrUnknownTopicOrPartition)
		}
		if code, ok := errors.AsType[sarama.KError](failed); ok && !slices.Contains(leaderMoves, code) {
			permanent, failed = failed, nil
		}
		return failed
	})
	return messages, errors.Join(permanent, err)
}

// leaderMoves are the errors that go away without intervention.
var leaderMoves = []sarama.KError{
	sarama.ErrLeaderNotAvailable, sarama.ErrNotLeaderForPartition, sarama.ErrOffsetNotAvailable,
	sarama.ErrBrokerNotAvailable, sarama.ErrReplicaNotAvailable,
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
