package e2e

import (
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/outboxstream/streamer/consume"
	"github.com/outboxstream/streamer/consume/franzgroup"
	"github.com/outboxstream/streamer/consume/saramagroup"
	"github.com/outboxstream/streamer/internal/kafkatest"
)

// Both clients write the same dead letter, with what the record had.
func TestDeadLetterTopic(t *testing.T) {
	t.Parallel()
	cluster := kafkatest.Shared(t)
	config := sarama.NewConfig()
	config.Version = sarama.V2_8_0_0
	config.Producer.Return.Successes = true
	config.Producer.RequiredAcks = sarama.WaitForAll
	producer, err := sarama.NewSyncProducer(cluster.Brokers(), config)
	require.NoError(t, err)
	defer producer.Close()
	client, err := kgo.NewClient(kgo.SeedBrokers(cluster.Brokers()...))
	require.NoError(t, err)
	defer client.Close()
	letter := record(3, 17, "a", 1, consume.Header{Name: "odd", Value: []byte{0, 0xff}})
	letter.Timestamp = time.UnixMilli(1_700_000_000_123)
	cause := consume.DeadLetterCause{Consumer: "billing", Group: "billers", Reason: "no such customer"}
	for name, of := range map[string]func(topic string) consume.Publisher{
		"sarama": func(topic string) consume.Publisher { return saramagroup.DeadLetters(producer, topic) },
		"franz":  func(topic string) consume.Publisher { return franzgroup.DeadLetters(client, topic) },
	} {
		t.Run(name, func(t *testing.T) {
			letters := kafkatest.TopicName(t)
			require.NoError(t, cluster.CreateTopic(t.Context(), letters, 1, nil))
			require.NoError(t, of(letters)(t.Context(), letter, cause))
			tombstone := letter
			tombstone.Key, tombstone.Value = nil, nil
			require.NoError(t, of(letters)(t.Context(), tombstone, cause))
			got, err := cluster.Consume(t.Context(), letters)
			require.NoError(t, err)
			require.Len(t, got, 2)
			assert.Equal(t, letter.Key, got[0].Key)
			assert.Equal(t, letter.Value, got[0].Value)
			assert.True(t, letter.Timestamp.Equal(got[0].Timestamp))
			assert.Nil(t, got[1].Key)
			assert.Nil(t, got[1].Value)
			for _, m := range got {
				var stored []consume.Header
				for _, h := range m.Headers {
					stored = append(stored, consume.Header{Name: string(h.Key), Value: h.Value})
				}
				assert.Equal(t, consume.DeadLetterHeaders(letter, cause), stored)
			}
		})
	}
}
