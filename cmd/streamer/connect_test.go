package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/outboxstream/streamer/internal/kafkatest"
)

func TestWrongKafkaPassword(t *testing.T) {
	t.Parallel()
	cluster := kafkatest.New(t, kafkatest.Options{Users: map[string]string{"streamer": "right"}})
	environ := []string{
		"STREAMER_KAFKA_BROKERS=" + strings.Join(cluster.Brokers(), ","), "STREAMER_KAFKA_SASL_MECHANISM=PLAIN",
		"STREAMER_KAFKA_SASL_ALLOW_PLAINTEXT=true", "STREAMER_KAFKA_SASL_USERNAME=streamer", "STREAMER_KAFKA_SASL_PASSWORD=wrong",
	}
	got := execute(t, environ, "tail", "some-topic")
	assert.Equal(t, exitUsage, got.code, got.stderr)
	assert.Contains(t, got.stderr, "check kafka.sasl")
	assert.NotContains(t, got.stderr, "wrong")
}
