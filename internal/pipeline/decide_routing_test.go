package pipeline

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/IBM/sarama"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/internal/kafkatest/model"
)

// `checkpoint set` keeps what the record says about the topics. It must also
// keep how rows were routed then: with other rules the partitions hold no
// prefix.
func TestDecisionKeepsTheRoutingOfItsMarks(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2) // three partitions
		w.plan = plan{ownStore: true, resume: ResumeAuto, reading: ReadStream}
		w.start()
		pass(t.Context(), time.Second)
		w.mu.Lock()
		w.primary.commit(modelRow{id: "first", key: "placed"})
		w.mu.Unlock()
		pass(t.Context(), 30*time.Second)
		mine := int32(-1)
		w.kafka.Lock()
		for id, p := range w.kafka.Topics[modelEvents].Partitions {
			for _, r := range p.Log {
				if !r.Marker {
					mine = int32(id)
				}
			}
		}
		for id, p := range w.kafka.Topics[modelEvents].Partitions {
			for n := range 200 {
				if int32(id) != mine {
					w.kafka.Faults[model.At(modelEvents, int32(id), p.Arrivals+n)] = model.Fail(model.ErrorBefore, sarama.ErrNotEnoughReplicas)
				}
			}
		}
		w.kafka.Unlock()
		w.mu.Lock()
		for _, key := range []string{"k1", "k2", "k3", "k4", "k5", "k6", "placed"} {
			w.primary.commit(modelRow{id: "of " + key, key: key})
		}
		w.mu.Unlock()
		pass(t.Context(), 3*time.Second)
		w.kill()
		<-w.now.done
		w.kafka.Lock()
		clear(w.kafka.Faults)
		w.kafka.Unlock()
		w.mu.Lock()
		before := *w.record()
		t.Logf("%d rows are published, the checkpoint is %s", len(w.published()), before.LSN)
		w.mu.Unlock()
		// Use another key, and decide to continue from the checkpoint.
		w.plan.key = "{type}"
		p := &process{world: w, number: 9, done: make(chan struct{})}
		close(p.done)
		decider, err := newPipeline(w.config(p), servers{
			database: w.connectDatabase(p), read: w.read(p), kafka: w.connectKafka(p), store: w.openStore(p), stored: w.openStored(p),
		})
		require.NoError(t, err)
		require.NoError(t, decider.Decide(t.Context(), before.LSN.String(), func(d Decision) error {
			assert.NotEmpty(t, d.After.Topics)
			assert.Equal(t, d.Before.Routing, d.After.Routing)
			return nil
		}))
		w.start()
		pass(t.Context(), 30*time.Second)
		w.stop()
		require.NoError(t, w.now.err)
		w.mu.Lock()
		published := w.published()
		for _, tx := range w.primary.wal {
			for _, row := range tx.rows {
				assert.NotEmpty(t, published[row.id], "row %q at %s is in no topic, but the process has ended with %v", row.id, tx.commit, w.now.err)
			}
		}
		w.mu.Unlock()
		w.over()
	})
}
