package pipeline

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/outboxstream/streamer/internal/failure"
)

// A standby that has crashed accepts connections as soon as it is consistent.
// That may be before it has replayed all the WAL that it had. Nothing is
// missing: waiting helps.
func TestStandbyThatReplaysAgainIsWaitedFor(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 3)
		w.plan = plan{ownStore: true, resume: ResumeAuto, reading: ReadStream}
		s := w.primary
		s.standby = true
		w.start()
		pass(t.Context(), 2*time.Second)
		w.mu.Lock()
		s.commit(modelRow{id: "one", key: "k"})
		w.mu.Unlock()
		pass(t.Context(), 15*time.Second)
		w.mu.Lock()
		before := s.end
		s.commit(modelRow{id: "two", key: "k"})
		w.mu.Unlock()
		pass(t.Context(), 15*time.Second)
		w.mu.Lock()
		s.up = false
		s.crash()
		s.started = "again"
		s.replayed = before
		s.up = true
		w.later(2*time.Second, func() { s.replayed = 0; s.note() })
		w.mu.Unlock()
		pass(t.Context(), 30*time.Second)
		w.mu.Lock()
		assert.True(t, w.now.running(), "ends with class %v: %v", failure.ClassOf(w.now.err), w.now.err)
		w.mu.Unlock()
		w.over()
	})
}
