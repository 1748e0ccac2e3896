package pipeline

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The refusal of a server that was restored on the same timeline names `checkpoint
// set` as the way on. It must be one.
func TestDecisionEndsTheRefusalOfARestoredServer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 3)
		w.plan = plan{ownStore: true, resume: ResumeAuto, reading: ReadStream}
		w.start()
		pass(t.Context(), time.Second)
		w.write()
		pass(t.Context(), 30*time.Second)
		w.mu.Lock()
		s := w.primary.copyUpTo("restored", w.primary.end)
		s.slots[modelSlotName].confirmed = w.primary.slots[modelSlotName].confirmed
		w.storeRefuses = true
		w.mu.Unlock()
		for range 8 {
			w.write()
		}
		pass(t.Context(), 3*time.Second) // published, not saved
		w.kill()
		<-w.now.done
		w.mu.Lock()
		w.storeRefuses = false
		w.forked = true
		w.replace(s)
		w.mu.Unlock()
		w.write()
		w.start()
		pass(t.Context(), 10*time.Second)
		require.True(t, w.now.refused(), "%v", w.now.err)
		t.Log(w.now.err)
		for _, position := range []string{"slot", "end"} {
			p := &process{world: w, number: 9, done: make(chan struct{})}
			close(p.done)
			decider, err := newPipeline(w.config(p), servers{
				database: w.connectDatabase(p), read: w.read(p), kafka: w.connectKafka(p), store: w.openStore(p), stored: w.openStored(p),
			})
			require.NoError(t, err)
			require.NoError(t, decider.Decide(t.Context(), position, func(Decision) error { return nil }))
			w.start()
			pass(t.Context(), 10*time.Second)
			assert.False(t, w.now.refused(), "after checkpoint set %s: %v", position, w.now.err)
			if w.now.running() {
				w.stop()
			}
		}
		w.over()
	})
}
