package pipeline

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
)

// Exit code 0 means that the low watermark is stored, even if the flow was
// closed and no other could be created yet.
func TestStopWithoutAFlowKnowsWhatIsUnsaved(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 3)
		w.plan = plan{ownStore: true, resume: ResumeAuto, reading: ReadStream}
		w.start()
		pass(t.Context(), time.Second)
		w.write()
		pass(t.Context(), 15*time.Second)
		w.mu.Lock()
		w.storeLatency = 40 * time.Second
		w.mu.Unlock()
		w.write()
		w.write()
		pass(t.Context(), 2*time.Second) // published and acknowledged
		w.mu.Lock()
		w.failOver(0)
		end := w.primary.end
		w.mu.Unlock()
		pass(t.Context(), 20*time.Second)
		w.stop()
		w.mu.Lock()
		if w.now.err == nil {
			assert.GreaterOrEqual(t, w.record().LSN, end-48, "ended with 0, but the checkpoint is not stored")
		}
		t.Log(w.now.err)
		w.mu.Unlock()
		w.over()
	})
}
