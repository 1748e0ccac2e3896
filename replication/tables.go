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
	Columns []Column
}

// UserTables lists the tables of the database whose rows are in the WAL, with
// their columns. It leaves out PostgreSQL's own, and partitions, whose rows
// belong to their root. Of nested domains only the outer one is resolved.
func (c *Control) UserTables(ctx context.Context) ([]UserTable, error) {
	rows, err := c.conn.Query(ctx, `select n.nspname::text, c.relname::text, c.oid, a.attname::text, format_type(a.atttypid, a.atttypmod),
			format_type(coalesce(nullif(t.typbasetype, 0), t.oid), null), a.attgenerated::text
		from pg_class c join pg_namespace n on n.oid = c.relnamespace
		join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped join pg_type t on t.oid = a.atttypid
		where c.relkind in ('r', 'p') and c.relpersistence = 'p' and not c.relispartition
			and n.nspname <> 'information_schema' and n.nspname !~ '^pg_'
		order by 1, 2, a.attnum`)
	if err != nil {
		return nil, fmt.Errorf("tables of the database: %w", err)
	}
	var tables []UserTable
	var name pgname.Table
	var oid uint32
	var column Column
	fields := []any{&name.Schema, &name.Name, &oid, &column.Name, &column.Type, &column.Base, &column.Generated}
	_, err = pgx.ForEachRow(rows, fields, func() error {
		if len(tables) == 0 || tables[len(tables)-1].OID != oid {
			tables = append(tables, UserTable{Name: name.String(), OID: oid})
		}
		last := &tables[len(tables)-1]
		last.Columns = append(last.Columns, column)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("tables of the database: %w", err)
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
