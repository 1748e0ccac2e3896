package doctor

import (
	"context"
	"fmt"

	"github.com/outboxstream/streamer/cmd/streamer/internal/console"
	"github.com/outboxstream/streamer/cmd/streamer/internal/site"
	"github.com/outboxstream/streamer/internal/config"
	"github.com/outboxstream/streamer/replication"
)

// beforeSlot says what the first start will do about the rows that the table
// already has.
func (d *doctor) beforeSlot(ctx context.Context) {
	if d.slot == nil || !d.table.Exists {
		return
	}
	const what = "rows from before the slot"
	control, _, err := site.ConnectPostgres(ctx, d.cfg)
	if err != nil {
		d.outcome(err, what, "")
		return
	}
	defer control.Close()
	ctx, cancel := context.WithTimeout(ctx, site.AskTimeout)
	defer cancel()
	q := site.SnapshotQuery(d.cfg)
	if d.cfg.Snapshot.Mode == config.SnapshotNone {
		q = replication.SnapshotQuery{}
	} else if !d.snapshotFits(ctx, control, q) {
		return
	}
	count, err := control.CountRows(ctx, d.table, q)
	switch {
	case err != nil:
		d.outcome(err, what, "")
	case d.cfg.Snapshot.Mode == config.SnapshotInitial:
		d.say(Fine, what, fmt.Sprintf("%s of %s, ordered by %q, are published before the stream",
			console.AboutRows(count.Rows, count.Exact), d.cfg.Outbox.Table, q.OrderBy), "")
	case count.Rows > 0:
		d.say(Warned, what, fmt.Sprintf("table %s has %s, and those that were committed before the slot are not published "+
			"(snapshot.mode is none)", d.cfg.Outbox.Table, console.AboutRows(count.Rows, count.Exact)),
			"if they are to be published, set snapshot.mode: initial and snapshot.order_by before the first start (docs/how-to/first-start.md)")
	}
}

// snapshotFits reports whether the snapshot that is configured is possible.
func (d *doctor) snapshotFits(ctx context.Context, control *replication.Control, q replication.SnapshotQuery) bool {
	found := replication.CheckSnapshot(*d.server, *d.slot, d.slot.Confirmed)
	_, more, err := control.PlanSnapshot(ctx, d.table, q)
	if err != nil {
		d.outcome(err, "snapshot", "")
		return false
	}
	found = append(found, more...)
	d.findings(found, "snapshot", fmt.Sprintf("the rows of %s can be read in the order of %q", d.cfg.Outbox.Table, q.OrderBy))
	return len(found) == 0
}
