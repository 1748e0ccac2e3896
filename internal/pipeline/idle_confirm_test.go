package pipeline

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
)

// A checkpoint of an idle server is above its last row. On a server that was
// promoted or restored without that idle WAL, other rows are committed there.
// They are published. Before they are acknowledged, the position must not be
// confirmed.
func TestIdleCheckpointIsNotConfirmedAboveOtherRows(t *testing.T) {
	t.Parallel()
	for _, living := range []bool{true, false} {
		for _, promoted := range []bool{true, false} {
			if living && promoted {
				continue
			}
			t.Run(fmt.Sprintf("living %t promoted %t", living, promoted), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					w := newWorld(t, 3)
					w.plan = plan{ownStore: true, resume: ResumeAuto, reading: ReadStream}
					w.start()
					pass(t.Context(), time.Second)
					w.write()
					pass(t.Context(), 15*time.Second)
					w.mu.Lock()
					s := w.primary.copyUpTo("restored", w.primary.end)
					if promoted {
						s.promote()
						s.slots[modelSlotName].synced = true
					}
					w.primary.fill(400)
					w.mu.Unlock()
					pass(t.Context(), 30*time.Second) // an idle position is saved and confirmed
					if !living {
						w.kill()
						<-w.now.done
					}
					w.mu.Lock()
					w.forked = true // what is stored at the start is not judged
					checkpoint := w.record().LSN
					w.replace(s)
					s.up = false
					s.commit(modelRow{id: "another", key: "k"})
					t.Logf("the checkpoint is %s, the row commits at %s", checkpoint, s.end)
					s.fill(800)
					s.up = true
					w.mu.Unlock()
					if !living {
						w.start()
					}
					go func() { // the broker stops as soon as the streamer reads
						for range 200 {
							w.mu.Lock()
							reading := s.slots[modelSlotName].reader != nil
							w.mu.Unlock()
							if reading {
								w.kafka.Freeze()
								return
							}
							pass(t.Context(), time.Millisecond*5)
						}
					}()
					pass(t.Context(), 3*time.Second)
					w.kafka.Freeze()
					pass(t.Context(), 5*time.Second)
					w.kill() // and what was in flight is lost
					<-w.now.done
					w.mu.Lock()
					t.Logf("the slot is confirmed up to %s; %v", s.slots[modelSlotName].confirmed, w.now.err)
					assert.Empty(t, w.failures)
					w.failures = nil
					w.mu.Unlock()
					w.kafka.Thaw()
					w.over()
				})
			})
		}
	}
}
