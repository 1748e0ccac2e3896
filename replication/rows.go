package replication

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/outboxstream/streamer/internal/failure"
)

// The outbox is what the stream publishes as rows of the outbox table. These
// are the rows of an ordinary table itself, or those of the partitions of a
// partitioned table. SQL sees more under the table's name: rows of tables that
// inherit from it, and of partitions that are not in the WAL. All code that
// reads or deletes rows takes them from source, and a table with strays is
// refused.

// source is the outbox for a FROM clause.
func (t Table) source() string {
	if t.Kind == "p" {
		return QuoteTable(t.Outbox.Table)
	}
	return "ONLY " + QuoteTable(t.Outbox.Table)
}

// storage selects the OIDs of the relations that hold the outbox $1: the table
// itself and its partitions.
const storage = "select $1::oid union select relid from pg_partition_tree($1)"

// attached selects the relations that hold the outbox $1 and existed before
// they became part of it. It returns how many transactions ago each was
// created, and became part of the outbox. Columns such as ctid are as old as
// their table, whatever happens to it.
const attached = `attached as materialized (select * from (
		select made.attrelid as oid, age(made.xmin) as made, (select min(age(i.xmin))
			from pg_partition_ancestors(made.attrelid) a join pg_inherits i on i.inhrelid = a.relid
			where a.relid <> $1 and a.relid in (` + storage + `)) as since
		from pg_attribute made where made.attname = 'ctid' and made.attrelid in (` + storage + `)) relation
	where made > since)`

// early is the condition for rows o that their table held before it was part of
// the outbox: they are in no stream. A row that is older than its table comes
// from pg_upgrade and does not count.
const early = "exists (select from attached a where a.oid = o.tableoid and age(o.xmin) > a.since and age(o.xmin) <= a.made)"

// Stray is a table whose rows SQL shows under the name of the outbox table
// although no stream carries them under that name.
type Stray struct {
	Name string // quoted for SQL
	Kind strayKind
}

type strayKind string

const (
	strayChild    strayKind = "child"    // it inherits from the table
	strayForeign  strayKind = "foreign"  // a partition on another server
	strayUnlogged strayKind = "unlogged" // a partition that is not in the WAL
)

// describeStrays leaves out temporary tables, which only their own session sees,
// and partitions that are being detached.
func (c *Control) describeStrays(ctx context.Context, t *Table) error {
	rows, err := c.conn.Query(ctx, `select quote_ident(n.nspname) || '.' || quote_ident(c.relname),
			case when not c.relispartition then 'child' when c.relkind = 'f' then 'foreign' else 'unlogged' end
		from (select inhrelid as oid from pg_inherits where inhparent = $1 and not inhdetachpending
			union select relid from pg_partition_tree($1)) below
		join pg_class c using (oid) join pg_namespace n on n.oid = c.relnamespace
		where c.oid <> $1 and c.relpersistence <> 't'
			and (not c.relispartition or c.relkind = 'f' or c.relkind = 'r' and c.relpersistence = 'u') order by 1`, t.OID)
	if err == nil {
		t.Strays, err = pgx.AppendRows(t.Strays[:0], rows, pgx.RowToStructByPos[Stray])
	}
	if err != nil {
		return fmt.Errorf("tables below %s: %w", t.Outbox.Table, err)
	}
	return nil
}

// refuseStrays looks for strays that have appeared since t was described.
func (c *Control) refuseStrays(ctx context.Context, t Table) error {
	if err := c.describeStrays(ctx, &t); err != nil {
		return err
	}
	return Refusal(checkStrays(t))
}

// checkStrays refuses strays. What an application stores in them is never
// published, and a read that left them out would call the rest complete.
func checkStrays(t Table) []Finding {
	var found []Finding
	for _, stray := range t.Strays {
		finding := Finding{Fatal: true}
		switch stray.Kind {
		case strayChild:
			finding.Problem = fmt.Sprintf(
				"table %s inherits from outbox table %s: rows stored in it are not in the stream", stray.Name, t.Outbox.Table,
			)
			finding.Remedy = fmt.Sprintf(
				"drop the trigger that routes rows to %s, move its unpublished rows into %s itself, "+
					"and ALTER TABLE %s NO INHERIT %s (docs/how-to/clean-up.md#a-table-split-by-inheritance)",
				stray.Name, t.Outbox.Table, stray.Name, QuoteTable(t.Outbox.Table),
			)
		case strayForeign:
			finding.Problem = fmt.Sprintf(
				"partition %s of outbox table %s is a foreign table: its rows are not in the WAL of this server",
				stray.Name, t.Outbox.Table,
			)
			finding.Remedy = "ALTER TABLE " + QuoteTable(t.Outbox.Table) + " DETACH PARTITION " + stray.Name
		case strayUnlogged:
			finding.Problem = fmt.Sprintf("partition %s of outbox table %s is not logged: its rows never reach the WAL", stray.Name, t.Outbox.Table)
			finding.Remedy = "ALTER TABLE " + stray.Name + " SET LOGGED"
		}
		found = append(found, finding)
	}
	return found
}

// ErrHidden reports that row level security could hide rows. Reading fewer rows
// would be worse than reading none, so row_security is off.
var ErrHidden = errors.New("row level security hides rows from this user")

// explainDenied says what keeps this user from the rows: row level security, or
// a missing grant.
func explainDenied(described, err error, grant string) error {
	if sent, ok := errors.AsType[*pgconn.PgError](err); ok && sent.Routine == "check_enable_rls" { // whatever the language of its message
		return failure.Refuse(failure.Advise(
			fmt.Errorf("%w: %w", described, ErrHidden),
			"ALTER ROLE … BYPASSRLS, or name the owner of the table in postgres.dsn (docs/security.md#row-level-security)",
		))
	}
	return failure.Refuse(failure.Advise(described, "%s; it also needs USAGE on the schema", grant))
}
