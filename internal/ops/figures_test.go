package ops

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/outboxstream/streamer/replication"
	"github.com/outboxstream/streamer/router"
)

// What the metrics hold can be read back, and what was never set is zero.
func TestFigures(t *testing.T) {
	t.Parallel()
	m := NewMetrics("test")
	none := m.Figures()
	assert.Equal(t, Figures{Topics: map[string]Topic{}, DeadLetters: map[string]int64{}, Read: map[string]int64{}}, none)

	slot, rewind, reason := replication.Slot{Name: "s", Lag: 7}, replication.Slot{Name: "s_rewind"}, "not allowed"
	saved := time.UnixMilli(1700000000123)
	m.Published(router.Publication{Topic: "orders", Events: 3, Bytes: 700, OldestCommit: time.Now()})
	m.Published(router.Publication{Topic: "orders", Events: 1, Bytes: 100, OldestCommit: time.Now()})
	m.Published(router.Publication{Topic: "invoices", Events: 2, Bytes: 50, OldestCommit: time.Now()})
	m.Failed("orders")
	m.DeadLetter(string(router.PoisonRow))
	m.Read("public.outbox", 7)
	m.Position(saved, 42, 2)
	m.Slot(slot)
	m.Rewind(rewind)
	m.Resuming(reason)
	m.Reconnected()
	m.Skipped()
	m.Removed(5)
	m.Loose(6)
	m.CatchingUp(true)
	m.Snapshot(10, 20)
	got := m.Figures()
	assert.WithinDuration(t, time.Now(), got.LastAck, time.Minute)
	got.LastAck = time.Time{}
	assert.Equal(t, Figures{
		Slot: &slot, Rewind: &rewind, AtLeastOnce: &reason,
		Topics:      map[string]Topic{"orders": {Events: 4, Bytes: 800, Refused: 1}, "invoices": {Events: 2, Bytes: 50}},
		DeadLetters: map[string]int64{string(router.PoisonRow): 1}, Read: map[string]int64{"public.outbox": 7},
		InFlightEvents: 2, InFlightBytes: 42, Reconnects: 1, Skipped: 1, Removed: 5, Loose: 6,
		Saved: saved, CatchingUp: true, SnapshotRows: 10, SnapshotOf: 20,
	}, got)
	assert.Equal(t, int64(6), got.Events())
}
