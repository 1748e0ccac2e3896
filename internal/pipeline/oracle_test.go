package pipeline

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/outboxstream/streamer/checkpoint"
	"github.com/outboxstream/streamer/internal/kafkatest/model"
	"github.com/outboxstream/streamer/replication"
	"github.com/outboxstream/streamer/router/wire"
)

// The promise of the README, as far as it is visible from outside a process.

// confirmedLocked judges a position that a process confirms: everything below
// it must be in Kafka, and the position must be stored.
func (w *world) confirmedLocked(p *process, s *modelServer, lsn replication.LSN) {
	published := w.published()
	for _, t := range s.wal {
		if !t.published || t.commit >= lsn {
			continue
		}
		for _, row := range t.rows {
			if len(published[row.id]) == 0 {
				w.failLocked("process %d confirms %s, but row %s, committed at %s, is in no topic", p.number, lsn, row.id, t.commit)
				return
			}
		}
	}
	if r := w.record(); (r == nil || r.LSN < lsn) && lsn > firstLSN {
		w.failLocked("process %d confirms %s before it is stored: %v", p.number, lsn, r)
	}
}

// mayTakeOver judges a process that requests the producer ID, which fences its
// previous owner. The process must have the lock, or have lost it only a moment
// ago.
func (w *world) mayTakeOver(p *process) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if lost := p.unlocked; !lost.IsZero() && !p.slept && time.Since(lost) > pingEvery+pingTimeout {
		w.failLocked("process %d takes over although it lost the lock %s ago", p.number, time.Since(lost))
	}
}

// saving judges a checkpoint about to be stored: everything below it must be in
// Kafka, and the row that it names must be the last row below it.
func (w *world) saving(p *process, encoded []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	r, err := checkpoint.Decode(encoded, checkpoint.Identity{SystemID: modelSystem, Database: modelDatabase, Slot: modelSlotName}, "model")
	if err != nil {
		w.failLocked("process %d stores what cannot be read: %v", p.number, err)
		return
	}
	if p.dead || p.server == nil {
		return
	}
	w.coveredLocked(p, p.server, r, "stores")
	if w.forked {
		return
	}
	before := w.record()
	at, id := p.server.last(r.LSN)
	switch {
	case !r.Exact || w.begun:
	case before != nil && before.Last != nil && *before.Last == *r.Last && (before.Producer != r.Producer || before.LSN == r.LSN):
		// A start goes back to where the slot begins, and the last row stays the
		// same.
	case r.Last.ID != id || r.Last.Sequence != wire.FormatSequence(at):
		w.failLocked(
			"process %d stores %s with %s (%s) as the last row, which is %s (%s)",
			p.number, r.LSN, r.Last.ID, r.Last.Sequence, id, wire.FormatSequence(at),
		)
	}
}

// coveredLocked makes sure that everything below a checkpoint is in Kafka, if
// this server has the checkpoint's last row.
func (w *world) coveredLocked(p *process, s *modelServer, r checkpoint.Record, what string) {
	if _, id := s.last(r.LSN); w.begun || !r.Exact || r.Last == nil || r.Last.ID != id {
		return // it is of another history
	}
	published := w.published()
	for _, t := range s.wal {
		if !t.published || t.end > r.LSN {
			continue
		}
		for _, row := range t.rows {
			if len(published[row.id]) == 0 {
				w.failLocked(
					"process %d %s %s (last %s), but row %s, committed at %s, is in no topic",
					p.number, what, r.LSN, r.Last.ID, row.id, t.commit,
				)
				return
			}
		}
	}
}

// cleanLocked judges a process that has ended with exit code 0. Nothing may be
// in flight, and what it has published must be below the checkpoint. The
// transaction whose end it had not read when the connection was lost is exempt.
// So is what it has filled in below a predecessor's last row that had not
// reappeared yet. The mutex is held.
func (w *world) cleanLocked(p *process) {
	r := w.record()
	if r == nil {
		return
	}
	if p.server != nil {
		w.coveredLocked(p, p.server, *r, "ends cleanly at")
	}
	above, before := map[replication.LSN]string{}, r.LSN
	for id, records := range w.published() {
		at, err := wire.ParseSequence(cmp.Or(records[0].Header("ce_sequence"), records[0].Header("streamer-sequence")))
		switch writer := w.writers[fmt.Sprint(records[0].Producer, records[0].Epoch)]; {
		case err != nil:
		case writer == p.number:
			above[at.Commit] = id
		case writer < p.number:
			before = max(before, at.Commit+1)
		}
	}
	maps.DeleteFunc(above, func(commit replication.LSN, _ string) bool { return commit < before })
	if len(above) > 1 {
		w.failLocked("process %d ends cleanly, but rows of its own are published above the checkpoint %s: %v", p.number, r.LSN, above)
	}
}

// audit judges the end of a history.
func (w *world) audit() {
	w.mu.Lock()
	defer w.mu.Unlock()
	published, known := w.published(), map[string]replication.Position{}
	key := map[string]string{}
	lost, repeated := []string{}, []string{}
	for _, t := range w.primary.wal {
		for i, row := range t.rows {
			known[row.id], key[row.id] = replication.Position{Commit: t.commit, Ordinal: uint32(i + 1)}, row.key
			if t.published && len(published[row.id]) == 0 {
				lost = append(lost, row.id)
			}
		}
	}
	phantoms := 0
	for id, records := range published {
		if len(records) > 1 {
			repeated = append(repeated, id)
		}
		if _, ok := known[id]; !ok {
			phantoms++
		}
	}
	refused := w.now.refused()
	if len(repeated) > 0 && w.plan.resume == ResumeAuto {
		w.failLocked("%d rows are published more than once: %v", len(repeated), repeated[:min(5, len(repeated))])
	}
	if refused {
		w.unconfirmed(published)
	} else {
		if len(lost) > 0 {
			w.failLocked("%d of %d rows are in no topic: %v", len(lost), len(known), lost[:min(5, len(lost))])
		}
		if w.begun {
			w.failLocked("history is missing, and it goes on instead of refusing to")
		}
		if phantoms > 0 && w.plan.resume == ResumeAuto {
			w.failLocked("%d rows are published that the server does not have, and it goes on", phantoms)
		}
	}
	w.order(known, key)
	if w.plan.resume == ResumeAuto {
		w.across(known, key)
	}
}

// unconfirmed makes sure that the slot has not passed the position that a
// refusal is about.
func (w *world) unconfirmed(published map[string][]model.Record) {
	slot := w.primary.slots[modelSlotName]
	if slot == nil || w.begun {
		return
	}
	for _, t := range w.primary.wal {
		for _, row := range t.rows {
			if t.published && t.commit < slot.confirmed && len(published[row.id]) == 0 {
				w.failLocked("the slot is confirmed up to %s beyond row %s, which is in no topic", slot.confirmed, row.id)
				return
			}
		}
	}
}

// order makes sure that the rows of a key arrived in commit order.
func (w *world) order(known map[string]replication.Position, key map[string]string) {
	w.kafka.Lock()
	defer w.kafka.Unlock()
	for id, p := range w.kafka.Topics[modelEvents].Partitions {
		last, seen := map[string]replication.Position{}, map[string]bool{}
		for _, r := range p.Log {
			event := r.EventID()
			at, ok := known[event]
			if r.Marker || !ok || seen[event] {
				continue
			}
			seen[event] = true
			if at.Compare(last[key[event]]) <= 0 {
				w.failLocked("partition %d: %s comes after a later row of its key", id, event)
				return
			}
			last[key[event]] = at
		}
	}
}

// across makes sure that the rows of a key were first written in commit order,
// whatever the partition.
func (w *world) across(known map[string]replication.Position, key map[string]string) {
	w.kafka.Lock()
	defer w.kafka.Unlock()
	var all []model.Record
	for _, p := range w.kafka.Topics[modelEvents].Partitions {
		all = append(all, p.Log...)
	}
	slices.SortFunc(all, func(a, b model.Record) int { return cmp.Compare(a.Stamp, b.Stamp) })
	last, seen := map[string]replication.Position{}, map[string]bool{}
	for _, r := range all {
		at, ok := known[r.EventID()]
		if r.Marker || !ok || seen[r.EventID()] {
			continue
		}
		seen[r.EventID()] = true
		if at.Compare(last[key[r.EventID()]]) <= 0 {
			w.failLocked("%s comes after a later row of its key", r.EventID())
			return
		}
		last[key[r.EventID()]] = at
	}
}

// verdict ends the test if something went wrong.
func (w *world) verdict() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.failures) == 0 {
		return nil
	}
	return fmt.Errorf("seed %d: %s", w.seed, w.failures[0])
}
