package kafka

import (
	"testing"

	"github.com/IBM/sarama"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/outboxstream/streamer/internal/kafkatest/fake"
)

// A broker needs a moment to know that it leads a topic that was just created.
// take-over failed for that reason right after it had created its topic.
func TestCompactedTopicWaitsForItsLeader(t *testing.T) {
	t.Parallel()
	cluster := fake.Start(t, kfake.NumBrokers(1), kfake.SeedTopics(1, "checkpoints"))
	client := connect(t, clientConfig(cluster.Brokers()))
	cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.ListOffsets}, Topic: "checkpoints", Err: kerr.NotLeaderForPartition, Count: 5})
	value, err := NewCompactedTopic(client, "checkpoints").Last(t.Context(), []byte("slot"))
	require.NoError(t, err)
	assert.Nil(t, value)
}

// A topic that is missing is said to be missing at once.
func TestCompactedTopicIsMissing(t *testing.T) {
	t.Parallel()
	cluster := fake.Start(t, kfake.NumBrokers(1))
	client := connect(t, clientConfig(cluster.Brokers()))
	_, err := NewCompactedTopic(client, "checkpoints").Last(t.Context(), []byte("slot"))
	require.ErrorIs(t, err, sarama.ErrUnknownTopicOrPartition)
}
