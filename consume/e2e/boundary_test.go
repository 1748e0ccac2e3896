package e2e

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/consume"
)

var again = replayed("20261201T000000.000Z")

// A streamer that crashed before the topic grew had written more to one partition
// than to another. Keys of both come to the new one, so that the first event there
// says nothing about those of the other partition.
func TestBoundaryOfEachFormerPartition(t *testing.T) {
	t.Parallel()
	ahead, behind := keyFrom(t, 0, 2), keyFrom(t, 1, 2)
	w := newWorld(t, 2)
	w.handle(0, record(0, 0, ahead, 40), record(0, 1, ahead, 100))
	w.handle(1, record(1, 0, behind, 50))
	w.partitions, w.ends = 3, map[int32]int64{0: 2, 1: 1, 2: 1}
	w.handle(2, record(2, 0, behind, 60))
	require.Equal(t, []string{"e40", "e100", "e50", "e60"}, w.ids())

	w.handle(2, record(2, 1, ahead, 40, again), record(2, 2, behind, 50, again), record(2, 3, behind, 60, again),
		record(2, 4, ahead, 100, again), record(2, 5, ahead, 110), record(2, 6, ahead, 100, again), record(2, 7, ahead, 110, again),
		record(2, 8, behind, 105))
	assert.Equal(t, []string{"e110", "e105"}, w.ids()[4:])
	assert.Zero(t, w.count(ledger))
}

// A replay can be the first that comes to a new partition. What it repeats may not
// be handled yet where it was.
func TestReplayBeforeArrivals(t *testing.T) {
	t.Parallel()
	moves := keyFrom(t, 0, 2)
	w := newWorld(t, 2)
	w.handle(0, record(0, 0, moves, 1))
	w.handle(1, record(1, 0, keyFrom(t, 1, 1), 1))
	w.partitions, w.ends = 3, map[int32]int64{0: 4, 1: 1, 2: 3}

	r := w.start(w.config(), w.pgx())
	p0, p1, p2 := r.assign(0), r.assign(1), r.assign(2)
	later := make(chan error, 1)
	go func() {
		later <- deliverAll(r, p2, record(2, 0, moves, 3, again), record(2, 1, moves, 4, again), record(2, 2, moves, 10))
	}()
	require.Never(t, func() bool { return slices.Contains(w.ids(), "e3") }, time.Second, 20*time.Millisecond,
		"e3 is handled before an earlier event of its key, which is still in partition 0")
	r.deliver(p0, record(0, 1, moves, 2), record(0, 2, moves, 3), record(0, 3, moves, 4))
	require.NoError(t, <-later)
	r.settled(2, 3)
	for _, p := range []*consume.Partition{p0, p1, p2} {
		r.close(p)
	}
	assert.Equal(t, []string{"e1", "e1", "e2", "e3", "e4", "e10"}, w.ids())
	assert.Zero(t, w.count(ledger))
}

// Partitions in which the keys of different streams have arrived do not wait for
// each other for ever.
func TestGrowthWithTwoStreams(t *testing.T) {
	t.Parallel()
	other := consume.Header{Name: "streamer-stream", Value: []byte("00000000000000bb")}
	there, back := keyFrom(t, 0, 1), keyFrom(t, 1, 0)
	w := newWorld(t, 2)
	w.handle(0, record(0, 0, there, 1))
	w.handle(1, ofStream(record(1, 0, back, 1001), other))
	w.partitions, w.ends = 3, map[int32]int64{0: 4, 1: 4}
	r := w.start(w.config(), w.pgx())
	p0, p1, p2 := r.assign(0), r.assign(1), r.assign(2)
	done := make(chan error, 2)
	// In 0, the other stream's key arrives before an event of the key that leaves
	// it, and in 1 it is the other way round.
	go func() {
		done <- deliverAll(r, p0, ofStream(record(0, 1, back, 1003), other), record(0, 2, there, 2), ofStream(record(0, 3, back, 1004), other))
	}()
	go func() {
		done <- deliverAll(r, p1, record(1, 1, there, 3), ofStream(record(1, 2, back, 1002), other), record(1, 3, there, 4))
	}()
	for range 2 {
		select {
		case err := <-done:
			require.NoError(t, err)
		case <-time.After(20 * time.Second):
			require.Fail(t, "they wait for each other")
		}
	}
	r.settled(0, 4)
	r.settled(1, 4)
	for _, p := range []*consume.Partition{p0, p1, p2} {
		r.close(p)
	}
	assert.ElementsMatch(t, []string{"e1", "e1001", "e2", "e3", "e4", "e1002", "e1003", "e1004"}, w.ids())
}

func deliverAll(r *run, p *consume.Partition, records ...consume.Record) error {
	for _, record := range records {
		if err := p.Deliver(r.ctx, record); err != nil {
			return err
		}
	}
	return nil
}

func ofStream(r consume.Record, stream consume.Header) consume.Record {
	r.Headers = slices.DeleteFunc(r.Headers, func(h consume.Header) bool { return h.Name == stream.Name })
	r.Headers = append(r.Headers, stream)
	return r
}
