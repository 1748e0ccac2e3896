package kafkatest_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/outboxstream/streamer/internal/kafkatest"
)

func TestAtLeast(t *testing.T) {
	t.Setenv("STREAMER_TEST_KAFKA_VERSION", "3.9.2")
	assert.Equal(t, "3.9.2", kafkatest.Version())
	assert.True(t, kafkatest.AtLeast(3, 9))
	assert.True(t, kafkatest.AtLeast(2, 10))
	assert.False(t, kafkatest.AtLeast(3, 10), "numbers, not letters")
	assert.False(t, kafkatest.AtLeast(4, 0))
	t.Setenv("STREAMER_TEST_KAFKA_VERSION", "")
	assert.Equal(t, kafkatest.DefaultVersion, kafkatest.Version())
	assert.True(t, kafkatest.AtLeast(4, 1))
	t.Setenv("STREAMER_TEST_KAFKA_VERSION", "trunk")
	assert.False(t, kafkatest.AtLeast(0, 1))
}
