package pipeline

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
)

// A standby that lacks only WAL of an idle server has every row. Its slot was
// copied by an extension (before version 17 nothing marks such a slot), and is
// where the primary's slot was a moment before.
func TestStandbyThatLacksIdleWALOnlyIsNotRefused(t *testing.T) {
	t.Parallel()
	for _, synced := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, 3)
			w.plan = plan{ownStore: true, resume: ResumeAuto, reading: ReadStream}
			w.start()
			pass(t.Context(), time.Second)
			w.write()
			pass(t.Context(), 15*time.Second)
			w.mu.Lock()
			w.primary.fill(400)
			w.mu.Unlock()
			pass(t.Context(), 30*time.Second) // an idle position is saved and confirmed
			w.mu.Lock()
			fork, slotAt := w.primary.end, w.primary.slots[modelSlotName].confirmed
			w.primary.fill(400)
			w.mu.Unlock()
			pass(t.Context(), 30*time.Second) // and another, which the standby does not receive
			w.mu.Lock()
			s := w.primary.copyUpTo("promoted", fork)
			s.slots[modelSlotName] = &modelSlot{confirmed: slotAt, durable: slotAt, synced: synced}
			s.promote()
			t.Logf("synced %t: slot %s, fork %s, checkpoint %s, last row %v", synced, slotAt, fork, w.record().LSN, w.record().Last.Sequence)
			w.replace(s)
			w.mu.Unlock()
			for range 20 {
				w.write()
			}
			pass(t.Context(), 30*time.Second)
			w.mu.Lock()
			assert.True(t, w.now.running(), "synced %t: %v", synced, w.now.err)
			w.mu.Unlock()
			w.over()
		})
	}
}
