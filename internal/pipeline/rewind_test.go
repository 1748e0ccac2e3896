package pipeline

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/outboxstream/streamer/checkpoint"
	"github.com/outboxstream/streamer/replication"
)

func TestRewindTarget(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	past := []checkpoint.Moment{
		{At: now.Add(-3 * time.Hour), LSN: 100},
		{At: now.Add(-2 * time.Hour), LSN: 200},
		{At: now.Add(-time.Hour), LSN: 300},
		{At: now, LSN: 400},
	}
	slot := replication.Slot{At: now, Flushed: 1000, RetainedWAL: 900}
	for name, c := range map[string]struct {
		rewind Rewind
		past   []checkpoint.Moment
		want   replication.LSN
	}{
		"as long ago as is kept":             {Rewind{Keep: 2 * time.Hour, MaxBytes: 10_000}, past, 200},
		"between two moments":                {Rewind{Keep: 90 * time.Minute, MaxBytes: 10_000}, past, 200},
		"longer than is known":               {Rewind{Keep: 24 * time.Hour, MaxBytes: 10_000}, past, 0},
		"nothing is known":                   {Rewind{Keep: time.Hour, MaxBytes: 10_000}, nil, 0},
		"more than may be kept":              {Rewind{Keep: 24 * time.Hour, MaxBytes: 750}, past, 300},
		"much more, also of what is the end": {Rewind{Keep: 24 * time.Hour, MaxBytes: 10}, past, 400},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			assert.Equal(t, c.want, c.rewind.target(slot, c.past))
		})
	}
}

func TestRewindTimes(t *testing.T) {
	t.Parallel()
	assert.Equal(t, 10*time.Second, Rewind{}.step())
	assert.Equal(t, time.Second, Rewind{Keep: time.Second}.step())
	assert.Equal(t, 10*time.Second, Rewind{Keep: 24 * time.Hour}.step())
	assert.Equal(t, time.Minute, Rewind{Keep: 24 * time.Hour}.rest())
}
