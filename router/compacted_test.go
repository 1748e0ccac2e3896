package router

import (
	"fmt"
	"log/slog"
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/internal/kafkatest"
	"github.com/outboxstream/streamer/router/kafka"
)

func TestCompactedTopic(t *testing.T) {
	t.Parallel()
	cluster := kafkatest.Shared(t)
	r := newLiveRig(t, cluster.Brokers(), liveConfig(), someRules())
	client := connected(t, cluster.Brokers())
	log := kafka.NewCompactedTopic(client, kafkatest.TopicName(t))
	log.WriteWith(r.producer.Write, slog.New(slog.DiscardHandler))
	created, err := log.Ensure(t.Context(), 1)
	require.NoError(t, err)
	assert.True(t, created)
	created, err = log.Ensure(t.Context(), 1)
	require.NoError(t, err)
	assert.False(t, created, "a second time")
	policy, err := client.TopicSetting(log.Name(), "cleanup.policy")
	require.NoError(t, err)
	assert.Equal(t, "compact", policy)

	value, err := log.Last(t.Context(), []byte("slot"))
	require.NoError(t, err)
	assert.Nil(t, value, "empty topic")
	for i := range 300 {
		require.NoError(t, log.Append(t.Context(), fmt.Appendf(nil, "slot-%d", i%3), fmt.Append(nil, i)))
	}
	for i := range 3 {
		value, err := log.Last(t.Context(), fmt.Appendf(nil, "slot-%d", i))
		require.NoError(t, err)
		assert.Equal(t, strconv.Itoa(297+i), string(value))
	}
	value, err = log.Last(t.Context(), []byte("slot"))
	require.NoError(t, err)
	assert.Nil(t, value, "another key")

	two := kafka.NewCompactedTopic(client, cluster.NewTopic(t, 2, map[string]string{"cleanup.policy": "compact"}))
	_, err = two.Ensure(t.Context(), 1)
	require.ErrorContains(t, err, "2 partitions")
	assert.Equal(t, failure.Refused, failure.ClassOf(err))
	forgetting := kafka.NewCompactedTopic(client, cluster.NewTopic(t, 1, nil))
	_, err = forgetting.Ensure(t.Context(), 1)
	require.ErrorContains(t, err, "cleanup.policy=delete")
	assert.Equal(t, failure.Refused, failure.ClassOf(err))
}
