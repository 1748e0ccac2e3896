package fake_test

import (
	"testing"

	"github.com/IBM/sarama"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/outboxstream/streamer/internal/kafkatest"
	"github.com/outboxstream/streamer/internal/kafkatest/fake"
)

func TestStart(t *testing.T) {
	t.Parallel()
	cluster := fake.Start(t, kfake.NumBrokers(2), kfake.SeedTopics(1, "orders"))
	require.Len(t, cluster.Brokers(), 2)

	config := sarama.NewConfig()
	config.Producer.Return.Successes = true
	config.Producer.Retry.Max = 0
	producer, err := sarama.NewSyncProducer(cluster.Brokers(), config)
	require.NoError(t, err)
	defer producer.Close()
	send := func(value string) error {
		_, _, err := producer.SendMessage(&sarama.ProducerMessage{Topic: "orders", Value: sarama.StringEncoder(value)})
		return err
	}

	require.NoError(t, send("first"))
	cluster.ControlKey(int16(kmsg.Produce), func(request kmsg.Request) (kmsg.Response, error, bool) {
		produce := request.(*kmsg.ProduceRequest)
		response := produce.ResponseKind().(*kmsg.ProduceResponse)
		topic := kmsg.NewProduceResponseTopic()
		topic.Topic, topic.TopicID = produce.Topics[0].Topic, produce.Topics[0].TopicID
		partition := kmsg.NewProduceResponseTopicPartition()
		partition.ErrorCode = kerr.NotEnoughReplicas.Code
		topic.Partitions = append(topic.Partitions, partition)
		response.Topics = append(response.Topics, topic)
		return response, nil, true
	})
	require.ErrorIs(t, send("refused"), sarama.ErrNotEnoughReplicas)
	require.NoError(t, send("second"), "the script was for one request")

	got, err := kafkatest.Consume(t.Context(), cluster.Brokers(), "orders")
	require.NoError(t, err)
	require.Len(t, got, 2)
	assert.Equal(t, "first", string(got[0].Value))
	assert.Equal(t, "second", string(got[1].Value))
}
