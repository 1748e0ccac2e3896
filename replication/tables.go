package replication

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/outboxstream/streamer/internal/pgname"
)

// UserTable is a table that could be an outbox.
type UserTable struct {
	Name    string // qualified, as in outbox.table
	OID     uint32
	Rows    int64 // the server's estimate; -1: none yet
	Columns []Column
}

// UserTables lists the tables of the database whose rows are in the WAL. It
// leaves out PostgreSQL's own, and partitions, whose rows belong to their root.
func (c *Control) UserTables(ctx context.Context) ([]UserTable, error) {
	rows, err := c.conn.Query(ctx, `select n.nspname::text, c.relname::text, c.oid, (
			select coalesce(sum(greatest(p.reltuples, -1)), -1)::bigint from pg_class p
			where p.relkind = 'r' and p.oid in (select c.oid union select relid from pg_partition_tree(c.oid)))
		from pg_class c join pg_namespace n on n.oid = c.relnamespace
		where c.relkind in ('r', 'p') and c.relpersistence = 'p' and not c.relispartition
			and n.nspname <> 'information_schema' and n.nspname !~ '^pg_'
		order by 1, 2`)
	if err != nil {
		return nil, fmt.Errorf("tables of the database: %w", err)
	}
	tables, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (UserTable, error) {
		var name pgname.Table
		var t UserTable
		err := row.Scan(&name.Schema, &name.Name, &t.OID, &t.Rows)
		t.Name = name.String()
		return t, err
	})
	if err != nil {
		return nil, fmt.Errorf("tables of the database: %w", err)
	}
	for i := range tables {
		described := Table{OID: tables[i].OID}
		if err := c.describeColumns(ctx, &described); err != nil {
			return nil, err
		}
		tables[i].Columns = described.Columns
	}
	return tables, nil
}

// Writes are the rows that were written since the server's statistics began.
type Writes struct {
	Inserted, Updated, Deleted int64
	Since                      time.Time // zero: since the database was created
}

// Writes asks for the statistics of a table and its partitions. The server
// updates them within a second or so.
func (c *Control) Writes(ctx context.Context, oid uint32) (Writes, error) {
	var w Writes
	var since *time.Time
	err := c.conn.QueryRow(ctx, `select coalesce(sum(n_tup_ins), 0)::bigint, coalesce(sum(n_tup_upd), 0)::bigint,
			coalesce(sum(n_tup_del), 0)::bigint, (select stats_reset from pg_stat_database where datname = current_database())
		from pg_stat_user_tables where relid in (`+storage+`)`, oid).Scan(&w.Inserted, &w.Updated, &w.Deleted, &since)
	if err != nil {
		return w, fmt.Errorf("statistics of the table: %w", err)
	}
	if since != nil {
		w.Since = since.UTC()
	}
	return w, nil
}
