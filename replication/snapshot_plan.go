package replication

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/outboxstream/streamer/internal/failure"
)

// SnapshotQuery selects which rows from before the slot are published, and in
// which order.
type SnapshotQuery struct {
	OrderBy string // column
	ID      string // column with a unique value, for rows that are equal in OrderBy
	Where   string // condition in SQL; empty for all rows
	// ChunkRows is how many rows are read as of one moment.
	ChunkRows int
}

// The remedies of what PlanSnapshot refuses.
const (
	orderRemedy = "name a column that grows with time in snapshot.order_by: smallint, integer, bigint, timestamp, timestamptz, date, " +
		`or text with COLLATE "C"`
	snapshotGuide = "docs/how-to/first-start.md"
)

// keyColumn is what the catalog says about a column of the key.
type keyColumn struct {
	Name     string
	NotNull  bool
	Bytewise bool // its collation compares bytes
}

// keyIndex is an index on the table.
type keyIndex struct {
	Columns []string // empty names are expressions
	Unique  bool
}

// PlanSnapshot makes sure that the table can be read in the order that q asks
// for, completely, and in short transactions. It returns findings about what
// stands in the way; they are all fatal.
func (c *Control) PlanSnapshot(ctx context.Context, t Table, q SnapshotQuery) (Order, []Finding, error) {
	order, found := orderOf(t, q)
	if len(found) > 0 {
		return order, found, nil
	}
	columns, err := c.keyColumns(ctx, t, order.Columns())
	if err != nil {
		return order, nil, err
	}
	indexes, err := c.keyIndexes(ctx, t)
	if err != nil {
		return order, nil, err
	}
	large, err := c.exceeds(ctx, t, q.ChunkRows)
	if err != nil {
		return order, nil, err
	}
	found = order.check(t, c.config, columns, indexes, large)
	if len(found) > 0 {
		return order, found, nil
	}
	return order, nil, c.tryWhere(ctx, t, q)
}

// orderOf looks up the columns of the key.
func orderOf(t Table, q SnapshotQuery) (Order, []Finding) {
	o := Order{charset: t.Charset()}
	refuse := func(remedy, format string, arguments ...any) (Order, []Finding) {
		return o, []Finding{{true, fmt.Sprintf(format, arguments...), remedy}}
	}
	names := []string{q.OrderBy}
	if q.OrderBy != q.ID {
		names = append(names, q.ID)
	}
	for i, name := range names {
		column, ok := t.column(name)
		if !ok {
			return refuse(
				"the table has "+columnNames(t.Columns)+": "+orderRemedy,
				"outbox table %s has no column %q, by which snapshot.order_by orders its rows", t.Outbox.Table, name,
			)
		}
		typ, _, _ := strings.Cut(columnType(t, name), "(")
		kind, known := orderKinds[typ]
		switch {
		case typ == "uuid" && i == 0:
			return refuse(orderRemedy, "column %q of %s is uuid, whose values have no order", name, t.Outbox.Table)
		case !known && i == 0:
			return refuse(orderRemedy, "column %q of %s is %s, by which rows cannot be ordered exactly", name, t.Outbox.Table, column.Type)
		case !known:
			return refuse(
				"map a column of type uuid, text, smallint, integer or bigint as outbox.columns.id",
				"column %q of %s, which tells rows with the same %q apart, is %s", name, t.Outbox.Table, q.OrderBy, column.Type,
			)
		case kind == orderBytes && typ != "uuid" && !bytesKept(t.encoding):
			return refuse(
				orderRemedy+", and map a column of another type as outbox.columns.id",
				"column %q of %s is %s in a database in %s, where the order of texts is not known", name, t.Outbox.Table, column.Type, t.encoding,
			)
		}
		o.columns = append(o.columns, orderColumn{name: name, typ: typ, kind: kind})
	}
	return o, nil
}

// bytesKept reports whether a session reads texts of the database as they are
// stored, and the streamer can write them down.
func bytesKept(encoding string) bool { return encoding == "UTF8" || NewCharset(encoding) != nil }

func (c *Control) keyColumns(ctx context.Context, t Table, names []string) ([]keyColumn, error) {
	rows, err := c.conn.Query(ctx, `select a.attname::text, a.attnotnull, coalesce(co.collname in ('C', 'POSIX')
				or co.collname = 'default' and d.datcollate in ('C', 'POSIX') and coalesce(to_jsonb(d)->>'datlocprovider', 'c') = 'c', true)
		from pg_attribute a left join pg_collation co on co.oid = a.attcollation
			join pg_database d on d.datname = current_database()
		where a.attrelid = $1 and a.attname = any($2) and not a.attisdropped`, t.OID, names)
	if err != nil {
		return nil, fmt.Errorf("key columns of table %s: %w", t.Outbox.Table, err)
	}
	columns, err := pgx.CollectRows(rows, pgx.RowToStructByPos[keyColumn])
	if err != nil {
		return nil, fmt.Errorf("key columns of table %s: %w", t.Outbox.Table, err)
	}
	return columns, nil
}

// keyIndexes are the indexes that hold every row and can be read in order.
func (c *Control) keyIndexes(ctx context.Context, t Table) ([]keyIndex, error) {
	rows, err := c.conn.Query(ctx, `select array(select coalesce(a.attname::text, '') from generate_series(0, i.indnkeyatts - 1) n
				left join pg_attribute a on a.attrelid = i.indrelid and a.attnum = i.indkey[n] and i.indkey[n] > 0 order by n),
			i.indisunique and i.indimmediate
		from pg_index i join pg_class ic on ic.oid = i.indexrelid join pg_am am on am.oid = ic.relam
		where i.indrelid = $1 and am.amname = 'btree' and i.indisvalid and i.indpred is null`, t.OID)
	if err != nil {
		return nil, fmt.Errorf("indexes of table %s: %w", t.Outbox.Table, err)
	}
	indexes, err := pgx.CollectRows(rows, pgx.RowToStructByPos[keyIndex])
	if err != nil {
		return nil, fmt.Errorf("indexes of table %s: %w", t.Outbox.Table, err)
	}
	return indexes, nil
}

// unknownRows is the size from which a table that was never analysed counts as
// large, in bytes.
const unknownRows = 32 << 20

// exceeds reports whether the table may have more rows than are read at once.
func (c *Control) exceeds(ctx context.Context, t Table, rows int) (large bool, err error) {
	err = c.conn.QueryRow(ctx, `select coalesce(bool_or(reltuples > $2 or reltuples < 0 and pg_relation_size(oid) > $3), false)
		from pg_class where relkind = 'r' and oid in (`+storage+")", t.OID, rows, unknownRows).Scan(&large)
	if err != nil {
		return false, fmt.Errorf("size of table %s: %w", t.Outbox.Table, err)
	}
	return large, nil
}

// check compares the order with the catalog. It marks the columns that must be
// compared by bytes.
func (o Order) check(t Table, c Config, columns []keyColumn, indexes []keyIndex, large bool) []Finding {
	return append(o.checkColumns(t, c, columns), o.checkIndexes(t, indexes, large)...)
}

func (o Order) checkColumns(t Table, c Config, columns []keyColumn) (found []Finding) {
	fatal := func(remedy, format string, arguments ...any) {
		found = append(found, Finding{true, fmt.Sprintf(format, arguments...), remedy})
	}
	for i := range o.columns {
		column := &o.columns[i]
		at := slices.IndexFunc(columns, func(k keyColumn) bool { return k.Name == column.name })
		if at < 0 {
			fatal("start again", "column %q of %s has just been dropped", column.name, t.Outbox.Table)
			continue
		}
		if !columns[at].NotNull {
			fatal(
				fmt.Sprintf("fill it in where it is NULL, then ALTER TABLE %s ALTER COLUMN %s SET NOT NULL; "+
					"or name another column in snapshot.order_by", QuoteTable(t.Outbox.Table), quoteIdentifier(column.name)),
				"column %q of %s may be NULL: rows without a value have no place in the order and would be left out", column.name, t.Outbox.Table,
			)
		}
		if len(t.Attributes) > 0 && t.Published && !slices.Contains(t.Attributes, column.name) {
			fatal("publish all columns of the table", "publication %q leaves out column %q of %s, by which snapshot.order_by orders its rows",
				c.Publication, column.name, t.Outbox.Table)
		}
		if column.kind == orderBytes && column.typ != "uuid" && !columns[at].Bytewise {
			if column.collate = true; i == 0 {
				fatal(orderRemedy, "column %q of %s has a collation whose order depends on the server's libraries", column.name, t.Outbox.Table)
			}
		}
	}
	return found
}

func (o Order) checkIndexes(t Table, indexes []keyIndex, large bool) (found []Finding) {
	names := o.Columns()
	first, id := names[0], names[len(names)-1]
	outside := func(name string) bool { return !slices.Contains(names, name) }
	if !slices.ContainsFunc(indexes, func(x keyIndex) bool {
		return x.Unique && slices.Contains(x.Columns, id) && !slices.ContainsFunc(x.Columns, outside)
	}) {
		found = append(found, Finding{
			true, fmt.Sprintf("nothing makes column %q of %s unique, so rows with the same %q cannot be told apart", id, t.Outbox.Table, first),
			fmt.Sprintf("CREATE UNIQUE INDEX CONCURRENTLY ON %s (%s)", QuoteTable(t.Outbox.Table), quoteIdentifier(id)),
		})
	}
	if large && !slices.ContainsFunc(indexes, func(x keyIndex) bool { return len(x.Columns) > 0 && x.Columns[0] == first }) {
		found = append(found, Finding{
			true,
			fmt.Sprintf("no index of %s begins with column %q: each part of the snapshot would read and sort all of it", t.Outbox.Table, first),
			fmt.Sprintf("CREATE INDEX CONCURRENTLY ON %s (%s)", QuoteTable(t.Outbox.Table), o.plain()),
		})
	}
	return found
}

func quoteAll(names []string) []string {
	quoted := make([]string, len(names))
	for i, name := range names {
		quoted[i] = quoteIdentifier(name)
	}
	return quoted
}

// tryWhere makes the server plan a query with the condition, so that it checks
// the condition and the right to read, and reads no row. It is a single statement
// for the server, whatever the condition holds.
func (c *Control) tryWhere(ctx context.Context, t Table, q SnapshotQuery) error {
	condition, err := q.condition(c.config, t)
	if err == nil {
		err = c.quickly(ctx, func(tx pgx.Tx) error {
			_, err := planRows(ctx, tx, "select from "+t.source()+condition)
			return err
		})
	}
	if err == nil {
		return nil
	}
	described := fmt.Errorf("snapshot.where for table %s: %w", t.Outbox.Table, err)
	switch state := sqlState(err); {
	case state == "42501":
		return explainDenied(fmt.Errorf("read table %s: %w", t.Outbox.Table, err), err,
			"GRANT SELECT ON "+QuoteTable(t.Outbox.Table)+" TO this user, or name one that may read it in postgres.dsn")
	case state == "42703" && q.Where != "":
		return failure.Misconfigure(failure.Advise(described, "correct snapshot.where; the table has %s", columnNames(t.Columns)))
	case strings.HasPrefix(state, "42"), strings.HasPrefix(state, "22"):
		return failure.Misconfigure(failure.Advise(described, "correct snapshot.where: it is a condition of a SELECT (%s)", snapshotGuide))
	}
	return described
}

// condition is the WHERE clause for the rows of a snapshot, or empty.
func (q SnapshotQuery) condition(c Config, t Table, more ...string) (string, error) {
	conditions := slices.Clone(more)
	if q.Where != "" {
		conditions = append(conditions, "("+q.Where+"\n)") // which may end with a comment
	}
	if !c.Shard.whole() {
		filter, err := c.Shard.filter(t)
		if err != nil {
			return "", err
		}
		conditions = append(conditions, filter)
	}
	if len(conditions) == 0 {
		return "", nil
	}
	return " where " + strings.Join(conditions, " and "), nil
}

// oldSlotMinor names the defect of a release in which a slot that is created by
// SQL can begin inside a transaction, whose first rows are then in neither the
// stream nor the snapshot.
func oldSlotMinor(version int) bool {
	firstGood := map[int]int{14: 13, 15: 8, 16: 4}
	minor, known := firstGood[version/10000]
	return known && version%10000 < minor
}

// CheckSnapshot checks server and slot. from is the checkpoint.
func CheckSnapshot(s Server, slot Slot, from LSN) []Finding {
	switch {
	case s.InStandby:
		return []Finding{{
			true, "the server is a standby, where a snapshot is not possible",
			"name the primary in postgres.dsn, or add target_session_attrs=read-write",
		}}
	case slot.Confirmed != from:
		return []Finding{{
			true, fmt.Sprintf("slot %q is at %s, but the snapshot is of the rows from before %s", slot.Name, slot.Confirmed, from),
			"another client has moved the slot: continue without the rest of the snapshot with `streamer checkpoint set slot --yes`, " +
				"then publish what is missing with `streamer replay --missing`",
		}}
	case oldSlotMinor(s.Version):
		return []Finding{{
			true, "PostgreSQL " + versionText(s.Version) + " can begin a slot inside a transaction, whose first rows a snapshot would not find",
			"update to the newest minor release, drop the slot and run `streamer setup` again",
		}}
	}
	return nil
}
