package e2e

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/consume"
)

// An instance that has only passed events over leaves ranges that have not begun.
// The next instance reads on behind their first events, and its partitions must not
// wait for each other.
func TestPassedOverEventsMoveTheRange(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	config := w.config()
	config.Types = []string{"t"}
	other := consume.Header{Name: "ce_type", Value: []byte("other")}

	handle := func(first, second consume.Record) {
		w.ends = map[int32]int64{0: first.Offset + 1, 1: second.Offset + 1}
		r := w.start(config, w.pgx())
		p0, p1 := r.assign(0), r.assign(1)
		delivered := make(chan error, 2)
		go func() { delivered <- p0.Deliver(r.ctx, first) }()
		go func() { delivered <- p1.Deliver(r.ctx, second) }()
		for range 2 {
			select {
			case err := <-delivered:
				require.NoError(t, err)
			case <-time.After(10 * time.Second):
				require.Fail(t, "the partitions wait for each other")
			}
		}
		r.settled(0, first.Offset+1)
		r.settled(1, second.Offset+1)
		r.close(p0)
		r.close(p1)
		r.stop()
		require.NoError(t, r.failure())
	}
	handle(record(0, 0, stays, 1, other), record(1, 0, moves, 2, other))
	require.Empty(t, w.ids())
	handle(record(0, 1, stays, 3), record(1, 1, moves, 4))
	assert.ElementsMatch(t, []string{"e3", "e4"}, w.ids())
}
