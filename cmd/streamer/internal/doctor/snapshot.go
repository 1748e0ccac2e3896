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
	if d.slot == nil || len(d.tables) == 0 {
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
	for _, table := range d.tables {
		if table.Exists {
			d.beforeSlotIn(ctx, what, control, table)
		}
	}
}

func (d *doctor) beforeSlotIn(ctx context.Context, what string, control *replication.Control, table replication.Table) {
	if d.cfg.Snapshot.Mode == config.SnapshotNone {
		d.unpublished(ctx, what, control, table)
		return
	}
	q := site.SnapshotQuery(d.cfg)
	if !d.snapshotFits(ctx, control, table, q) {
		return
	}
	count, err := control.CountRows(ctx, table, q)
	if err != nil {
		d.outcome(err, what, "")
		return
	}
	d.say(Fine, what, fmt.Sprintf("%s of %s, ordered by %q, are published before the stream",
		console.AboutRows(count.Rows, count.Exact), table.Outbox.Table, q.OrderBy), "")
}

// unpublished warns of rows that are surely not published, and mentions those of
// which it cannot know.
func (d *doctor) unpublished(ctx context.Context, what string, control *replication.Control, table replication.Table) {
	count, err := control.CountRows(ctx, table, replication.SnapshotQuery{})
	if err != nil {
		d.outcome(err, what, "")
		return
	}
	if count.Rows == 0 {
		return
	}
	found := fmt.Sprintf("table %s has %s, and those that were committed before the slot are not published "+
		"(snapshot.mode is none)", table.Outbox.Table, console.AboutRows(count.Rows, count.Exact))
	if !control.SurelyOld(ctx, table) {
		d.say(Fine, what, found, "")
		return
	}
	d.say(Warned, what, found, site.SnapshotRemedy)
}

// snapshotFits reports whether the snapshot that is configured is possible.
func (d *doctor) snapshotFits(
	ctx context.Context, control *replication.Control, table replication.Table, q replication.SnapshotQuery,
) bool {
	found, err := site.CheckSnapshot(ctx, control, *d.server, *d.slot, table, q)
	if err != nil {
		d.outcome(err, "snapshot", "")
		return false
	}
	d.findings(found, "snapshot", fmt.Sprintf("the rows of %s can be read in the order of %q", table.Outbox.Table, q.OrderBy))
	return len(found) == 0
}
