package audit

import (
	"context"

	"github.com/IBM/sarama"

	"github.com/outboxstream/streamer/internal/kafkatest"
)

// Read returns all records that the topics hold now, oldest first: partition
// after partition, each in order.
func Read(ctx context.Context, brokers []string, topics ...string) ([]*sarama.ConsumerMessage, error) {
	var all []*sarama.ConsumerMessage
	for _, topic := range topics {
		messages, err := kafkatest.Consume(ctx, brokers, topic)
		if err != nil {
			return nil, err
		}
		all = append(all, messages...)
	}
	return all, nil
}
