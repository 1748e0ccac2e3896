package status

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/outboxstream/streamer/checkpoint"
)

func TestResume(t *testing.T) {
	t.Parallel()
	once := ResumeOf(checkpoint.Record{})
	assert.Equal(t, &Resume{ExactlyOnce: true}, once)
	assert.Equal(t, "exactly once", once.String())
	not := ResumeOf(checkpoint.Record{AtLeastOnce: "transactional id not allowed"})
	assert.Equal(t, &Resume{Reason: "transactional id not allowed"}, not)
	assert.Equal(t, "at least once (transactional id not allowed)", not.String())
}
