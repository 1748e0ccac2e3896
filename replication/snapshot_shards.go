package replication

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

// OtherShards returns the slots of another number of shards. Their streamers
// have published the table, or are about to.
func (c *Control) OtherShards(ctx context.Context) ([]string, error) {
	base, own := c.config.Slot, ""
	if suffix := shardSuffix.FindStringSubmatch(base); suffix != nil && !c.config.Shard.whole() {
		base, own = strings.TrimSuffix(base, suffix[0]), suffix[1]
	}
	rows, err := c.conn.Query(ctx, `select slot_name::text from pg_catalog.pg_replication_slots
		where database = current_database() and not temporary and slot_name <> $1 and slot_name ~ $2 order by 1`,
		c.config.Slot, "^"+base+"(_[0-9]+_of_[0-9]+)?$")
	if err != nil {
		return nil, fmt.Errorf("slots of another number of shards: %w", err)
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("slots of another number of shards: %w", err)
	}
	others := names[:0]
	for _, name := range names {
		if suffix := shardSuffix.FindStringSubmatch(name); suffix == nil || suffix[1] != own {
			others = append(others, name)
		}
	}
	return others, nil
}
