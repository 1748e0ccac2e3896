package pipeline

import (
	"log/slog"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/checkpoint"
	"github.com/outboxstream/streamer/replication"
	"github.com/outboxstream/streamer/router"
	"github.com/outboxstream/streamer/router/kafka"
)

// What a flow has inherited and not seen again is also inherited by the next
// one: with at_least_once nothing else proves what is passed over.
func TestHeirOfAnHeirAwaitsTheSameRow(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 3)
		w.plan = plan{ownStore: true, resume: ResumeAtLeastOnce, reading: ReadStream}
		process := &process{world: w, number: 1, done: make(chan struct{})}
		p, err := newPipeline(w.config(process), servers{})
		require.NoError(t, err)
		p.log = slog.New(slog.DiscardHandler)
		cluster, err := w.connectKafka(process)(kafka.ClientConfig{})
		require.NoError(t, err)
		owner, err := cluster.Anonymous(t.Context())
		require.NoError(t, err)
		store, err := w.openStore(process)(t.Context(), CheckpointConfig{})
		require.NoError(t, err)
		require.NoError(t, store.Claim(t.Context(), checkpoint.Identity{}))
		h := &holding{cluster: cluster, owner: owner, store: store}
		r := resumeAt(checkpoint.Record{LSN: 100, Exact: true})
		left := &heir{
			saved: r, dealt: router.Point{Position: replication.Position{Commit: 500, Ordinal: 1}, Digest: 7},
			written: map[string][]replication.Position{modelEvents: {{Commit: 500, Ordinal: 1}}},
		}
		for n := range 2 {
			f, err := p.begin(t.Context(), h, history{}, r, left)
			require.NoError(t, err)
			f.passage.Resume(r.point)
			assert.False(t, f.passage.Proven(), "flow %d passes over what is written up to %v", n, f.producer.Written()[modelEvents])
			left = f.leave()
			f.producer.Close()
			f.saver.close()
			f.producer.Wait()
		}
		cluster.Close()
		w.kafka.Close()
	})
}
