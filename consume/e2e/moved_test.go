package e2e

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/consume"
)

// From 2 to 3 partitions, a key can move from one old partition to another old
// one, which has begun long ago.
func TestGrowthMovesKeysBetweenOldPartitions(t *testing.T) {
	t.Parallel()
	moves, stays := keyFrom(t, 0, 1), keyFrom(t, 1, 1)
	w := newWorld(t, 2)
	before := w.start(w.config(), w.pgx())
	b0, b1 := before.assign(0), before.assign(1)
	before.deliver(b0, record(0, 0, moves, 1))
	before.deliver(b1, record(1, 0, stays, 2))
	before.settled(0, 1)
	before.settled(1, 1)
	before.close(b0)
	before.close(b1)
	before.stop()

	w.partitions, w.ends = 3, map[int32]int64{0: 2, 1: 2}
	r := w.start(w.config(), w.pgx())
	p0, p1, p2 := r.assign(0), r.assign(1), r.assign(2)
	later := make(chan error, 1)
	go func() { later <- p1.Deliver(r.ctx, record(1, 1, moves, 10)) }()
	require.Never(t, func() bool { return slices.Contains(w.ids(), "e10") }, time.Second, 20*time.Millisecond,
		"e10 is handled before an earlier event of its key, which is still in partition 0")
	r.deliver(p0, record(0, 1, moves, 3))
	require.NoError(t, <-later)
	r.settled(1, 2)
	for _, p := range []*consume.Partition{p0, p1, p2} {
		r.close(p)
	}
	assert.Equal(t, []string{"e1", "e3", "e10"}, slices.DeleteFunc(w.ids(), func(id string) bool { return id == "e2" }))
}

// keyFrom returns a key that is in the given partitions of 2, and of 3.
func keyFrom(t *testing.T, of2, of3 int32) string {
	t.Helper()
	for n := range 1000 {
		key := fmt.Sprint("m", n)
		if consume.Home([]byte(key), 2) == of2 && consume.Home([]byte(key), 3) == of3 {
			return key
		}
	}
	require.Fail(t, "no such key")
	return ""
}
