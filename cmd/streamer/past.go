package main

import (
	"context"
	"fmt"
	"time"

	"github.com/outboxstream/streamer/checkpoint"
	"github.com/outboxstream/streamer/replication"
)

// pastStatus is a slot that keeps log of the past.
type pastStatus struct {
	Name        string     `json:"slot"`
	From        string     `json:"from"` // LSN
	Since       *time.Time `json:"since,omitempty"`
	RetainedWAL int64      `json:"retained_wal_bytes"`
	WALStatus   string     `json:"wal_status"`
	InUse       bool       `json:"in_use"`
	Lost        bool       `json:"lost"`
}

// pastSlot is one of the slots beside the stream's own, or nil.
func pastSlot(ctx context.Context, control *replication.Control, name string) (*pastStatus, error) {
	slot, err := slotIfAny(ctx, control, name)
	if err != nil || slot == nil {
		return nil, err
	}
	return &pastStatus{
		Name: slot.Name, From: slot.Confirmed.String(), RetainedWAL: slot.RetainedWAL, WALStatus: slot.WALStatus, InUse: slot.InUse(), Lost: slot.Lost(),
	}, nil
}

// readPast looks at the slots that keep the past.
func (s *status) readPast(ctx context.Context, control *replication.Control, slot string) (err error) {
	if s.Rewind, err = pastSlot(ctx, control, replication.RewindSlot(slot)); err != nil {
		return err
	}
	s.Replay, err = pastSlot(ctx, control, replication.ReplaySlot(slot))
	return err
}

// dateRewind says since when the rewind slot keeps the log, as far as is known.
func (s *status) dateRewind(past []checkpoint.Moment) {
	if s.Rewind == nil {
		return
	}
	if from, err := replication.ParseLSN(s.Rewind.From); err == nil {
		if since := keptSince(past, from).UTC(); !since.IsZero() {
			s.Rewind.Since = &since
		}
	}
}

func (p *pastStatus) row(name, idle, busy string) [2]string {
	state := idle
	switch {
	case p.Lost:
		state = "LOST"
	case p.InUse:
		state = busy
	}
	since := ""
	if p.Since != nil {
		since = ", since " + p.Since.Format(time.RFC3339)
	}
	return [2]string{name, fmt.Sprintf("%s, %s, from %s%s, keeps %s", p.Name, state, p.From, since, size(p.RetainedWAL))}
}

// shards looks whether every part of the table is published by somebody.
func (d *doctor) shards(ctx context.Context, control *replication.Control) {
	count := d.cfg.Shard.Count
	if count <= 1 {
		return
	}
	missing := 0
	for i := range count {
		slot, err := slotIfAny(ctx, control, d.cfg.ForShard(i).Postgres.Slot)
		if err != nil {
			d.outcome(err, "shards", "")
			return
		}
		if slot == nil || slot.Lost() {
			missing++
			d.say(failed, "shards", fmt.Sprintf("shard %d of %d has no slot that can be read: its rows are published by nobody", i, count), "`streamer setup` creates the slots of all shards, at the same position")
		}
	}
	if missing == 0 {
		d.say(fine, "shards", fmt.Sprintf("this is shard %d of %d, and all have their slots", d.cfg.Shard.Index, count), "")
	}
}

// past looks at the slots that keep log of the past.
func (d *doctor) past(ctx context.Context, control *replication.Control) {
	const lostRemedy = "the running streamer makes a new one; raise max_slot_wal_keep_size, or lower rewind.max_bytes, so that it lasts"
	name := replication.RewindSlot(d.cfg.Postgres.Slot)
	rewind, err := slotIfAny(ctx, control, name)
	switch {
	case err != nil:
		d.outcome(err, "rewind slot", "")
	case rewind == nil && d.cfg.Rewind.Keep == 0:
		d.say(fine, "rewind slot", "rewind.keep is 0s: nothing is kept to be replayed", "")
	case rewind == nil:
		d.say(warned, "rewind slot", fmt.Sprintf("slot %q does not exist: nothing can be replayed", name), "the running streamer makes it")
	case d.cfg.Rewind.Keep == 0:
		d.say(warned, "rewind slot", fmt.Sprintf("slot %q keeps %s of WAL, but rewind.keep is 0s: nobody moves it", name, size(rewind.RetainedWAL)), dropRemedy(name))
	case rewind.Lost():
		d.say(warned, "rewind slot", fmt.Sprintf("slot %q is lost (%s): what was committed before now cannot be replayed from the log", name, rewind.WALStatus), lostRemedy)
	case rewind.RetainedWAL > 2*int64(d.cfg.Rewind.MaxBytes):
		d.say(warned, "rewind slot", fmt.Sprintf("slot %q keeps %s of WAL, more than rewind.max_bytes (%s)", name, size(rewind.RetainedWAL), d.cfg.Rewind.MaxBytes), "see that the streamer runs, and end long transactions: the server keeps the log since the oldest began")
	default:
		d.say(fine, "rewind slot", fmt.Sprintf("slot %q keeps %s of WAL, from %s", name, size(rewind.RetainedWAL), rewind.Confirmed), "")
	}
	d.replaySlot(ctx, control)
}

func (d *doctor) replaySlot(ctx context.Context, control *replication.Control) {
	name := replication.ReplaySlot(d.cfg.Postgres.Slot)
	slot, err := slotIfAny(ctx, control, name)
	switch {
	case err != nil:
		d.outcome(err, "replay", "")
	case slot == nil:
	case slot.InUse():
		d.say(fine, "replay", fmt.Sprintf("one is running, slot %q keeps %s of WAL meanwhile", name, size(slot.RetainedWAL)), "")
	default:
		d.say(warned, "replay", fmt.Sprintf("one was interrupted, slot %q keeps %s of WAL", name, size(slot.RetainedWAL)), "give the same command again to go on, or `streamer replay --discard`")
	}
}

func dropRemedy(slot string) string {
	return fmt.Sprintf("SELECT pg_drop_replication_slot('%s')", slot)
}
