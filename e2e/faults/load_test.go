package faults

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// schema is what the writers need. Column payload is json, not jsonb, so that
// its bytes in Kafka are the bytes that were inserted.
const schema = `
create table outbox (id uuid primary key, aggregatetype text not null, aggregateid text not null, type text not null, payload json);
create table aggregate (id text primary key, next_seq bigint not null default 0);
create table commits (token uuid primary key);`

// secretPayload is in every payload and must be in no log.
const secretPayload = "pAyL0ad-nobody-may-log"

const (
	writers  = 4
	pace     = 20 * time.Millisecond // pause of each writer after a transaction
	writerID = "faults-writer"       // application name
)

// aggregates that the writers write to. There are few, so that writers meet.
// One of them is hot, and some have odd names.
var aggregates = []string{
	"order/hot", "order/hot", "order/hot", "order/1", "order/2", "order/3", "order/ünï cödé / 4", "order/5",
	"invoice/1", "invoice/2", "invoice/3", "invoice/" + strings.Repeat("long", 50),
}

// aggregateTypes are the parts of aggregates before the slash.
var aggregateTypes = []string{"order", "invoice"}

// load is a set of concurrent writers. Each takes the sequence number of an
// aggregate under a row lock, so that numbers are assigned in commit order.
type load struct {
	dsn     func() string // called for each connection: a failover moves it
	journal *journal
	several bool // rows also go into another table, and into none
	stopped atomic.Bool
	running sync.WaitGroup
	numbers atomic.Int64 // transactions begun
}

// startLoad starts the writers; stop ends them.
func startLoad(ctx context.Context, dsn func() string, seed uint64, j *journal, several bool) *load {
	l := &load{dsn: dsn, journal: j, several: several}
	for i := range writers {
		w := &writer{load: l, random: rand.New(rand.NewPCG(seed, uint64(i)))}
		l.running.Go(func() { w.run(ctx) })
	}
	return l
}

// stop lets the writers finish their transactions and waits for them.
func (l *load) stop() {
	l.stopped.Store(true)
	l.running.Wait()
}

// more does n transactions after the writers have ended.
func (l *load) more(ctx context.Context, random *rand.Rand, n int) {
	w := &writer{load: l, random: random}
	defer w.disconnect(context.WithoutCancel(ctx))
	for range n {
		if w.connected(ctx) {
			w.transaction(ctx)
		}
	}
}

// writer is one of the writers. It is not safe for concurrent use.
type writer struct {
	load   *load
	random *rand.Rand
	conn   *pgx.Conn
}

func (w *writer) run(ctx context.Context) {
	ticker := time.NewTicker(pace)
	defer ticker.Stop()
	defer w.disconnect(context.WithoutCancel(ctx))
	for !w.load.stopped.Load() && ctx.Err() == nil {
		if w.connected(ctx) {
			w.transaction(ctx)
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
		}
	}
}

func (w *writer) connected(ctx context.Context) bool {
	if w.conn != nil && !w.conn.IsClosed() {
		return true
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	config, err := pgx.ParseConfig(w.load.dsn())
	if err != nil {
		return false
	}
	config.RuntimeParams["application_name"] = writerID
	config.RuntimeParams["statement_timeout"] = "30s"
	w.conn, err = pgx.ConnectConfig(ctx, config)
	return err == nil
}

func (w *writer) disconnect(ctx context.Context) {
	if w.conn != nil {
		_ = w.conn.Close(ctx)
	}
}

// transaction does one transaction of a random kind.
func (w *writer) transaction(ctx context.Context) { w.transact(ctx, w.fill) }

// transact does one transaction and records its outcome.
func (w *writer) transact(ctx context.Context, fill func(context.Context, pgx.Tx, *transaction) error) {
	ctx, cancel := context.WithTimeout(ctx, 60*time.Second)
	defer cancel()
	w.load.numbers.Add(1)
	t := &transaction{token: uuid.NewString()}
	tx, err := w.conn.Begin(ctx)
	if err != nil {
		w.disconnect(ctx)
		return
	}
	_, err = tx.Exec(ctx, "insert into commits values ($1)", t.token)
	if err == nil {
		err = fill(ctx, tx, t)
	}
	if err != nil {
		_ = tx.Rollback(ctx)
		w.load.journal.settle(t, rolledBack, 0)
		return
	}
	end := outcomeOf(tx.Commit(ctx))
	var upper lsn
	if end == committed {
		// Not known if the connection ends here. In that case resolve supplies
		// the end.
		_ = w.conn.QueryRow(ctx, "select pg_current_wal_insert_lsn() - '0/0'::pg_lsn").Scan(&upper)
	}
	w.load.journal.settle(t, end, upper)
}

// large commits one transaction of many rows of one aggregate.
func (l *load) large(ctx context.Context, seed uint64, rows int) {
	w := &writer{load: l, random: rand.New(rand.NewPCG(seed, writers))}
	defer w.disconnect(ctx)
	if w.connected(ctx) {
		w.transact(ctx, func(ctx context.Context, tx pgx.Tx, t *transaction) error {
			return w.copy(ctx, tx, t, "order/large", rows)
		})
	}
}

// outcomeOf interprets the answer to COMMIT.
func outcomeOf(err error) outcome {
	if err == nil {
		return committed
	}
	if errors.Is(err, pgx.ErrTxCommitRollback) || errors.Is(err, pgx.ErrTxClosed) {
		return rolledBack
	}
	if failed, ok := errors.AsType[*pgconn.PgError](err); ok && failed.Severity == "ERROR" {
		return rolledBack
	}
	return unknown
}

// errRollback makes a transaction end with ROLLBACK on purpose.
var errRollback = errors.New("rolled back on purpose")

// fill does the work of a transaction of a random kind.
func (w *writer) fill(ctx context.Context, tx pgx.Tx, t *transaction) error {
	switch dice := w.random.IntN(100); {
	case dice < 40:
		return w.insert(ctx, tx, t, w.aggregate(), 1, 0)
	case dice < 60:
		return w.several(ctx, tx, t)
	case dice < 70:
		return w.savepoint(ctx, tx, t)
	case dice < 80:
		return errors.Join(w.insert(ctx, tx, t, w.aggregate(), 1+w.random.IntN(5), 0), errRollback)
	case dice < 88:
		return w.copy(ctx, tx, t, w.aggregate(), 5+w.random.IntN(30))
	case dice < 91:
		return w.insert(ctx, tx, t, w.aggregate(), 1, 20_000+w.random.IntN(180_000))
	case dice < 95:
		return w.insertAndDelete(ctx, tx, t)
	default:
		return w.slow(ctx, tx, t)
	}
}

func (w *writer) aggregate() string { return aggregates[w.random.IntN(len(aggregates))] }

// several writes to some aggregates in the order of their names, so that no two
// transactions wait for each other.
func (w *writer) several(ctx context.Context, tx pgx.Tx, t *transaction) error {
	var names []string
	for range 2 + w.random.IntN(3) {
		names = append(names, w.aggregate())
	}
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		if err := w.insert(ctx, tx, t, name, 1+w.random.IntN(3), 0); err != nil {
			return err
		}
	}
	return nil
}

// savepoint keeps the inserts before and after a savepoint, and undoes those in
// between.
func (w *writer) savepoint(ctx context.Context, tx pgx.Tx, t *transaction) error {
	name := w.aggregate()
	if err := w.insert(ctx, tx, t, name, 1, 0); err != nil {
		return err
	}
	inner, err := tx.Begin(ctx)
	if err != nil {
		return err
	}
	before := len(t.events)
	if err := w.insert(ctx, inner, t, name, 2, 0); err != nil {
		return err
	}
	if err := inner.Rollback(ctx); err != nil {
		return err
	}
	w.load.journal.withdraw(t.events[before:])
	return w.insert(ctx, tx, t, name, 1, 0)
}

func (w *writer) insertAndDelete(ctx context.Context, tx pgx.Tx, t *transaction) error {
	if err := w.insert(ctx, tx, t, w.aggregate(), 2, 0); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, "delete from outbox where id = any($1::uuid[])", t.events)
	if err == nil && w.load.several {
		_, err = tx.Exec(ctx, `delete from other."Events" where "no" = any($1::uuid[])`, t.events)
	}
	return err
}

// slow stays open for a while, so that others commit between its rows.
func (w *writer) slow(ctx context.Context, tx pgx.Tx, t *transaction) error {
	names := []string{"order/slow", "order/slow-too"}
	for _, name := range names {
		if err := w.insert(ctx, tx, t, name, 1, 0); err != nil {
			return err
		}
		pause(ctx, time.Duration(w.random.IntN(150))*time.Millisecond)
	}
	return nil
}

// insert writes n rows of one aggregate, each with extra bytes of padding.
func (w *writer) insert(ctx context.Context, tx pgx.Tx, t *transaction, aggregate string, n, extra int) error {
	rows, err := w.rows(ctx, tx, t, aggregate, n, extra)
	if err != nil {
		return err
	}
	batch := &pgx.Batch{}
	for _, row := range rows {
		w.home(destinations).queue(batch, row)
	}
	return tx.SendBatch(ctx, batch).Close()
}

func (w *writer) copy(ctx context.Context, tx pgx.Tx, t *transaction, aggregate string, n int) error {
	rows, err := w.rows(ctx, tx, t, aggregate, n, 0)
	if err != nil {
		return err
	}
	table, columns := w.home(inNoTable).copyInto()
	_, err = tx.CopyFrom(ctx, table, columns, pgx.CopyFromRows(rows))
	return err
}

// rows takes sequence numbers and holds the aggregate's lock until the end of
// the transaction. It records the events and returns the values of their rows.
func (w *writer) rows(ctx context.Context, tx pgx.Tx, t *transaction, aggregate string, n, extra int) ([][]any, error) {
	var last int64
	err := tx.QueryRow(ctx, `insert into aggregate values ($1, $2)
		on conflict (id) do update set next_seq = aggregate.next_seq + $2 returning next_seq`, aggregate, n).Scan(&last)
	if err != nil {
		return nil, err
	}
	aggregateType, _, _ := strings.Cut(aggregate, "/")
	var rows [][]any
	for i := range n {
		e := &event{aggregate: aggregate, seq: last - int64(n-1-i), kind: "com.example." + aggregateType + ".changed", transaction: t}
		payload := fmt.Sprintf(`{"seq": %d,  "note": %q, "padding": %q}`, e.seq, secretPayload, strings.Repeat("x", w.random.IntN(200)+extra))
		e.sum = sha256.Sum256([]byte(payload))
		id := uuid.New()
		w.load.journal.note(id.String(), e)
		rows = append(rows, []any{id, aggregateType, aggregate, e.kind, payload})
	}
	return rows, nil
}

// pause waits, but no longer than ctx lasts. It is for the moments at which
// accidents happen, never for something that must happen.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
