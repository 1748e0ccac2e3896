package checkpoint

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/internal/pgname"
	"github.com/outboxstream/streamer/internal/pgsession"
)

// PostgresStore keeps records in a table, one row for each Identity.Key, so
// that many streamers can share it. The bytes are stored as text: jsonb would
// reorder them and break the checksum.
//
// It has one connection, which is replaced after any failure on it. Its methods
// may be called from any goroutine. A context bounds each call, including the
// wait for the connection.
type PostgresStore struct {
	config *pgx.ConnConfig
	login  pgsession.Login
	table  pgx.Identifier
	where  string
	conn   chan *pgx.Conn // holds the connection, or nil, while it is not in use
	epoch  atomic.Int64   // of this store's claim
	// ensured tells that the table existed, and was writable.
	ensured bool
}

var _ Store = (*PostgresStore)(nil)

// closePatience is how long closing an abandoned connection may take.
const closePatience = 3 * time.Second

// OpenPostgres connects and makes sure that the table exists and is writable.
// table is a name as in package pgname, such as "public.streamer_checkpoint".
// The DSN may hold a password and appears in no error. login gives the password
// of each connection; nil: the DSN does.
func OpenPostgres(ctx context.Context, dsn string, login pgsession.Login, table string) (*PostgresStore, error) {
	s, err := ReadPostgres(dsn, login, table)
	if err == nil {
		err = s.use(ctx, s.ensure)
	}
	if err != nil {
		return nil, fmt.Errorf("checkpoint %s: %w", s.where, err)
	}
	s.ensured = true
	return s, nil
}

// ReadPostgres returns a store that is to be read only. It connects when it is
// used, and takes a table that does not exist for an empty one.
func ReadPostgres(dsn string, login pgsession.Login, table string) (*PostgresStore, error) {
	named, ok := pgname.Parse(table)
	s := &PostgresStore{
		login: login,
		table: pgx.Identifier{named.Schema, named.Name},
		where: fmt.Sprintf("table %q", named.String()),
		conn:  make(chan *pgx.Conn, 1),
	}
	s.conn <- nil
	if !ok {
		return s, failure.Misconfigure(fmt.Errorf("%q is not the name of a table", table))
	}
	var err error
	s.config, err = parseDSN(dsn)
	return s, err
}

// ensure prepares the upsert without running it, which shows whether table,
// columns, key and privileges are as needed. It creates the table only if it is
// missing: CREATE TABLE IF NOT EXISTS needs a privilege even when the table
// exists.
func (s *PostgresStore) ensure(ctx context.Context, conn *pgx.Conn) error {
	err := s.try(ctx, conn)
	if code(err) != undefinedTable {
		return err
	}
	_, err = conn.Exec(ctx, s.create())
	// Another streamer may create it at the same moment.
	atOnce := []string{uniqueViolation, duplicateObject, duplicateTable}
	if err != nil && !slices.Contains(atOnce, code(err)) {
		return s.explain(err)
	}
	return s.try(ctx, conn)
}

// try plans the upsert and does not run it.
func (s *PostgresStore) try(ctx context.Context, conn *pgx.Conn) error {
	_, err := conn.Exec(ctx, "EXPLAIN "+s.upsert("'', '', now(), 0"))
	return s.explain(err)
}

// Writable reports what keeps records from being saved, and changes nothing: not
// even a table that is missing is created.
func (s *PostgresStore) Writable(ctx context.Context) error {
	err := s.use(ctx, s.try)
	if code(err) == undefinedTable {
		return fmt.Errorf("%s does not exist: %w", s.where, ErrNone)
	}
	return err
}

// create includes a column that counts claims: a Save by an earlier claimant
// changes nothing.
func (s *PostgresStore) create() string {
	return "CREATE TABLE IF NOT EXISTS " + s.table.Sanitize() +
		" (key text PRIMARY KEY, record text NOT NULL, saved_at timestamptz NOT NULL, epoch bigint NOT NULL DEFAULT 0)"
}

func (s *PostgresStore) upsert(values string) string {
	return "INSERT INTO " + s.table.Sanitize() + " AS stored (key, record, saved_at, epoch) VALUES (" + values + ")" +
		" ON CONFLICT (key) DO UPDATE SET record = excluded.record, saved_at = excluded.saved_at WHERE stored.epoch = excluded.epoch"
}

// Load selects the row of the identity.
func (s *PostgresStore) Load(ctx context.Context, id Identity) (Record, error) {
	var stored string
	err := s.use(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		query := "SELECT record FROM " + s.table.Sanitize() + " WHERE key = $1"
		return s.explain(conn.QueryRow(ctx, query, id.Key()).Scan(&stored))
	})
	switch {
	case code(err) == undefinedTable && !s.ensured:
		return Record{}, fmt.Errorf("%s does not exist: %w", s.where, ErrNone)
	case errors.Is(err, pgx.ErrNoRows):
		return Record{}, fmt.Errorf("%s: %w", s.where, ErrNone)
	}
	if err != nil {
		return Record{}, fmt.Errorf("load checkpoint from %s: %w", s.where, err)
	}
	return Decode([]byte(stored), id, s.where)
}

// Former finds the record of the same slot under another name of its database.
func (s *PostgresStore) Former(ctx context.Context, id Identity) (Record, error) {
	var stored [][]byte
	err := s.use(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		rows, err := conn.Query(
			ctx,
			"SELECT record FROM "+s.table.Sanitize()+" WHERE right(key, length($1)) = $1 ORDER BY saved_at DESC",
			"/"+id.Slot,
		)
		if err == nil {
			stored, err = pgx.CollectRows(rows, pgx.RowTo[[]byte])
		}
		return s.explain(err)
	})
	if code(err) == undefinedTable && !s.ensured {
		return Record{}, fmt.Errorf("%s does not exist: %w", s.where, ErrNone)
	}
	if err != nil {
		return Record{}, fmt.Errorf("look for a checkpoint under another name in %s: %w", s.where, err)
	}
	return former(stored, id, s.where)
}

// Claim increments the row's epoch. If there is no row yet, the first Save
// creates it.
func (s *PostgresStore) Claim(ctx context.Context, id Identity) error {
	epoch := int64(0)
	err := s.use(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		claim := "UPDATE " + s.table.Sanitize() + " SET epoch = epoch + 1 WHERE key = $1 RETURNING epoch"
		return s.explain(conn.QueryRow(ctx, claim, id.Key()).Scan(&epoch))
	})
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return fmt.Errorf("claim checkpoint in %s: %w", s.where, err)
	}
	s.epoch.Store(epoch)
	return nil
}

// Save inserts or updates the row, and returns once the server has flushed it.
func (s *PostgresStore) Save(ctx context.Context, r Record) error {
	encoded, err := Encode(r)
	if err != nil {
		return err
	}
	err = s.use(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		done, err := conn.Exec(ctx, s.upsert("$1, $2, $3, $4"), r.Key(), string(encoded), r.SavedAt, s.epoch.Load())
		if err == nil && done.RowsAffected() == 0 {
			return ErrClaimed
		}
		return s.explain(err)
	})
	if err != nil {
		return fmt.Errorf("save checkpoint to %s: %w", s.where, err)
	}
	return nil
}

// use runs do on the connection. If do fails on an existing connection, use
// runs it once more on a fresh one, because a restart of the server shows only
// at the next use. Everything done here may be done twice.
func (s *PostgresStore) use(ctx context.Context, do func(context.Context, *pgx.Conn) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	var conn *pgx.Conn
	select {
	case conn = <-s.conn:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { s.conn <- conn }()

	if conn != nil {
		err := do(ctx, conn)
		if err == nil || errors.Is(err, pgx.ErrNoRows) {
			return err
		}
		drop(ctx, conn)
		conn = nil
		if ctx.Err() != nil {
			return err
		}
	}
	fresh, err := connect(ctx, s.config, s.login)
	if err != nil {
		return err
	}
	if err = do(ctx, fresh); err != nil && !errors.Is(err, pgx.ErrNoRows) {
		drop(ctx, fresh)
		return err
	}
	conn = fresh
	return err
}

// Close closes the connection. The store opens another one when it is used
// again.
func (s *PostgresStore) Close() error {
	conn := <-s.conn
	defer func() { s.conn <- nil }()
	if conn != nil {
		drop(context.Background(), conn)
	}
	return nil
}

// drop closes the connection cleanly if the server still listens. Nothing
// depends on it.
func drop(ctx context.Context, conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(ctx, closePatience)
	defer cancel()
	_ = conn.Close(ctx)
}

const (
	undefinedSchema       = "3F000"
	undefinedTable        = "42P01"
	undefinedColumn       = "42703"
	wrongType             = "42804"
	noUniqueKey           = "42P10"
	wrongObject           = "42809"
	uniqueViolation       = "23505"
	duplicateObject       = "42710"
	duplicateTable        = "42P07"
	insufficientPrivilege = "42501"
	readOnlyTransaction   = "25006"
)

// explain adds the remedy to the server's error.
func (s *PostgresStore) explain(err error) error {
	switch code(err) {
	case insufficientPrivilege:
		return failure.Refuse(failure.Advise(
			err,
			"let the table's owner or a superuser run: %s; GRANT USAGE ON SCHEMA %s TO %[3]s; GRANT SELECT, INSERT, UPDATE ON %[4]s TO %[3]s;",
			s.create(), s.table[:1].Sanitize(), pgx.Identifier{s.config.User}.Sanitize(), s.table.Sanitize(),
		))
	case undefinedSchema:
		return failure.Refuse(
			failure.Advise(
				err,
				"create the schema with CREATE SCHEMA %s;, or name another table in checkpoint.postgres.table", s.table[:1].Sanitize(),
			),
		)
	case undefinedTable:
		return failure.Refuse(
			failure.Advise(
				fmt.Errorf("%w: the checkpoint table existed and has been dropped", err),
				"restore the table from a backup, or start again and decide on a position with `streamer checkpoint set`",
			),
		)
	case undefinedColumn, wrongType, noUniqueKey, wrongObject:
		return failure.Refuse(failure.Advise(
			fmt.Errorf("%w: this is not a checkpoint table", err),
			"name another table in checkpoint.postgres.table",
		))
	case readOnlyTransaction:
		return failure.Advise(
			fmt.Errorf("%w: the server is a standby or read-only", err),
			"name the primary in the DSN, or add target_session_attrs=read-write",
		)
	}
	return err
}
