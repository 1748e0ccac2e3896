package setup

import (
	"context"
	"fmt"

	"github.com/outboxstream/streamer/cmd/streamer/internal/console"
	"github.com/outboxstream/streamer/cmd/streamer/internal/site"
	"github.com/outboxstream/streamer/internal/config"
	"github.com/outboxstream/streamer/replication"
)

// beforeSlot says what becomes of the rows that the table had before its slot
// was created.
func (s *setup) beforeSlot(ctx context.Context, shard *shardSetup, server replication.Server, slot replication.Slot) error {
	tables, err := shard.control.DescribeTables(ctx)
	if err != nil {
		return err
	}
	if s.cfg.Snapshot.Mode == config.SnapshotInitial {
		return s.snapshot(ctx, shard, server, slot, tables[0])
	}
	if shard.existed {
		return nil // it may have been streamed since; doctor knows
	}
	for _, table := range tables {
		count, err := shard.control.CountRows(ctx, table, replication.SnapshotQuery{})
		if err != nil {
			return err
		}
		if count.Rows > 0 {
			fmt.Fprintf(s.std.Out, "warning  table %s has %s from before slot %s, which are not published (snapshot.mode is none)\n"+
				"         fix: %s\n", table.Outbox.Table, console.AboutRows(count.Rows, count.Exact), shard.c.Slot, site.SnapshotRemedy)
		}
	}
	return nil
}

// snapshot says how many rows the first start will publish, or what stands in
// the way.
func (s *setup) snapshot(
	ctx context.Context, shard *shardSetup, server replication.Server, slot replication.Slot, table replication.Table,
) error {
	q := site.SnapshotQuery(s.cfg)
	found, err := site.CheckSnapshot(ctx, shard.control, server, slot, table, q)
	if err != nil {
		return err
	}
	if len(found) > 0 {
		s.findings(found)
		return nil
	}
	count, err := shard.control.CountRows(ctx, table, q)
	if err != nil {
		return err
	}
	fmt.Fprintf(s.std.Out, "snapshot  %s of %s, ordered by %q, are published by the first start, before the stream\n",
		console.AboutRows(count.Rows, count.Exact), table.Outbox.Table, q.OrderBy)
	return nil
}
