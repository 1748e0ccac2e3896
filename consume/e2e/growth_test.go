package e2e

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/consume"
)

// keys of Kafka's default partitioner. Their places are those of Java's clients:
// see TestHome of package consume.
const (
	stays = "k3" // in 0 of 1, 0 of 2
	moves = "k0" // in 0 of 1, 1 of 2
)

// A key that moves to a new partition is handled in order, although its later
// events can be read before the earlier ones.
func TestGrowth(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	require.Equal(t, int32(1), consume.Home([]byte(moves), 2))
	require.Equal(t, int32(0), consume.Home([]byte(stays), 2))
	w.handle(0, record(0, 0, moves, 1))
	w.partitions, w.ends, w.markers = 2, map[int32]int64{0: 6, 1: 2}, map[int32]int64{0: 2}

	r := w.start(w.config(), w.pgx())
	p0, p1 := r.assign(0), r.assign(1)
	later := make(chan error, 1)
	go func() {
		err := p1.Deliver(r.ctx, record(1, 0, moves, 10))
		if err == nil {
			err = p1.Deliver(r.ctx, record(1, 1, moves, 11))
		}
		later <- err
	}()
	select {
	case err := <-later:
		require.Fail(t, "the new partition did not wait", "%v", err)
	case <-time.After(500 * time.Millisecond):
	}
	r.deliver(p0, record(0, 1, moves, 2), record(0, 2, stays, 3), record(0, 3, moves, 4))
	// Two markers follow. They are no records, so that nothing is behind any more.
	require.NoError(t, <-later)
	r.settled(1, 2)
	r.close(p0)
	r.close(p1)
	var of []string
	for _, id := range w.ids() {
		if id != "e3" {
			of = append(of, id)
		}
	}
	assert.Equal(t, []string{"e1", "e2", "e4", "e10", "e11"}, of)

	assert.Zero(t, w.count(ledger))

	// A replay publishes everything where it belongs now.
	again := replayed("20261201T000000.000Z")
	w.handle(1, record(1, 2, moves, 1, again), record(1, 3, moves, 2, again), record(1, 4, moves, 4, again), record(1, 5, moves, 11, again))
	w.handle(0, record(0, 4, stays, 3, again), record(0, 5, stays, 12))
	assert.Len(t, w.ids(), 7)

	// Whoever reads all again, from both homes, changes nothing either.
	clear(w.committed)
	w.handle(0, record(0, 0, moves, 1), record(0, 1, moves, 2), record(0, 2, stays, 3), record(0, 3, moves, 4), record(0, 6, moves, 4, again))
	assert.Len(t, w.ids(), 7)
	assert.Zero(t, w.count(ledger))
}

// Where another partitioner was at work, partitions do not wait for each other.
func TestAnotherPartitioner(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 4)
	w.ends = map[int32]int64{0: 10, 1: 10, 2: 10}
	r := w.start(w.config(), w.pgx())
	done := make(chan error, 3)
	for number := range int32(4) {
		p := r.assign(number)
		if number == 3 {
			continue // empty
		}
		go func() {
			for n := range int64(10) {
				if err := p.Deliver(r.ctx, record(number, n, "k", int(number)+4*int(n)+100)); err != nil {
					done <- err
					return
				}
			}
			done <- nil
		}()
	}
	for range 3 {
		select {
		case err := <-done:
			require.NoError(t, err)
		case <-time.After(20 * time.Second):
			require.Fail(t, "they wait for each other")
		}
	}
	for number := range int32(3) {
		r.settled(number, 10)
	}
	assert.Len(t, w.ids(), 30)
}

// Records that the topic has dropped before they were handled are not taken for
// handled, when they are replayed.
func TestGap(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.handle(0, record(0, 0, "a", 1), record(0, 1, "a", 2))
	w.oldest[0] = 4 // 2 and 3 are gone
	r := w.start(w.config(), w.pgx())
	p, start := r.assignAt(0)
	assert.Equal(t, int64(4), start)
	again := replayed("20261201T000000.000Z")
	r.deliver(p, record(0, 4, "a", 5), record(0, 5, "a", 1, again), record(0, 6, "a", 2, again), record(0, 7, "a", 3, again), record(0, 8, "a", 4, again), record(0, 9, "a", 6))
	r.settled(0, 10)
	r.close(p)
	assert.Equal(t, []string{"e1", "e2", "e5", "e3", "e4", "e6"}, w.ids())
}

// A database that was restored from a backup gets again what it lacks.
func TestRestoredDatabase(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.handle(0, record(0, 0, "a", 1))
	w.exec("create table effect_then as table effect")
	w.exec("create table position_then as table inbox.position; create table range_then as table inbox.range")
	w.handle(0, record(0, 1, "a", 2))
	assert.Equal(t, int64(2), w.committed[0])
	w.exec("delete from effect; insert into effect (key, id, source) select key, id, source from effect_then")
	w.exec("truncate inbox.position, inbox.range, inbox.claim; insert into inbox.position table position_then; insert into inbox.range table range_then")
	r := w.start(w.config(), w.pgx())
	p, start := r.assignAt(0)
	assert.Equal(t, int64(1), start)
	r.deliver(p, record(0, 1, "a", 2))
	r.settled(0, 2)
	r.close(p)
	assert.Equal(t, []string{"e1", "e2"}, w.ids())
}

// A streamer that crashed while the topic grew publishes what it had not yet
// published where it belongs now: behind later events of other keys.
func TestGrowthAfterACrash(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	old, arriving := keyFrom(t, 0, 0), keyFrom(t, 1, 0)
	w.handle(0, record(0, 0, old, 100))
	w.partitions, w.ends = 3, map[int32]int64{0: 2}
	w.exec("insert into inbox.position (consumer, topic, partition, next_offset) select 1, 'orders', n, 0 from generate_series(1, 2) n")
	w.handle(0, record(0, 1, arriving, 99))
	assert.Equal(t, []string{"e100", "e99"}, w.ids())
	assert.Zero(t, w.count(ledger))
	w.handle(0, record(0, 0, old, 100), record(0, 1, arriving, 99), record(0, 2, old, 101), record(0, 3, arriving, 102))
	assert.Equal(t, []string{"e100", "e99"}, w.ids()[:2])
	assert.ElementsMatch(t, []string{"e101", "e102"}, w.ids()[2:])
}
