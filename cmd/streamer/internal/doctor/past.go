package doctor

import (
	"context"
	"fmt"

	"github.com/outboxstream/streamer/cmd/streamer/internal/console"
	"github.com/outboxstream/streamer/cmd/streamer/internal/site"
	"github.com/outboxstream/streamer/replication"
)

// shards checks that every part of the table is published.
func (d *doctor) shards(ctx context.Context, control *replication.Control) {
	count := d.cfg.Shard.Count
	if count <= 1 {
		return
	}
	missing := 0
	for i := range count {
		slot, err := site.SlotIfAny(ctx, control, d.cfg.ForShard(i).Postgres.Slot)
		if err != nil {
			d.outcome(err, "shards", "")
			return
		}
		if slot == nil || slot.Lost() {
			missing++
			d.say(Failed, "shards", fmt.Sprintf("shard %d of %d has no slot that can be read: "+
				"its rows are not published", i, count), "run `streamer setup`: it creates the slots of all shards, at the same position")
		}
	}
	if missing == 0 {
		d.say(Fine, "shards", fmt.Sprintf("this is shard %d of %d, and all have their slots", d.cfg.Shard.Index, count), "")
	}
}

// past checks the slots that keep WAL of the past.
func (d *doctor) past(ctx context.Context, control *replication.Control) {
	const lostRemedy = "raise max_slot_wal_keep_size, or lower rewind.max_bytes, so that the slot lasts; " +
		"the running streamer creates a new one"
	name := replication.RewindSlot(d.cfg.Postgres.Slot)
	rewind, err := site.SlotIfAny(ctx, control, name)
	switch {
	case err != nil:
		d.outcome(err, "rewind slot", "")
	case rewind == nil && d.cfg.Rewind.Keep == 0:
		d.say(Fine, "rewind slot", "rewind.keep is 0s: nothing is kept for replays", "")
	case rewind == nil:
		d.say(Warned, "rewind slot", fmt.Sprintf("slot %q does not exist: nothing can be replayed", name),
			"start `streamer run`, which creates the slot")
	case d.cfg.Rewind.Keep == 0:
		d.say(Warned, "rewind slot", fmt.Sprintf("slot %q keeps %s of WAL, but rewind.keep is 0s: the streamer does not move it",
			name, console.Size(rewind.RetainedWAL)), dropRemedy(name))
	case rewind.Lost():
		d.say(Warned, "rewind slot", fmt.Sprintf("slot %q is lost (%s): "+
			"what was committed before now cannot be replayed from the WAL", name, rewind.WALStatus), lostRemedy)
	case rewind.RetainedWAL > 2*int64(d.cfg.Rewind.MaxBytes):
		d.say(Warned, "rewind slot", fmt.Sprintf("slot %q keeps %s of WAL, more than rewind.max_bytes (%s)",
			name, console.Size(rewind.RetainedWAL), d.cfg.Rewind.MaxBytes),
			"make sure that the streamer runs, and end long transactions: the server keeps the WAL since the oldest one began")
	default:
		d.say(Fine, "rewind slot", fmt.Sprintf("slot %q keeps %s of WAL, from %s", name, console.Size(rewind.RetainedWAL), rewind.Confirmed), "")
	}
	d.replaySlot(ctx, control)
}

func (d *doctor) replaySlot(ctx context.Context, control *replication.Control) {
	name := replication.ReplaySlot(d.cfg.Postgres.Slot)
	slot, err := site.SlotIfAny(ctx, control, name)
	switch {
	case err != nil:
		d.outcome(err, "replay", "")
	case slot == nil:
	case slot.InUse():
		d.say(Fine, "replay", fmt.Sprintf("a replay is running; slot %q keeps %s of WAL meanwhile", name, console.Size(slot.RetainedWAL)), "")
	default:
		d.say(Warned, "replay", fmt.Sprintf("a replay was interrupted; slot %q keeps %s of WAL",
			name, console.Size(slot.RetainedWAL)), "run the same command again to continue the replay, or `streamer replay --discard` to give it up")
	}
}

func dropRemedy(slot string) string {
	return fmt.Sprintf("SELECT pg_drop_replication_slot('%s')", slot)
}
