package pipeline

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/outboxstream/streamer/replication"
)

// The instance that works sees who stands by, and one that stands by sees who
// works.
func TestCompany(t *testing.T) {
	t.Parallel()
	perform(t, func(s *stage) {
		s.warmUp()
		s.world.mu.Lock()
		waiting := &modelControl{process: &process{world: s.world, number: 7}, server: s.world.primary}
		s.world.primary.standbys = append(s.world.primary.standbys, waiting)
		s.world.mu.Unlock()
		s.at(5 * time.Second)
		seen := s.pipeline.Company()
		assert.Equal(s, []replication.Holder{{PID: 7}}, seen.Standbys)
		assert.Empty(s, seen.Working)
		assert.Less(s, time.Since(seen.At), 2*pingEvery)

		s.otherHolds(true)
		s.at(20 * time.Second)
		seen = s.pipeline.Company()
		assert.Equal(s, Standby, s.pipeline.Status().Phase)
		assert.Empty(s, seen.Standbys)
		assert.Equal(s, []replication.Holder{{PID: 0, Lock: true}}, seen.Working)
		assert.Less(s, time.Since(seen.At), 2*pingEvery)
	})
}
