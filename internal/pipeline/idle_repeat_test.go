package pipeline

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/IBM/sarama"
	"github.com/stretchr/testify/assert"

	"github.com/outboxstream/streamer/internal/kafkatest/model"
)

// A row that commits below the checkpoint of an idle server, on a server that
// was promoted without that idle WAL, is read back like any other.
func TestRowBelowAnIdleCheckpointIsNotRepeated(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 3)
		w.plan = plan{ownStore: true, resume: ResumeAuto, reading: ReadStream}
		w.start()
		pass(t.Context(), time.Second)
		w.write()
		pass(t.Context(), 15*time.Second)
		w.mu.Lock()
		s := w.primary.copyUpTo("promoted", w.primary.end)
		s.promote()
		s.slots[modelSlotName].synced = true
		w.primary.fill(400)
		w.mu.Unlock()
		pass(t.Context(), 30*time.Second) // an idle position is saved and confirmed
		w.kill()
		<-w.now.done
		w.mu.Lock()
		w.forked = true
		w.replace(s)
		s.commit(modelRow{id: "another", key: "k"})
		s.fill(800)
		w.mu.Unlock()
		w.kafka.Lock()
		for id, p := range w.kafka.Topics[modelEvents].Partitions {
			for n := range 100 {
				w.kafka.Faults[model.At(modelEvents, int32(id), p.Arrivals+n)] = model.Fail(model.ErrorAfter, sarama.ErrNotEnoughReplicasAfterAppend)
			}
		}
		w.kafka.Unlock()
		w.start()
		for published := 0; published == 0; {
			pass(t.Context(), time.Millisecond)
			w.mu.Lock()
			published = len(w.published()["another"])
			if published > 0 {
				w.now.dead = true
			}
			w.storeRefuses = w.now.server != nil && s.slots[modelSlotName].reader != nil // what comes after the first record
			w.mu.Unlock()
		}
		w.kill()
		<-w.now.done
		w.mu.Lock()
		w.storeRefuses = false
		w.kafka.Lock()
		clear(w.kafka.Faults)
		w.kafka.Unlock()
		t.Logf("the checkpoint is %s, the slot %s", w.record().LSN, s.slots[modelSlotName].confirmed)
		w.mu.Unlock()
		w.start()
		pass(t.Context(), 30*time.Second)
		w.mu.Lock()
		assert.Len(t, w.published()["another"], 1)
		w.mu.Unlock()
		w.over()
	})
}
