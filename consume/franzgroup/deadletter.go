package franzgroup

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/outboxstream/streamer/consume"
)

// DeadLetters stores dead letters in a topic, with the headers of
// [consume.DeadLetterHeaders]. The client waits for all replicas, unless its
// options say otherwise.
func DeadLetters(client *kgo.Client, topic string) consume.Publisher {
	return func(ctx context.Context, r consume.Record, cause consume.DeadLetterCause) error {
		letter := &kgo.Record{Topic: topic, Key: r.Key, Value: r.Value, Timestamp: r.Timestamp}
		for _, h := range consume.DeadLetterHeaders(r, cause) {
			letter.Headers = append(letter.Headers, kgo.RecordHeader{Key: h.Name, Value: h.Value})
		}
		if err := client.ProduceSync(ctx, letter).FirstErr(); err != nil {
			return fmt.Errorf("topic %s: %w", topic, err)
		}
		return nil
	}
}
