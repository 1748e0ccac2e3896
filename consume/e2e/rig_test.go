package e2e

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/consume"
	"github.com/outboxstream/streamer/internal/pgtest"
)

const topic = "orders"

// world is a consumer without Kafka: tests assign partitions and deliver records
// as an adapter would.
type world struct {
	*testing.T
	dsn  string
	pool *pgxpool.Pool

	mu         sync.Mutex
	partitions int32
	oldest     map[int32]int64
	ends       map[int32]int64 // offsets after the last record; unknown partitions have none
	markers    map[int32]int64 // how many of the last offsets are markers
	committed  map[int32]int64
	break_     func(e event.Event) error // what the handler returns
}

func newWorld(t *testing.T, partitions int32) *world {
	w := &world{
		T: t, dsn: pgtest.Shared(t).CreateDatabase(t), partitions: partitions,
		oldest: map[int32]int64{}, markers: map[int32]int64{}, ends: map[int32]int64{}, committed: map[int32]int64{},
	}
	var err error
	w.pool, err = pgxpool.New(t.Context(), w.dsn)
	require.NoError(t, err)
	t.Cleanup(w.pool.Close)
	w.exec(consume.Schema)
	w.exec("create table effect (number bigint generated always as identity, key text, id text, source text)")
	return w
}

func (w *world) exec(statement string, arguments ...any) {
	w.Helper()
	_, err := w.pool.Exec(w.Context(), statement, arguments...)
	require.NoError(w, err)
}

func (w *world) count(query string, arguments ...any) (n int) {
	w.Helper()
	require.NoError(w, w.pool.QueryRow(w.Context(), query, arguments...).Scan(&n))
	return n
}

// ids returns the handled events in the order in which they were handled.
func (w *world) ids() []string {
	w.Helper()
	rows, err := w.pool.Query(w.Context(), "select id from effect order by number")
	require.NoError(w, err)
	all, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(w, err)
	return all
}

func (w *world) setBreak(f func(e event.Event) error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.break_ = f
}

func (w *world) fault(e event.Event) error {
	w.mu.Lock()
	f := w.break_
	w.mu.Unlock()
	if f == nil {
		return nil
	}
	return f(e)
}

const effect = "insert into effect (key, id, source) values ($1, $2, $3)"

func (w *world) pgx() consume.Database {
	return consume.PGX(w.pool, func(ctx context.Context, tx pgx.Tx, e event.Event) error {
		if _, err := tx.Exec(ctx, effect, e.Subject(), e.ID(), e.Source()); err != nil {
			return err
		}
		return w.fault(e)
	})
}

func (w *world) sql() consume.Database {
	db, err := sql.Open("pgx", w.dsn)
	require.NoError(w, err)
	w.Cleanup(func() { assert.NoError(w, db.Close()) })
	return consume.SQL(db, func(ctx context.Context, tx *sql.Tx, e event.Event) error {
		if _, err := tx.ExecContext(ctx, effect, e.Subject(), e.ID(), e.Source()); err != nil {
			return err
		}
		return w.fault(e)
	})
}

// Partitions, Oldest, End and Holds make it a consume.Client.
func (w *world) Partitions(context.Context, string) (int32, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.partitions, nil
}

func (w *world) Oldest(_ context.Context, _ string, partition int32) (int64, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.oldest[partition], nil
}

func (w *world) End(_ context.Context, _ string, partition int32) (int64, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.ends[partition], nil
}

func (w *world) Holds(_ context.Context, _ string, partition int32, from, until int64) (bool, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return from < min(until, w.ends[partition]-w.markers[partition]), nil
}

// run is a running instance of a consumer.
type run struct {
	*world
	consumer *consume.Consumer
	stop     context.CancelFunc
	ended    chan error
	ctx      context.Context
}

func (w *world) config() consume.Config {
	return consume.Config{
		Name: "billing", Group: "billing", Topics: []string{topic}, Backoff: time.Millisecond, CommitEvery: 5 * time.Millisecond,
		Logger: slog.New(slog.NewTextHandler(w.Output(), &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
}

func (w *world) start(config consume.Config, database consume.Database) *run {
	w.Helper()
	consumer, err := consume.New(config, database)
	require.NoError(w, err)
	ctx, stop := context.WithCancel(w.Context())
	r := &run{world: w, consumer: consumer, stop: stop, ended: make(chan error, 1), ctx: ctx}
	begun := make(chan struct{})
	go func() {
		r.ended <- consumer.Run(ctx, w, func(ctx context.Context) error {
			close(begun)
			<-ctx.Done()
			return nil
		})
	}()
	select {
	case <-begun:
	case err := <-r.ended:
		require.NoError(w, err)
	}
	w.Cleanup(stop)
	return r
}

// failure waits until the consumer has ended, and returns why.
func (r *run) failure() error {
	r.Helper()
	select {
	case err := <-r.ended:
		return err
	case <-time.After(20 * time.Second):
		r.Fatal("the consumer goes on")
		return nil
	}
}

func (r *run) assign(partition int32) *consume.Partition {
	r.Helper()
	p, _ := r.assignAt(partition)
	return p
}

func (r *run) assignAt(partition int32) (p *consume.Partition, start int64) {
	r.Helper()
	r.mu.Lock()
	committed, known := r.committed[partition]
	r.mu.Unlock()
	if !known {
		committed = -1
	}
	p, start, err := r.consumer.Assign(r.ctx, topic, partition, committed, func(next int64) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.committed[partition] = next
	})
	require.NoError(r, err)
	return p, start
}

func (r *run) deliver(p *consume.Partition, records ...consume.Record) {
	r.Helper()
	for _, record := range records {
		require.NoError(r, p.Deliver(r.ctx, record))
	}
}

// close ends a partition as a rebalance does, and waits for what it has.
func (r *run) close(p *consume.Partition) {
	r.Helper()
	require.NoError(r, p.Close(r.ctx))
}

// handle delivers records to a partition of a fresh instance, waits until all are
// settled, and stops it.
func (w *world) handle(partition int32, records ...consume.Record) {
	w.Helper()
	r := w.start(w.config(), w.pgx())
	p := r.assign(partition)
	r.deliver(p, records...)
	r.settled(partition, records[len(records)-1].Offset+1)
	r.close(p)
	r.stop()
	require.NoError(w, r.failure())
}

// settled waits until an offset is committed.
func (r *run) settled(partition int32, next int64) {
	r.Helper()
	r.eventually(fmt.Sprintf("partition %d is handled up to %d", partition, next), func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.committed[partition] >= next
	})
}

func (w *world) eventually(what string, condition func() bool) {
	w.Helper()
	require.Eventually(w, condition, 20*time.Second, 2*time.Millisecond, what)
}

// record is an event of the stream, as the streamer writes it.
func record(partition int32, offset int64, key string, sequence int, more ...consume.Header) consume.Record {
	return foreign(partition, offset, key, fmt.Sprint("e", sequence), append([]consume.Header{
		{Name: "streamer-stream", Value: []byte("00000000000000aa")},
		{Name: "ce_sequence", Value: fmt.Appendf(nil, "%016x-00000000", sequence)},
	}, more...)...)
}

// foreign is an event of another producer.
func foreign(partition int32, offset int64, key, id string, more ...consume.Header) consume.Record {
	return consume.Record{
		Topic: topic, Partition: partition, Offset: offset, Key: []byte(key), Value: []byte(`{}`), Timestamp: time.UnixMilli(1),
		Headers: append([]consume.Header{
			{Name: "ce_specversion", Value: []byte("1.0")}, {Name: "ce_id", Value: []byte(id)}, {Name: "ce_source", Value: []byte("/shop")},
			{Name: "ce_type", Value: []byte("t")}, {Name: "ce_time", Value: []byte("2026-12-01T00:00:00Z")},
			{Name: "ce_subject", Value: []byte(key)}, {Name: "content-type", Value: []byte("application/json")},
		}, more...),
	}
}

var errBroken = errors.New("the handler is broken")
