package site

import (
	"context"

	"github.com/outboxstream/streamer/internal/config"
	"github.com/outboxstream/streamer/replication"
)

// SnapshotRemedy is what to do about rows that are not published because they
// were committed before the slot.
const SnapshotRemedy = "if they are to be published, set snapshot.mode: initial and snapshot.order_by before the first start " +
	"(docs/how-to/first-start.md)"

// SnapshotQuery selects the rows from before the slot.
func SnapshotQuery(c config.Config) replication.SnapshotQuery {
	return replication.SnapshotQuery{
		OrderBy: c.Snapshot.OrderBy, ID: c.Outbox.Columns.ID, Where: c.Snapshot.Where, ChunkRows: c.Snapshot.ChunkRows,
	}
}

// CheckSnapshot returns what stands in the way of a snapshot at the first start.
func CheckSnapshot(
	ctx context.Context, control *replication.Control, server replication.Server, slot replication.Slot,
	table replication.Table, q replication.SnapshotQuery,
) ([]replication.Finding, error) {
	found := replication.CheckSnapshot(server, slot, slot.Confirmed)
	_, more, err := control.PlanSnapshot(ctx, table, q)
	return append(found, more...), err
}
