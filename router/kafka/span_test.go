package kafka

import (
	"testing"

	"github.com/IBM/sarama"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/internal/kafkatest"
	"github.com/outboxstream/streamer/internal/testserver"
)

// Many partitions are read with few requests.
func TestReadManySpans(t *testing.T) {
	testserver.Long(t)
	t.Parallel()
	const partitions = 500
	cluster := kafkatest.New(t, kafkatest.Options{})
	topic := cluster.NewTopic(t, partitions, nil)
	o := takeOver(t, cluster.Brokers(), "slot")
	require.NoError(t, o.Fence(t.Context(), partitionsOf(topic, partitions)))
	require.NoError(t, o.appended(topic, 499, 0))
	client := connect(t, clientConfig(cluster.Brokers()))
	spans, err := client.Whole(t.Context(), topic)
	require.NoError(t, err)
	sent, seen := requestsOf(client), 0
	require.NoError(t, client.ReadSpans(t.Context(), spans, func(*Span, int64, *sarama.Record) error {
		seen++
		return nil
	}))
	assert.Equal(t, 1, seen, "the rest are markers")
	assert.Less(t, requestsOf(client)-sent, int64(30))
}

// requestsOf counts the requests that a client has sent.
func requestsOf(c *Client) int64 {
	return c.client.Config().MetricRegistry.Get("request-rate").(interface{ Count() int64 }).Count()
}
