package replication

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

// PartitionKey decides in which partition a row of the outbox table is stored.
type PartitionKey struct {
	Key string // as pg_get_partkeydef prints it; empty if the table is not partitioned
	// Updaters are roles, other than superusers, that can log in and may change
	// the key of a row. The catalog does not say whether they do.
	Updaters []string
}

// PartitionKey asks for the key. The partitions may be partitioned themselves.
// For an expression the catalog does not list the columns, so any column may be
// part of the key.
func (c *Control) PartitionKey(ctx context.Context, t Table) (k PartitionKey, err error) {
	if t.Kind != "p" {
		return k, nil
	}
	if err := c.conn.QueryRow(ctx, "select pg_get_partkeydef($1)", t.OID).Scan(&k.Key); err != nil {
		return k, fmt.Errorf("partition key of table %s: %w", t.Outbox.Table, err)
	}
	rows, err := c.conn.Query(ctx, `with keys as (
			select a.attname from pg_partitioned_table p cross join unnest(p.partattrs::int2[]) as key(attnum)
				left join pg_attribute a on a.attrelid = p.partrelid and a.attnum = key.attnum and key.attnum > 0
			where p.partrelid in (`+storage+`))
		select rolname::text from pg_roles r where rolcanlogin and not rolsuper and exists (select from keys
			where case when attname is null then has_any_column_privilege(r.oid, $1::oid, 'UPDATE')
				else has_column_privilege(r.oid, $1::oid, attname, 'UPDATE') end)
		order by 1`, t.OID)
	if err == nil {
		k.Updaters, err = pgx.CollectRows(rows, pgx.RowTo[string])
	}
	if err != nil {
		return k, fmt.Errorf("partition key of table %s: %w", t.Outbox.Table, err)
	}
	return k, nil
}

// CheckPartitionKey looks for roles that could cause events to be published
// again.
func CheckPartitionKey(k PartitionKey, t Table) []Finding {
	if len(k.Updaters) == 0 {
		return nil
	}
	const few = 5
	who, quoted := strings.Join(k.Updaters[:min(few, len(k.Updaters))], ", "), make([]string, len(k.Updaters))
	if more := len(k.Updaters) - few; more > 0 {
		who += fmt.Sprintf(" and %d others", more)
	}
	for i, role := range k.Updaters {
		quoted[i] = quoteIdentifier(role)
	}
	return []Finding{{
		false, fmt.Sprintf("outbox table %s is partitioned by %s, and %s may change that in an UPDATE: "+
			"an UPDATE that moves a row to another partition publishes its event again", t.Outbox.Table, k.Key, who),
		fmt.Sprintf(
			"never change the partition key in an UPDATE; to make sure of that, REVOKE UPDATE ON %s FROM %s",
			QuoteTable(t.Outbox.Table), strings.Join(quoted, ", "),
		),
	}}
}
