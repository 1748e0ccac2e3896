package pipeline

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/IBM/sarama"
	"github.com/stretchr/testify/assert"

	"github.com/outboxstream/streamer/internal/failure"
)

// A row that the broker refuses while the process is stopping becomes a dead
// letter at the next start. That is not a refusal on which the operator must
// decide.
func TestLateRejectionWhileStoppingIsNoRefusal(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 3)
		w.plan = plan{ownStore: true, resume: ResumeAuto, reading: ReadStream, poison: true}
		w.start()
		pass(t.Context(), time.Second)
		w.write()
		pass(t.Context(), 15*time.Second)
		w.kafka.Freeze()
		w.kafka.Lock()
		w.kafka.Poison["bad"] = sarama.ErrInvalidRecord
		w.kafka.Unlock()
		w.mu.Lock()
		w.primary.commit(modelRow{id: "bad", key: "k"})
		w.mu.Unlock()
		pass(t.Context(), 2*time.Second)
		time.AfterFunc(2*time.Second, w.kafka.Thaw)
		w.stop()
		assert.NotEqual(t, failure.Refused, failure.ClassOf(w.now.err), "%v", w.now.err)
		w.over()
	})
}
