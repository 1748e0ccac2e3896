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
	for name, test := range map[string]struct {
		lagging time.Duration // how long the partitions are not seen; 0 is for ever
		stops   bool
	}{
		"for good": {}, "for good, and it stops": {stops: true}, "as a lagging broker sees it": {lagging: 3 * time.Second},
	} {
		inBubble(t, name, func(t *testing.T) {
			config := someConfig()
			config.StopOnGrowth = test.stops
			r := newRig(t, newOrders(1, 4), config)
			require.NoError(t, r.feed(50, 13))
			require.NoError(t, r.settle())
			r.model.Lock()
			topic := r.model.Topics[orders]
			all := topic.Partitions
			topic.Partitions = all[:1]
			r.model.Unlock()
			if test.lagging > 0 {
				time.AfterFunc(test.lagging, func() {
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
			if test.lagging > 0 {
				require.NoError(t, err)
				r.requireComplete()
				return
			}
			require.ErrorIs(t, err, errShrunk)
			require.ErrorContains(t, err, "has 1 partitions, but had 4")
			want := failure.Transient
			if test.stops {
				want = failure.Refused
				assert.Contains(t, failure.Fix(err), "start the streamer again")
			}
			require.Equal(t, want, failure.ClassOf(err))
			assert.WithinDuration(t, start.Add(shrinkPatience), time.Now(), 5*time.Second)
		})
	}
}
