package pipeline

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/replication"
)

// forkUnderSuffix returns a world in which a process has published rows (above
// its checkpoint, if the store refuses) and was killed. Then a standby that has
// none of these rows was promoted. It continues with others, beyond the end of
// the first server's WAL.
func forkUnderSuffix(
	t *testing.T, seed uint64, p plan, refuses bool, fills int, beyond replication.LSN,
) (w *world, before replication.LSN) {
	t.Helper()
	w = newWorld(t, seed)
	w.plan = p
	w.start()
	pass(t.Context(), time.Second)
	w.write()
	pass(t.Context(), 15*time.Second) // saved and confirmed
	w.mu.Lock()
	fork, slotAt := w.primary.end, w.primary.slots[modelSlotName].confirmed // a synchronised slot may be as old
	w.storeRefuses = refuses
	w.mu.Unlock()
	for range 8 {
		w.mu.Lock()
		w.primary.fill(fills)
		w.mu.Unlock()
		w.write()
	}
	pass(t.Context(), 3*time.Second) // published, not saved
	w.kill()
	<-w.now.done
	w.mu.Lock()
	w.storeRefuses = false
	before = w.record().LSN
	old := w.primary
	s := old.copyUpTo("promoted", fork)
	for _, slot := range s.slots {
		slot.synced = true
		slot.confirmed = min(slotAt, s.end)
		slot.durable = slot.confirmed
	}
	s.promote()
	w.forked = true
	w.replace(s)
	end := old.end
	w.mu.Unlock()
	for n := 0; ; n++ {
		w.mu.Lock()
		if n < 8 {
			w.primary.fill(fills)
		}
		w.mu.Unlock()
		w.write()
		w.mu.Lock()
		enough := w.primary.end > end+beyond
		w.mu.Unlock()
		if enough {
			break
		}
	}
	return w, before
}

func (w *world) over() {
	w.kafka.Close()
	for _, p := range w.processes {
		p.cancel()
		<-p.done
	}
	pass(context.Background(), 3*time.Minute)
}

// A start that finds another history refuses. It must not have moved the
// checkpoint past rows that no process has published. Otherwise `kafka.resume:
// at_least_once`, or `checkpoint set` to the position below which the refusal
// says that everything is published, would lose these rows.
func TestRefusalLeavesTheCheckpointBelowWhatIsUnproven(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w, before := forkUnderSuffix(t, 3, plan{ownStore: true, resume: ResumeAuto, reading: ReadStream}, true, 0, 400)
		w.start()
		pass(t.Context(), 30*time.Second)
		require.True(t, w.now.refused(), "%v", w.now.err)
		w.mu.Lock()
		t.Log(w.now.err)
		assert.Equal(t, before, w.record().LSN, "the checkpoint was moved")
		w.mu.Unlock()
		// The operator accepts repeats: nothing may be lost.
		w.plan.resume = ResumeAtLeastOnce
		w.start()
		pass(t.Context(), 30*time.Second)
		require.True(t, w.now.running(), "%v", w.now.err)
		w.stop()
		require.NoError(t, w.now.err)
		w.mu.Lock()
		published := w.published()
		for _, tx := range w.primary.wal {
			for _, row := range tx.rows {
				assert.NotEmpty(t, published[row.id], "row %s at %s is in no topic, but the process has ended with 0", row.id, tx.commit)
			}
		}
		w.mu.Unlock()
		w.over()
	})
}

// A change of the reader while the proof is outstanding must not confirm what
// the previous reader has passed over.
func TestChangeOfTheReaderConfirmsNothingUnproven(t *testing.T) {
	t.Parallel()
	for seed := range uint64(200) {
		t.Run(fmt.Sprint("seed ", 1+seed), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w, _ := forkUnderSuffix(t, 1+seed, plan{ownStore: true, resume: ResumeAuto, reading: ReadAuto}, false, 400, 0)
				w.mu.Lock()
				confirmed := w.primary.slots[modelSlotName].confirmed
				w.mu.Unlock()
				w.start()
				pass(t.Context(), 60*time.Second)
				w.mu.Lock()
				defer w.mu.Unlock()
				w.failures = nil
				w.unconfirmed(w.published())
				if at := w.primary.slots[modelSlotName].confirmed; w.now.refused() && len(w.failures) > 0 {
					t.Errorf("slot was confirmed from %s to %s before the refusal: %v", confirmed, at, w.failures)
				}
				w.mu.Unlock()
				w.over()
				w.mu.Lock()
			})
		})
	}
}

// A run that reaches --until before the rows published above it have reappeared
// has proven nothing, and cannot end with 0.
func TestUntilBelowTheProofIsNoSuccess(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w, _ := forkUnderSuffix(t, 3, plan{ownStore: true, resume: ResumeAuto, reading: ReadStream}, true, 0, 400)
		w.plan.until = w.primary.wal[4].end
		w.start()
		pass(t.Context(), 30*time.Second)
		require.False(t, w.now.running())
		w.mu.Lock()
		published := w.published()
		for _, tx := range w.primary.wal {
			for _, row := range tx.rows {
				if tx.end <= w.plan.until && len(published[row.id]) == 0 && w.now.err == nil {
					t.Errorf(
						"row %s at %s is in no topic, but --until %s has ended with 0; the checkpoint is %s",
						row.id, tx.commit, w.plan.until, w.record().LSN,
					)
				}
			}
		}
		w.mu.Unlock()
		w.over()
	})
}
