package consume

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Database is the database of a handler, with the handler. [PGX] and [SQL] make one.
type Database interface {
	// begin opens a transaction with the isolation level read committed.
	begin(ctx context.Context) (transaction, error)
	// query runs one statement outside of a transaction of the handler.
	query(ctx context.Context, each func(scan scanner) error, statement string, arguments ...any) error
}

type scanner func(targets ...any) error

// transaction is one in which events are handled. It ends with seal or abort.
type transaction interface {
	// row runs a statement and scans the row that it returns.
	row(ctx context.Context, statement string, arguments, targets []any) error
	// handle calls the handler.
	handle(ctx context.Context, e event.Event) error
	// open reports whether the handler has left the transaction open.
	open() bool
	// seal commits, if the transaction is still the one with this number.
	seal(ctx context.Context, number string, guarded bool) error
	// abort rolls back. It does nothing after a commit.
	abort(ctx context.Context)
}

// errHandlerEnded is what a handler gets that tries to end the transaction.
var errHandlerEnded error = &Advice{
	Err:    errors.New("the handler has ended the transaction of the inbox"),
	Remedy: "leave COMMIT and ROLLBACK to the inbox: return nil to commit, or an error to roll back; savepoints are allowed",
}

// PGX lets a handler change a database through pgx. What it writes with tx is
// committed together with the note that the event is handled. It must not keep tx.
func PGX(pool *pgxpool.Pool, handle func(ctx context.Context, tx pgx.Tx, e event.Event) error) Database {
	return &pgxDatabase{pool: pool, handler: handle}
}

type pgxDatabase struct {
	pool    *pgxpool.Pool
	handler func(ctx context.Context, tx pgx.Tx, e event.Event) error
}

func (d *pgxDatabase) begin(ctx context.Context) (transaction, error) {
	conn, err := d.pool.Acquire(ctx)
	if err != nil {
		return nil, err
	}
	tx, err := conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.ReadCommitted, AccessMode: pgx.ReadWrite})
	if err != nil {
		conn.Release()
		return nil, err
	}
	return &pgxTransaction{conn: conn, tx: tx, handler: d.handler}, nil
}

func (d *pgxDatabase) query(ctx context.Context, each func(scanner) error, statement string, arguments ...any) error {
	rows, err := d.pool.Query(ctx, statement, arguments...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := each(rows.Scan); err != nil {
			return err
		}
	}
	return rows.Err()
}

type pgxTransaction struct {
	conn    *pgxpool.Conn
	tx      pgx.Tx
	handler func(ctx context.Context, tx pgx.Tx, e event.Event) error
	ended   bool
}

func (t *pgxTransaction) row(ctx context.Context, statement string, arguments, targets []any) error {
	return t.tx.QueryRow(ctx, statement, arguments...).Scan(targets...)
}

func (t *pgxTransaction) handle(ctx context.Context, e event.Event) error {
	return t.handler(ctx, lentPGX{t.tx}, e)
}

func (t *pgxTransaction) open() bool {
	return t.conn.Conn().PgConn().TxStatus() != 'I'
}

// seal takes one round trip for both statements.
func (t *pgxTransaction) seal(ctx context.Context, number string, guarded bool) error {
	statements := "commit"
	if guarded {
		statements = "select inbox.seal('" + number + "'); commit"
	}
	results, err := t.conn.Conn().PgConn().Exec(ctx, statements).ReadAll()
	if err != nil {
		return err
	}
	if tag := results[len(results)-1].CommandTag; tag.String() != "COMMIT" {
		return fmt.Errorf("%w: the server rolled back although nothing had failed", pgx.ErrTxCommitRollback)
	}
	t.ended = true
	t.conn.Release()
	return nil
}

func (t *pgxTransaction) abort(ctx context.Context) {
	if t.ended {
		return
	}
	t.ended = true
	// An error closes the connection, which rolls back as well.
	_ = t.tx.Rollback(context.WithoutCancel(ctx))
	t.conn.Release()
}

// lentPGX is a transaction that its borrower cannot end.
type lentPGX struct{ pgx.Tx }

func (lentPGX) Commit(context.Context) error   { return errHandlerEnded }
func (lentPGX) Rollback(context.Context) error { return errHandlerEnded }

// SQL lets a handler change a PostgreSQL database through database/sql, with any
// driver. What it writes with tx is committed together with the note that the
// event is handled. It must not keep tx, nor end it: that fails, and nothing is
// committed.
func SQL(db *sql.DB, handle func(ctx context.Context, tx *sql.Tx, e event.Event) error) Database {
	return &sqlDatabase{db: db, handler: handle}
}

type sqlDatabase struct {
	db      *sql.DB
	handler func(ctx context.Context, tx *sql.Tx, e event.Event) error
}

func (d *sqlDatabase) begin(ctx context.Context) (transaction, error) {
	// The context of BeginTx would roll back when it ends, also in the middle of a commit.
	tx, err := d.db.BeginTx(context.WithoutCancel(ctx), &sql.TxOptions{Isolation: sql.LevelReadCommitted})
	if err != nil {
		return nil, err
	}
	return &sqlTransaction{tx: tx, handler: d.handler, alive: true}, nil
}

func (d *sqlDatabase) query(ctx context.Context, each func(scanner) error, statement string, arguments ...any) error {
	rows, err := d.db.QueryContext(ctx, statement, arguments...)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		if err := each(rows.Scan); err != nil {
			return err
		}
	}
	return rows.Err()
}

type sqlTransaction struct {
	tx      *sql.Tx
	handler func(ctx context.Context, tx *sql.Tx, e event.Event) error
	alive   bool
}

func (t *sqlTransaction) row(ctx context.Context, statement string, arguments, targets []any) error {
	return t.tx.QueryRowContext(ctx, statement, arguments...).Scan(targets...)
}

func (t *sqlTransaction) handle(ctx context.Context, e event.Event) error {
	return t.handler(ctx, t.tx, e)
}

// open cannot ask the server without a round trip. The seal does.
func (t *sqlTransaction) open() bool { return t.alive }

func (t *sqlTransaction) seal(ctx context.Context, number string, guarded bool) error {
	if guarded {
		if _, err := t.tx.ExecContext(ctx, "select inbox.seal($1)", number); err != nil {
			if errors.Is(err, sql.ErrTxDone) {
				return errHandlerEnded
			}
			return err
		}
	}
	t.alive = false
	err := t.tx.Commit()
	if errors.Is(err, sql.ErrTxDone) {
		return errHandlerEnded
	}
	return err
}

func (t *sqlTransaction) abort(context.Context) {
	if t.alive {
		t.alive = false
		_ = t.tx.Rollback()
	}
}

// sqlState returns the SQLSTATE of an error, or "". Other drivers than pgx have
// a method of this name, too.
func sqlState(err error) string {
	if failed, found := errors.AsType[*pgconn.PgError](err); found {
		return failed.Code
	}
	var other interface{ SQLState() string }
	if errors.As(err, &other) {
		return other.SQLState()
	}
	return ""
}
