package replication

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/outboxstream/streamer/internal/pgname"
)

// matching returns the configured tables, without messages. Patterns are
// replaced by the tables that match them now.
func (c *Control) matching(ctx context.Context) ([]Outbox, error) {
	var all []Outbox
	for i, o := range c.config.Outboxes {
		o.Entry = i
		if o.Messages != "" {
			continue
		}
		pattern, _ := pgname.Parse(o.Table)
		if !pattern.IsPattern() {
			all = append(all, o)
			continue
		}
		o.Pattern = o.Table
		names, err := c.tablesLike(ctx, pattern)
		if err != nil {
			return nil, err
		}
		if len(names) == 0 {
			all = append(all, o)
		}
		source := o.Source
		for _, t := range names {
			o.Table = t.String()
			o.Source = strings.NewReplacer("{table}", t.Schema+"."+t.Name, "{schema}", t.Schema).Replace(source)
			all = append(all, o)
		}
	}
	return all, nil
}

// tablesLike lists the tables that match a pattern, without partitions and
// temporary tables.
func (c *Control) tablesLike(ctx context.Context, pattern pgname.Table) ([]pgname.Table, error) {
	rows, err := c.conn.Query(ctx, `select n.nspname::text, c.relname::text
		from pg_class c join pg_namespace n on n.oid = c.relnamespace
		where c.relkind in ('r', 'p') and not c.relispartition and c.relpersistence <> 't' and n.nspname like $1 and c.relname like $2`,
		like(pattern.Schema), like(pattern.Name))
	if err != nil {
		return nil, fmt.Errorf("tables that match %s: %w", pattern, err)
	}
	names, err := pgx.CollectRows(rows, pgx.RowToStructByPos[pgname.Table])
	if err != nil {
		return nil, fmt.Errorf("tables that match %s: %w", pattern, err)
	}
	slices.SortFunc(names, func(a, b pgname.Table) int { return strings.Compare(a.String(), b.String()) })
	return names, nil
}

// like is a pattern for the operator of that name.
func like(pattern string) string {
	return strings.NewReplacer(`\`, `\\`, "%", `\%`, "_", `\_`, "*", "%").Replace(pattern)
}
