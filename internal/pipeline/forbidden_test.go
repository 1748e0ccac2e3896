package pipeline

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/internal/failure"
)

// Where Kafka does not allow transactional IDs, auto publishes nevertheless, and
// says that a crash may repeat events. exactly_once publishes nothing.
func TestTransactionalIDIsForbidden(t *testing.T) {
	t.Parallel()
	t.Run("auto", func(t *testing.T) {
		t.Parallel()
		perform(t, func(s *stage) {
			s.world.forbidden = true
			s.warmUp()
			assert.Equal(s, []string{"a"}, s.ids())
			assert.Equal(s, 1, s.told("other instances cannot be kept out, events may be repeated after a crash"))
			assert.Equal(s, []bool{false}, s.resuming)
			assert.Contains(s, s.world.record().AtLeastOnce, "transactional id cannot be used")
		})
	})
	t.Run("auto, allowed", func(t *testing.T) {
		t.Parallel()
		perform(t, func(s *stage) {
			s.warmUp()
			assert.Zero(s, s.told("other instances cannot be kept out"))
			assert.Equal(s, []bool{true}, s.resuming)
			assert.Empty(s, s.world.record().AtLeastOnce)
		})
	})
	t.Run("exactly_once", func(t *testing.T) {
		t.Parallel()
		perform(t, func(s *stage) {
			s.world.forbidden, s.config.Resume = true, ResumeExactlyOnce
			s.start()
			s.began = time.Now()
			_, err := s.exit()
			require.ErrorContains(s, err, "kafka.resume is exactly_once, but")
			assert.Equal(s, failure.Refused, failure.ClassOf(err))
			assert.Empty(s, s.ids())
			assert.Zero(s, s.opened(), "no stream was opened")
		})
	})
}

// Without a fence and without reading back, a successor repeats what followed
// the checkpoint: all of it, in order, from the first row above the checkpoint
// on, and each record as it was.
func TestAtLeastOnceRepeatsASuffix(t *testing.T) {
	t.Parallel()
	perform(t, func(s *stage) {
		s.config.Resume = ResumeAtLeastOnce
		s.warmUp()
		s.at(10 * time.Second) // "a" is stored and confirmed
		s.ledger.become(turnedOff)
		s.commit(0x3000, "b", "c")
		s.commit(0x4000, "d")
		s.at(11 * time.Second)
		require.Equal(s, []string{"a", "b", "c", "d"}, s.ids())
		s.kill()
		s.ledger.answers(nil)
		s.stream()
		s.commit(0x5000, "e")
		s.at(time.Second)
		assert.Equal(s, []string{"a", "b", "c", "d", "b", "c", "d", "e"}, s.ids())
		for id, records := range s.world.published() {
			for _, again := range records[1:] {
				assert.Equal(s, records[0].Key, again.Key, id)
				assert.Equal(s, records[0].Value, again.Value, id)
				assert.Equal(s, records[0].Headers, again.Headers, id)
			}
		}
	})
}
