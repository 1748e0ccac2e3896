package replication

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// countedRows is up to how many rows are counted rather than estimated.
const countedRows = 10_000

// RowCount is how many rows the outbox table has.
type RowCount struct {
	Rows  int64
	Exact bool // otherwise it is the server's estimate
}

// CountRows returns how many rows the table has, among those that where selects.
// It counts only a few and leaves larger numbers to the server's estimate, so it
// is quick. A user who may not read the table gets an estimate, too.
func (c *Control) CountRows(ctx context.Context, t Table, q SnapshotQuery) (RowCount, error) {
	condition, err := q.condition(c.config, t)
	if err != nil {
		return RowCount{}, err
	}
	from := " from " + t.source() + condition
	var count RowCount
	err = c.quickly(ctx, func(tx pgx.Tx) error {
		err := tx.QueryRow(ctx, fmt.Sprintf("select count(*) from (select%s limit %d) few", from, countedRows+1)).Scan(&count.Rows)
		if count.Exact = count.Rows <= countedRows; count.Exact || err != nil {
			return err
		}
		rows, err := planRows(ctx, tx, "select"+from)
		count.Rows = max(rows, count.Rows)
		return err
	})
	if sqlState(err) == "42501" { // the catalog is open to all
		return c.estimate(ctx, t)
	}
	if err != nil {
		return RowCount{}, c.explainOutbox(t, err)
	}
	return count, nil
}

// Selected returns which of these event IDs belong to rows that the query
// selects.
func (c *Control) Selected(ctx context.Context, t Table, q SnapshotQuery, ids []string) (map[string]struct{}, error) {
	condition, err := q.condition(c.config, t)
	if err != nil {
		return nil, err
	}
	id := quoteIdentifier(q.ID)
	rows, err := c.conn.Query(ctx, fmt.Sprintf(
		"select id from (select %s::text as id from %s%s) selected where id = any($1::text[])", id, t.source(), condition), ids)
	if err != nil {
		return nil, c.explainOutbox(t, err)
	}
	selected := map[string]struct{}{}
	var one string
	if _, err := pgx.ForEachRow(rows, []any{&one}, func() error {
		selected[one] = struct{}{}
		return nil
	}); err != nil {
		return nil, c.explainOutbox(t, err)
	}
	return selected, nil
}

// SurelyOld reports whether the table has a row that the slot does not deliver.
// If not, there may be one all the same. The server does not say when a slot was
// created, only the oldest transaction of which it keeps the catalog for it, and
// that is an older one if another slot was behind. And only the first rows in
// storage, where old ones are, are looked at: a start does not wait for a scan.
func (c *Control) SurelyOld(ctx context.Context, t Table) bool {
	var old bool
	err := c.quickly(ctx, func(tx pgx.Tx) error {
		return tx.QueryRow(ctx, fmt.Sprintf(`select exists (select from (select xmin from %s limit %d) few where age(xmin) >
			(select age(catalog_xmin) from pg_catalog.pg_replication_slots where slot_name = $1))`, t.source(), countedRows),
			c.config.Slot).Scan(&old)
	})
	return err == nil && old
}

// quickly runs questions about the table that wait neither for a session that
// alters it nor for a slow disk. A context that ends would end the connection,
// and with it the lock of the slot.
func (c *Control) quickly(ctx context.Context, ask func(pgx.Tx) error) error {
	return pgx.BeginTxFunc(ctx, c.conn, pgx.TxOptions{AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "set local lock_timeout = '1s'; set local statement_timeout = '5s'"); err != nil {
			return err
		}
		return ask(tx)
	})
}

// estimate is the catalog's number of rows, as of the last VACUUM or ANALYZE.
func (c *Control) estimate(ctx context.Context, t Table) (RowCount, error) {
	var count RowCount
	err := c.conn.QueryRow(ctx, `select coalesce(sum(greatest(c.reltuples, s.n_live_tup, 0)), 0)::bigint
		from pg_class c left join pg_stat_all_tables s on s.relid = c.oid
		where c.relkind = 'r' and c.oid in (`+storage+")", t.OID).Scan(&count.Rows)
	if err != nil {
		return count, fmt.Errorf("size of table %s: %w", t.Outbox.Table, err)
	}
	return count, nil
}

var errNoPlan = errors.New("server has returned no plan")

// planRows is how many rows the server expects a query to return.
func planRows(ctx context.Context, tx pgx.Tx, statement string) (int64, error) {
	var text string
	if err := tx.QueryRow(ctx, "explain (format json) "+statement).Scan(&text); err != nil {
		return 0, err
	}
	var plans []struct {
		Plan struct {
			Rows float64 `json:"Plan Rows"`
		}
	}
	if err := json.Unmarshal([]byte(text), &plans); err != nil || len(plans) == 0 {
		return 0, errNoPlan
	}
	return int64(plans[0].Plan.Rows), nil
}
