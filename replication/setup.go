package replication

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/outboxstream/streamer/internal/failure"
)

// QuoteIdentifier quotes a name for SQL.
func QuoteIdentifier(name string) string { return quoteIdentifier(name) }

// QuoteLiteral quotes a text for SQL.
func QuoteLiteral(text string) string { return quoteLiteral(text) }

// TableSQL creates a table. A column's type may be followed by constraints.
func TableSQL(table string, columns []Column) string {
	lines := make([]string, len(columns))
	for i, c := range columns {
		lines[i] = "    " + quoteIdentifier(c.Name) + " " + c.Type
	}
	return "CREATE TABLE " + QuoteTable(table) + " (\n" + strings.Join(lines, ",\n") + "\n)"
}

// PublicationSQL creates the publication of the outbox tables. It publishes only
// inserts, so that the application's own clean-up needs no replica identity.
// The partitions of a partitioned table appear under the table's name. A
// shard's publication has only the rows of the shard. Only the columns of the
// tables are used.
func PublicationSQL(c Config, tables []Table) (string, error) {
	published := make([]string, len(tables))
	for i, t := range tables {
		where, err := c.Shard.where(t)
		if err != nil {
			return "", err
		}
		published[i] = QuoteTable(t.Outbox.Table) + where
	}
	what := ""
	if len(published) > 0 {
		what = " FOR TABLE " + strings.Join(published, ", ")
	}
	return "CREATE PUBLICATION " + quoteIdentifier(c.Publication) + what +
		" WITH (publish = 'insert', publish_via_partition_root = true)", nil
}

// SlotSQL creates the slot. failover lets standbys of PostgreSQL 17 and later
// keep a copy of it; earlier releases do not have that argument.
func SlotSQL(c Config, failover bool) string {
	options := ""
	if failover {
		options = ", failover => true"
	}
	return "SELECT pg_create_logical_replication_slot(" + quoteLiteral(c.Slot) + ", 'pgoutput'" + options + ")"
}

// GrantTableSQL lets a role keep checkpoints in a table.
func GrantTableSQL(table, role string) string {
	schema, _ := SplitTable(table)
	return "GRANT USAGE ON SCHEMA " + quoteIdentifier(schema) + " TO " + quoteIdentifier(role) + ";\n" +
		"GRANT SELECT, INSERT, UPDATE ON " + QuoteTable(table) + " TO " + quoteIdentifier(role)
}

// SlotExists reports whether there is a slot of the configured name, of any
// kind.
func (c *Control) SlotExists(ctx context.Context) (bool, error) {
	return c.exists(ctx, "slot "+c.config.Slot, "select from pg_replication_slots where slot_name = $1", c.config.Slot)
}

// TableExists reports whether there is a table, view or similar relation of
// this name.
func (c *Control) TableExists(ctx context.Context, table string) (bool, error) {
	schema, name := SplitTable(table)
	return c.exists(ctx, "table "+table, `select from pg_class c join pg_namespace n on n.oid = c.relnamespace
		where n.nspname = $1 and c.relname = $2`, schema, name)
}

// DatabaseExists reports whether there is a database of this name.
func (c *Control) DatabaseExists(ctx context.Context, name string) (bool, error) {
	return c.exists(ctx, "database "+name, "select from pg_database where datname = $1", name)
}

func (c *Control) exists(ctx context.Context, what, query string, arguments ...any) (found bool, err error) {
	if err := c.conn.QueryRow(ctx, "select exists("+query+")", arguments...).Scan(&found); err != nil {
		return false, fmt.Errorf("look for %s: %w", what, err)
	}
	return found, nil
}

// PublicationExists reports whether there is the configured publication.
func (c *Control) PublicationExists(ctx context.Context) (bool, error) {
	return c.exists(ctx, "publication "+c.config.Publication, "select from pg_publication where pubname = $1", c.config.Publication)
}

// Setting is the value of a server setting in new sessions of this role in this
// database.
func (c *Control) Setting(ctx context.Context, name string) (value string, err error) {
	if err := c.conn.QueryRow(ctx, "select reset_val from pg_settings where name = $1", name).Scan(&value); err != nil {
		return "", fmt.Errorf("setting %s: %w", name, err)
	}
	return value, nil
}

// ProvidersSetting is the value of a setting that only the servers of one
// provider have. It is empty on others.
func (c *Control) ProvidersSetting(ctx context.Context, name string) (value string, err error) {
	if err := c.conn.QueryRow(ctx, "select coalesce(current_setting($1, true), '')", name).Scan(&value); err != nil {
		return "", fmt.Errorf("setting %s: %w", name, err)
	}
	return value, nil
}

// RoleSetting is the role that ALTER ROLE or ALTER DATABASE … SET role makes of
// this user in other sessions, or empty. The streamer's sessions act as the user
// itself.
func (c *Control) RoleSetting(ctx context.Context) (role string, err error) {
	err = c.conn.QueryRow(ctx, `select coalesce((select substring(setting from 6) from pg_db_role_setting, unnest(setconfig) setting
		where setting like 'role=%' and setrole in (0, (select oid from pg_roles where rolname = session_user))
			and setdatabase in (0, (select oid from pg_database where datname = current_database()))
		order by setrole <> 0 desc, setdatabase <> 0 desc limit 1), '')`).Scan(&role)
	if err != nil {
		return "", fmt.Errorf("role of the user's sessions: %w", err)
	}
	if role == "none" {
		return "", nil
	}
	return role, nil
}

// Limit bounds every further statement of this connection. Statements that
// create objects wait for locks and for other transactions.
func (c *Control) Limit(ctx context.Context, timeout time.Duration) error {
	_, err := c.conn.Exec(ctx, "select set_config('statement_timeout', $1, false)", fmt.Sprintf("%dms", timeout.Milliseconds()))
	if err != nil {
		return fmt.Errorf("set statement_timeout: %w", err)
	}
	return nil
}

// CreateTable runs the statement that TableSQL returned for the table.
func (c *Control) CreateTable(ctx context.Context, table, sql string) error {
	if _, err := c.conn.Exec(ctx, sql); err != nil {
		return c.explainCreate(ctx, "table "+table, "a role that may CREATE in its schema", err)
	}
	return nil
}

// CreateFunction runs a statement that creates the function, or replaces it.
func (c *Control) CreateFunction(ctx context.Context, name, sql string) error {
	if _, err := c.conn.Exec(ctx, sql); err != nil {
		return c.explainCreate(ctx, "function "+name, "a role that may CREATE in its schema", err)
	}
	return nil
}

// CreatePublication publishes the outbox tables. It must come before the slot: a
// slot cannot decode WAL from before its publication existed.
func (c *Control) CreatePublication(ctx context.Context, tables []Table) error {
	var names []string
	for _, t := range tables {
		if err := Refusal(checkStrays(t)); err != nil {
			return err
		}
		names = append(names, t.Outbox.Table)
	}
	sql, err := PublicationSQL(c.config, tables)
	if err != nil {
		return err
	}
	if _, err := c.conn.Exec(ctx, sql); err != nil {
		who := "a role with CREATE on the database"
		if len(names) > 0 {
			who = "the owner of table " + strings.Join(names, ", ") + ", who also needs CREATE on the database"
		}
		return c.explainCreate(ctx, "publication "+c.config.Publication, who, err)
	}
	return nil
}

// explainCreate adds the remedy where the operator has to run the statement.
func (c *Control) explainCreate(ctx context.Context, what, who string, err error) error {
	err = fmt.Errorf("create %s: %w", what, err)
	switch sqlState(err) {
	case "42501":
		if role, otherwise := c.RoleSetting(ctx); otherwise == nil && role != "" {
			err = fmt.Errorf("%w: the session acts as the user itself, not as %s, which this user's sessions usually become (SET role)", err, role)
		}
		return failure.Refuse(failure.Advise(err, "run `streamer setup` as %s, or let them run what `streamer setup --print` shows", who))
	case canceled:
		return failure.Advise(
			fmt.Errorf("%w: another session holds a lock that this waits for", err),
			"end that session or wait for it, then run `streamer setup` again",
		)
	case "25006":
		return failure.Misconfigure(
			failure.Advise(
				fmt.Errorf("%w: the server is a standby or read-only", err),
				"name the primary in postgres.dsn, or add target_session_attrs=read-write",
			),
		)
	case "3F000":
		return failure.Refuse(failure.Advise(err, "create the schema, or correct outbox.table"))
	}
	return err
}

// canceled is the SQLSTATE of a statement that Limit has ended.
const canceled = "57014"

func sqlState(err error) string {
	pgErr, _ := errors.AsType[*pgconn.PgError](err)
	if pgErr == nil {
		return ""
	}
	return pgErr.Code
}

// waitNotice is how long the creation of a slot may take before the caller is
// told what it waits for.
const waitNotice = time.Second

// CreateSlot creates the slot. It waits for all transactions that are writing,
// until the Limit. It calls waiting once a second with the oldest of these
// transactions.
func (c *Control) CreateSlot(ctx context.Context, failover bool, waiting func(Transaction)) error {
	started := time.Now()
	pid := c.conn.PgConn().PID()
	watching, stop := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		c.watchCreation(watching, pid, waiting)
	}()
	_, err := c.conn.Exec(ctx, SlotSQL(c.config, failover))
	stop()
	<-done
	if err != nil {
		return c.explainSlot(ctx, time.Since(started), err)
	}
	return nil
}

func (c *Control) explainSlot(ctx context.Context, waited time.Duration, err error) error {
	described := fmt.Errorf("create slot %q: %w", c.config.Slot, err)
	switch sqlState(err) {
	case canceled:
		oldest := "they have just ended"
		if t, found, lookErr := oldestTransaction(ctx, c, c.conn.PgConn().PID()); lookErr == nil && found {
			oldest = "the oldest is " + t.String()
		}
		return failure.Advise(
			fmt.Errorf("create slot %q: waited %s for running transactions to end: %s", c.config.Slot, waited.Round(time.Second), oldest),
			"end that transaction or wait for it, then run `streamer setup` again",
		)
	case "42501":
		return failure.Refuse(failure.Advise(described, "ALTER ROLE … REPLICATION (on Amazon RDS: GRANT rds_replication TO …)"))
	case "53400":
		return failure.Refuse(failure.Advise(
			described,
			"raise max_replication_slots and restart PostgreSQL, or drop an unused slot",
		))
	case "42883":
		return failure.Refuse(fmt.Errorf("%w: a failover slot needs PostgreSQL 17 or later", described))
	case "55000":
		return failure.Refuse(
			failure.Advise(
				fmt.Errorf("%w: a slot needs wal_level = 'logical'", described),
				"ALTER SYSTEM SET wal_level = 'logical' and restart PostgreSQL",
			),
		)
	}
	return described
}

// watchCreation uses its own connection to find out what the creation of the
// slot by pid waits for. An error costs only the notice.
func (c *Control) watchCreation(ctx context.Context, pid uint32, waiting func(Transaction)) {
	ticker := time.NewTicker(waitNotice)
	defer ticker.Stop()
	var second *Control
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if second == nil {
			var err error
			if second, err = Connect(ctx, c.config); err != nil {
				return
			}
			defer second.Close()
		}
		oldest, found, err := oldestTransaction(ctx, second, pid)
		if err != nil {
			return
		}
		if found {
			waiting(oldest)
		}
	}
}

// Transaction is a transaction that writes and for which the creation of a slot
// waits.
type Transaction struct {
	PID         int // 0: a prepared transaction
	Prepared    string
	User        string
	Database    string
	Application string
	// Age is how long it has been running; 0 where the role may not see that.
	Age time.Duration
}

func (t Transaction) String() string {
	who := fmt.Sprintf("of process %d (user %q, database %q, application %q)", t.PID, t.User, t.Database, t.Application)
	if t.PID == 0 {
		who = fmt.Sprintf("prepared as %q (user %q, database %q)", t.Prepared, t.User, t.Database)
	}
	if t.Age == 0 {
		return "a transaction " + who + ", running for a time that only members of pg_read_all_stats may see"
	}
	return fmt.Sprintf("a transaction %s, running for %s", who, t.Age.Round(time.Second))
}

// oldestTransaction finds writers by the lock that each holds on its own
// transaction ID, because pg_stat_activity hides backend_xid from most roles.
func oldestTransaction(ctx context.Context, c *Control, but uint32) (oldest Transaction, found bool, err error) {
	var seconds float64
	rows, err := c.conn.Query(ctx, `select * from (
			select l.pid, '' as gid, coalesce(a.usename::text, ''), coalesce(a.datname::text, ''), coalesce(a.application_name, ''),
				coalesce(extract(epoch from clock_timestamp() - a.xact_start), 0)::float8 as age
			from pg_locks l join pg_stat_activity a on a.pid = l.pid
			where l.locktype = 'transactionid' and l.mode = 'ExclusiveLock' and l.granted and l.pid <> $1
			union all
			select 0, gid, owner::text, database::text, '', extract(epoch from clock_timestamp() - prepared)::float8 from pg_prepared_xacts
		) writers order by age desc limit 1`, int(but))
	if err != nil {
		return oldest, false, fmt.Errorf("running transactions: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		found = true
		if err := rows.Scan(&oldest.PID, &oldest.Prepared, &oldest.User, &oldest.Database, &oldest.Application, &seconds); err != nil {
			return oldest, false, fmt.Errorf("running transactions: %w", err)
		}
	}
	oldest.Age = time.Duration(seconds * float64(time.Second))
	return oldest, found, rows.Err()
}
