package saramagroup

import (
	"context"
	"fmt"

	"github.com/IBM/sarama"

	"github.com/outboxstream/streamer/consume"
)

// DeadLetters stores dead letters in a topic, with the headers of
// [consume.DeadLetterHeaders]. The producer is to wait for all replicas
// (sarama.WaitForAll).
func DeadLetters(producer sarama.SyncProducer, topic string) consume.Publisher {
	return func(_ context.Context, r consume.Record, cause consume.DeadLetterCause) error {
		m := &sarama.ProducerMessage{Topic: topic, Value: bytes(r.Value), Key: bytes(r.Key), Timestamp: r.Timestamp}
		for _, h := range consume.DeadLetterHeaders(r, cause) {
			m.Headers = append(m.Headers, sarama.RecordHeader{Key: []byte(h.Name), Value: h.Value})
		}
		if _, _, err := producer.SendMessage(m); err != nil {
			return fmt.Errorf("topic %s: %w", topic, err)
		}
		return nil
	}
}

// bytes keeps nil apart from what is empty.
func bytes(value []byte) sarama.Encoder {
	if value == nil {
		return nil
	}
	return sarama.ByteEncoder(value)
}
