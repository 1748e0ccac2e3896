package replication

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/outboxstream/streamer/internal/failure"
)

// Removal is a set of outbox rows that were committed below Settled. They can
// be removed once everything below Settled is published.
type Removal struct {
	Settled LSN

	table     string
	source    string   // for a FROM clause
	tables    []uint32 // OIDs: the rows of a partitioned table are in its partitions
	places    []string // ctid
	inserters []string // xmin: a place is reused after a vacuum
}

// Len is the number of rows.
func (r Removal) Len() int { return len(r.places) }

// Cut removes the first n rows from r and returns them.
func (r *Removal) Cut(n int) Removal {
	n = min(n, r.Len())
	first := Removal{r.Settled, r.table, r.source, r.tables[:n], r.places[:n], r.inserters[:n]}
	r.tables, r.places, r.inserters = r.tables[n:], r.places[n:], r.inserters[n:]
	return first
}

// cleanupLockTimeout is how long removing waits for a lock: the application has
// precedence.
const cleanupLockTimeout = 500 * time.Millisecond

// BeGentle makes statements of this connection wait only briefly for locks, and
// makes its commits not wait for the disk. Removing rows again after a crash
// does no harm.
func (c *Control) BeGentle(ctx context.Context) error {
	_, err := c.conn.Exec(
		ctx, "select set_config('lock_timeout', $1, false), set_config('synchronous_commit', 'off', false)",
		fmt.Sprintf("%dms", cleanupLockTimeout.Milliseconds()),
	)
	if err != nil {
		return fmt.Errorf("set lock_timeout: %w", err)
	}
	return nil
}

// Removable finds rows, in no particular order, whose time column is before the
// given time.
func (c *Control) Removable(ctx context.Context, t Table, column string, before time.Time, most int) (Removal, error) {
	r := Removal{table: t.Outbox.Table, source: t.source()}
	if err := c.refuseStrays(ctx, t); err != nil {
		return r, err
	}
	at, err := cleanupExpressions(t, column)
	if err != nil {
		return r, err
	}
	ours := ""
	if !c.config.Shard.whole() {
		filter, err := c.config.Shard.filter(t)
		if err != nil {
			return r, err
		}
		ours = " and " + filter
	}
	rows, err := c.conn.Query(ctx, "with "+attached+" select tableoid, ctid::text, xmin::text from "+r.source+
		" o where "+at.compared+" < "+fmt.Sprintf(at.limit, 2)+ours+" and not "+early+" limit $3", t.OID, before, most)
	if err != nil {
		return r, explainCleanup(t.Outbox.Table, err)
	}
	var table uint32
	var place, inserter string
	_, err = pgx.ForEachRow(rows, []any{&table, &place, &inserter}, func() error {
		r.tables, r.places, r.inserters = append(r.tables, table), append(r.places, place), append(r.inserters, inserter)
		return nil
	})
	if err != nil {
		return r, explainCleanup(t.Outbox.Table, err)
	}
	r.Settled, err = c.logEnd(ctx) // after the rows have been seen
	return r, err
}

// Remove deletes rows and returns how many were still there.
func (c *Control) Remove(ctx context.Context, r Removal) (int64, error) {
	done, err := c.conn.Exec(ctx, "delete from "+r.source+" o using unnest($1::oid[], $2::text[], $3::text[]) as r(part, place, inserter)"+
		" where o.tableoid = r.part and o.ctid = r.place::tid and o.xmin = r.inserter::xid", r.tables, r.places, r.inserters)
	if err != nil {
		return 0, explainCleanup(r.table, err)
	}
	return done.RowsAffected(), nil
}

// ErrLocked reports that another session holds the lock. Retrying later helps.
var ErrLocked = errors.New("table is locked")

func explainCleanup(table string, err error) error {
	described := fmt.Errorf("clean up table %s: %w", table, err)
	switch sqlState(err) {
	case "42501":
		return explainDenied(
			described, err,
			"GRANT SELECT, DELETE ON "+QuoteTable(table)+" TO this user; to drop partitions, the user must own them",
		)
	case "55P03":
		return fmt.Errorf("%w: %w", ErrLocked, described)
	}
	return described
}

// OldPartitions returns the partitions of the outbox table, oldest first, whose
// rows were published and are all before the given time. It judges the time by
// the bounds of the partition key, which must be the time column alone. It also
// returns the end of the WAL.
func (c *Control) OldPartitions(
	ctx context.Context, t Table, column string, before time.Time,
) (partitions []string, settled LSN, err error) {
	if err := c.refuseStrays(ctx, t); err != nil {
		return nil, 0, err
	}
	at, err := cleanupExpressions(t, column)
	if err != nil {
		return nil, 0, err
	}
	var key string
	if err := c.conn.QueryRow(ctx, "select coalesce(pg_get_partkeydef($1), '')", t.OID).Scan(&key); err != nil {
		return nil, 0, explainCleanup(t.Outbox.Table, err)
	}
	if key != "RANGE ("+column+")" && key != "RANGE ("+quoteIdentifier(column)+")" {
		return nil, 0, failure.Refuse(failure.Advise(
			fmt.Errorf("outbox table %s is not partitioned by range of %q (its partition key is %q)", t.Outbox.Table, column, key),
			"use outbox.cleanup.mode: delete",
		))
	}
	// The upper bound is the text between TO (' and '), or a number.
	rows, err := c.conn.Query(ctx, `select quote_ident(n.nspname) || '.' || quote_ident(p.relname) from (
			select c.oid, c.relname, c.relnamespace, substring(pg_get_expr(c.relpartbound, c.oid) from 'TO \(''?([^'')]+)''?\)') as upper
			from pg_inherits i join pg_class c on c.oid = i.inhrelid where i.inhparent = $2 and not i.inhdetachpending) p
		join pg_namespace n on n.oid = p.relnamespace
		where upper is not null and upper <> 'MAXVALUE' and upper::`+columnType(t, column)+" <= "+fmt.Sprintf(at.limit, 1)+`
		order by upper::`+columnType(t, column), before, t.OID)
	if err != nil {
		return nil, 0, explainCleanup(t.Outbox.Table, err)
	}
	if partitions, err = pgx.CollectRows(rows, pgx.RowTo[string]); err != nil {
		return nil, 0, explainCleanup(t.Outbox.Table, err)
	}
	if partitions, err = c.withoutEarly(ctx, t, partitions); err != nil {
		return nil, 0, explainCleanup(t.Outbox.Table, err)
	}
	settled, err = c.logEnd(ctx)
	return partitions, settled, err
}

// withoutEarly leaves out partitions with rows that are in no stream. It reads
// only partitions that were attached.
func (c *Control) withoutEarly(ctx context.Context, t Table, partitions []string) (published []string, err error) {
	for _, partition := range partitions {
		var found bool
		if err := c.conn.QueryRow(
			ctx, "with "+attached+" select exists (select from "+partition+" o where "+early+")", t.OID,
		).Scan(&found); err != nil {
			return nil, err
		}
		if !found {
			published = append(published, partition)
		}
	}
	return published, nil
}

// DropPartition drops a partition that OldPartitions returned, unless it has
// been detached in the meantime. Detaching is how an operator keeps a
// partition.
func (c *Control) DropPartition(ctx context.Context, t Table, partition string) error {
	err := pgx.BeginFunc(ctx, c.conn, func(tx pgx.Tx) error {
		// Detaching waits for this lock; writers do not.
		if _, err := tx.Exec(ctx, "lock table "+partition+" in share update exclusive mode"); err != nil {
			return err
		}
		var is bool
		err := tx.QueryRow(
			ctx,
			"select exists (select from pg_inherits where inhrelid = $1::text::regclass and inhparent = $2 and not inhdetachpending)",
			partition, t.OID,
		).Scan(&is)
		if err == nil && !is {
			err = fmt.Errorf("%s is no longer a partition of %s and is left alone", partition, t.Outbox.Table)
		}
		if err == nil {
			_, err = tx.Exec(ctx, "drop table "+partition)
		}
		return err
	})
	if err != nil {
		return explainCleanup(t.Outbox.Table, err)
	}
	return nil
}
