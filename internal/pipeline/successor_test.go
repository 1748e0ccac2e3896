package pipeline

import (
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/outboxstream/streamer/internal/testserver"
	"github.com/outboxstream/streamer/replication"
)

// A process that has lost its lock continues until it notices, and confirms
// what it has stored. A successor that looked at the slot before must not take
// that for a slot moved by another client.
func TestSuccessorBearsALateConfirmation(t *testing.T) {
	t.Parallel()
	for delay := 0; delay < 60; delay += testserver.Step(7) {
		t.Run(strconv.Itoa(delay), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, 3)
				w.plan = plan{ownStore: true, resume: ResumeAuto, reading: ReadStream}
				w.start()
				pass(t.Context(), time.Second)
				w.write()
				pass(t.Context(), 15*time.Second)
				w.start() // stands by
				pass(t.Context(), time.Second+time.Duration(delay%6)*20*time.Millisecond)
				w.write()
				stored := func() replication.LSN {
					w.mu.Lock()
					defer w.mu.Unlock()
					return w.record().LSN
				}
				for end := w.primary.end; stored() < end; {
					pass(t.Context(), time.Millisecond)
				}
				w.mu.Lock()
				w.primary.cut(false, true)
				w.mu.Unlock()
				pass(t.Context(), 20*time.Second)
				w.mu.Lock()
				if w.now.refused() {
					t.Errorf("%v\n%s", w.now.err, strings.Join(w.story, "\n"))
				}
				w.mu.Unlock()
				w.over()
			})
		})
	}
}
