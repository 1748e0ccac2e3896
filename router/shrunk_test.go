package router

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/internal/failure"
)

// A topic that was created again with fewer partitions needs a new session, not
// an operator: its events are read back and routed as it is now.
func TestProducerTopicShrunk(t *testing.T) {
	t.Parallel()
	for name, lagging := range map[string]time.Duration{"for good": 0, "as a lagging broker sees it": 3 * time.Second} {
		inBubble(t, name, func(t *testing.T) {
			r := newOrdersRig(t, 1, 4)
			require.NoError(t, r.feed(50, 13))
			require.NoError(t, r.settle())
			r.model.Lock()
			topic := r.model.Topics[orders]
			all := topic.Partitions
			topic.Partitions = all[:1]
			r.model.Unlock()
			if lagging > 0 {
				time.AfterFunc(lagging, func() {
					r.model.Lock()
					defer r.model.Unlock()
					topic.Partitions = all
				})
			}
			start := time.Now()
			err := r.feed(50, 13)
			if err == nil {
				err = r.settle()
			}
			if lagging > 0 {
				require.NoError(t, err)
				r.requireComplete()
				return
			}
			require.ErrorIs(t, err, errShrunk)
			require.ErrorContains(t, err, "has 1 partitions, but had 4")
			require.Equal(t, failure.Transient, failure.ClassOf(err))
			assert.WithinDuration(t, start.Add(shrinkPatience), time.Now(), 5*time.Second)
		})
	}
}
