package kafka

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
)

// However long a cluster is in trouble, it gets fewer and fewer requests, but
// never fewer than about one a second.
func TestPausesGrow(t *testing.T) {
	t.Parallel()
	for _, first := range []time.Duration{coordinatorPause, spanPause} {
		synctest.Test(t, func(t *testing.T) {
			began, wait := time.Now(), pausesFrom(first)
			var rests []time.Duration
			for time.Since(began) < 30*time.Second {
				before := time.Now()
				assert.True(t, wait.wait(t.Context()))
				rests = append(rests, time.Since(before))
			}
			assert.Less(t, rests[0], 2*first)
			assert.Less(t, len(rests), 60, "requests in 30 s")
			for _, rest := range rests[len(rests)-5:] {
				assert.Greater(t, rest, longestPause/2-time.Millisecond)
				assert.Less(t, rest, 2*longestPause)
			}
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	assert.False(t, pausesFrom(time.Hour).wait(ctx))
}
