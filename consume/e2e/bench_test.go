package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/semaphore"

	"github.com/outboxstream/streamer/consume"
	"github.com/outboxstream/streamer/consume/franzgroup"
	"github.com/outboxstream/streamer/internal/kafkatest"
	"github.com/outboxstream/streamer/internal/pgtest"
)

const (
	benchPartitions = 8
	benchKeys       = 1000
)

// bench is a topic, and a database that waits for its disk.
type bench struct {
	*testing.B
	brokers []string
	pool    *pgxpool.Pool
	topic   string
	sent    int
}

func newBench(b *testing.B) *bench {
	b.Helper()
	cluster := kafkatest.Shared(b)
	server := pgtest.New(b, pgtest.Options{Settings: map[string]string{"fsync": "on", "synchronous_commit": "on", "max_connections": "100"}})
	w := &bench{B: b, brokers: cluster.Brokers(), topic: kafkatest.TopicName(b)}
	require.NoError(b, cluster.CreateTopic(b.Context(), w.topic, benchPartitions, nil))
	config, err := pgxpool.ParseConfig(server.CreateDatabase(b))
	require.NoError(b, err)
	config.MaxConns = 20
	w.pool, err = pgxpool.NewWithConfig(b.Context(), config)
	require.NoError(b, err)
	b.Cleanup(w.pool.Close)
	w.exec(consume.Schema)
	return w
}

func (w *bench) exec(statement string) {
	w.Helper()
	_, err := w.pool.Exec(w.Context(), statement)
	require.NoError(w, err)
}

func (w *bench) client(options ...kgo.Opt) *kgo.Client {
	w.Helper()
	client, err := kgo.NewClient(append(options, kgo.SeedBrokers(w.brokers...), kgo.RecordPartitioner(kgo.ManualPartitioner()))...)
	require.NoError(w, err)
	return client
}

// next is one more event of the stream, of a key.
func (w *bench) next(key string) *kgo.Record {
	w.sent++
	r := record(consume.Home([]byte(key), benchPartitions), 0, key, w.sent)
	sent := &kgo.Record{Topic: w.topic, Partition: r.Partition, Key: r.Key}
	sent.Value, _ = json.Marshal(order{N: w.sent, Key: key})
	for _, h := range r.Headers {
		sent.Headers = append(sent.Headers, kgo.RecordHeader{Key: h.Name, Value: h.Value})
	}
	return sent
}

// apply is a handler.
func apply(ctx context.Context, tx pgx.Tx, e event.Event) error {
	var o order
	if err := e.DataAs(&o); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, entry, o.Key, o.N, e.ID())
	return err
}

func (w *bench) table() {
	w.Helper()
	w.exec("drop table if exists effect")
	w.exec("create table effect (number bigint generated always as identity, key text, n int, id text, at timestamptz default clock_timestamp())")
}

func (w *bench) await(n int) {
	w.Helper()
	for deadline := time.Now().Add(5 * time.Minute); ; time.Sleep(100 * time.Millisecond) {
		var handled int
		require.NoError(w, w.pool.QueryRow(w.Context(), "select count(*) from effect").Scan(&handled))
		if handled >= n {
			return
		}
		require.True(w, time.Now().Before(deadline), "%d of %d handled", handled, n)
	}
}

func (w *bench) config(name string) consume.Config {
	return consume.Config{Name: name, Group: name + w.topic, Topics: []string{w.topic}, Logger: slog.New(slog.DiscardHandler)}
}

// consume runs a consumer until the function that it returns is called.
func (w *bench) consume(config consume.Config, handle func(context.Context, pgx.Tx, event.Event) error) (stop func()) {
	w.Helper()
	consumer, err := consume.New(config, consume.PGX(w.pool, handle))
	require.NoError(w, err)
	ctx, cancel := context.WithCancel(w.Context())
	ended := make(chan error, 1)
	go func() { ended <- franzgroup.Run(ctx, consumer, kgo.SeedBrokers(w.brokers...)) }()
	return func() {
		cancel()
		require.NoError(w, <-ended)
	}
}

// plain does the same without an inbox: keys in parallel, each in order, as many
// transactions at once, as many events in each. It does not even commit offsets.
func (w *bench) plain(name string) (stop func()) {
	w.Helper()
	client := w.client(kgo.ConsumerGroup(name+w.topic), kgo.ConsumeTopics(w.topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.DisableAutoCommit())
	ctx, cancel := context.WithCancel(w.Context())
	p := &plain{pool: w.pool, slots: semaphore.NewWeighted(16), waiting: map[string][]consume.Record{}}
	p.running.Go(func() {
		for ctx.Err() == nil {
			for records := client.PollFetches(ctx).RecordIter(); !records.Done(); {
				p.add(ctx, records.Next())
			}
		}
	})
	return func() {
		cancel()
		p.running.Wait()
		client.Close()
		require.NoError(w, p.failure)
	}
}

type plain struct {
	pool    *pgxpool.Pool
	slots   *semaphore.Weighted
	running sync.WaitGroup

	mu      sync.Mutex
	waiting map[string][]consume.Record // by key; there is an entry while somebody works on it
	failure error
}

func (p *plain) add(ctx context.Context, r *kgo.Record) {
	converted := consume.Record{Topic: r.Topic, Partition: r.Partition, Offset: r.Offset, Timestamp: r.Timestamp, Key: r.Key, Value: r.Value}
	for _, h := range r.Headers {
		converted.Headers = append(converted.Headers, consume.Header{Name: h.Key, Value: h.Value})
	}
	key := string(r.Key)
	p.mu.Lock()
	defer p.mu.Unlock()
	_, busy := p.waiting[key]
	p.waiting[key] = append(p.waiting[key], converted)
	if !busy {
		p.running.Go(func() { p.work(ctx, key) })
	}
}

func (p *plain) work(ctx context.Context, key string) {
	for {
		p.mu.Lock()
		batch := p.waiting[key]
		batch = batch[:min(64, len(batch))]
		if len(batch) == 0 {
			delete(p.waiting, key)
			p.mu.Unlock()
			return
		}
		p.mu.Unlock()
		err := p.transact(ctx, batch)
		p.mu.Lock()
		p.waiting[key] = p.waiting[key][len(batch):]
		if err != nil && ctx.Err() == nil {
			p.failure = err
		}
		p.mu.Unlock()
		if err != nil {
			return
		}
	}
}

func (p *plain) transact(ctx context.Context, batch []consume.Record) error {
	if err := p.slots.Acquire(ctx, 1); err != nil {
		return err
	}
	defer p.slots.Release(1)
	return pgx.BeginFunc(ctx, p.pool, func(tx pgx.Tx) error {
		for _, r := range batch {
			e, err := r.Event()
			if err != nil {
				return err
			}
			if err := apply(ctx, tx, e); err != nil {
				return err
			}
		}
		return nil
	})
}

// BenchmarkInbox handles the same topic with and without the inbox, in turns:
//
//	go test -run '^$' -bench Inbox -benchtime 3x .
func BenchmarkInbox(b *testing.B) {
	const events = 100_000
	w := newBench(b)
	producer := w.client()
	records := make([]*kgo.Record, events)
	for n := range records {
		records[n] = w.next(fmt.Sprint("key-", n*7919%benchKeys))
	}
	require.NoError(b, producer.ProduceSync(b.Context(), records...).FirstErr())
	producer.Close()
	rates := map[string][]float64{}
	measure := func(name string, start func() (stop func())) {
		w.table()
		w.exec("checkpoint")
		begun := time.Now()
		stop := start()
		w.await(events)
		rates[name] = append(rates[name], events/time.Since(begun).Seconds())
		stop()
	}
	for n := 0; b.Loop(); n++ {
		measure("plain", func() func() { return w.plain(fmt.Sprint("plain", n)) })
		measure("inbox", func() func() { return w.consume(w.config(fmt.Sprint("inbox", n)), apply) })
	}
	b.Logf("events a second: %v", rates)
	b.ReportMetric(median(rates["plain"]), "plain/s")
	b.ReportMetric(median(rates["inbox"]), "inbox/s")
	b.ReportMetric(median(rates["inbox"])/median(rates["plain"]), "ratio")
	var claims, size int
	require.NoError(b, w.pool.QueryRow(b.Context(), "select count(*), pg_total_relation_size('inbox.claim') from inbox.claim").Scan(&claims, &size))
	b.Logf("in the end the ledger has %d rows, and takes %d KiB for %d events at most at once", claims, size>>10, events)
}

func median(all []float64) float64 {
	sorted := slices.Sorted(slices.Values(all))
	return sorted[len(sorted)/2]
}

// BenchmarkParkedKey measures how long events take, while nothing fails, and
// while a tenth of them, those of one key, cannot be handled:
//
//	go test -run '^$' -bench ParkedKey -benchtime 5x .
func BenchmarkParkedKey(b *testing.B) {
	const rate, events, broken = 1000, 10_000, "broken"
	w := newBench(b)
	w.table()
	producer := w.client(kgo.ProducerLinger(0))
	defer producer.Close()
	failing := false
	var mu sync.Mutex
	config := w.config("parked")
	config.Attempts, config.Backoff = 3, 20*time.Millisecond
	stop := w.consume(config, func(ctx context.Context, tx pgx.Tx, e event.Event) error {
		mu.Lock()
		fails := failing && e.Subject() == broken
		mu.Unlock()
		if fails {
			return errBroken
		}
		return apply(ctx, tx, e)
	})
	defer stop()
	p99 := map[bool][]float64{}
	phase := func(fails bool) {
		mu.Lock()
		failing = fails
		mu.Unlock()
		w.exec("truncate effect restart identity")
		sent := make(map[int]time.Time, events)
		begun := time.Now()
		others := 0
		for n := range events {
			if pause := time.Until(begun.Add(time.Duration(n) * time.Second / rate)); pause > 0 {
				time.Sleep(pause)
			}
			key := broken
			if n%10 > 0 {
				key = fmt.Sprint("key-", n*7919%benchKeys)
				others++
			}
			r := w.next(key)
			if key != broken {
				sent[w.sent] = time.Now()
			}
			producer.Produce(b.Context(), r, nil)
		}
		if !fails {
			others = events
		}
		w.await(others)
		p99[fails] = append(p99[fails], w.percentile(sent))
		if fails {
			_, err := consume.Ask(b.Context(), consume.PGX(w.pool, apply), "parked", w.topic, nil, consume.Release, "bench")
			require.NoError(b, err)
			mu.Lock()
			failing = false
			mu.Unlock()
			w.await(events)
		}
	}
	phase(false) // warm up
	clear(p99)
	for b.Loop() {
		phase(false)
		phase(true)
	}
	b.Logf("p99 in ms, without and with a parked key: %v %v", p99[false], p99[true])
	b.ReportMetric(median(p99[false]), "p99-ms")
	b.ReportMetric(median(p99[true]), "p99-parked-ms")
	b.ReportMetric(median(p99[true])/median(p99[false]), "ratio")
}

// percentile returns the 99th percentile of the time from an event's sending to
// its effect, in milliseconds.
func (w *bench) percentile(sent map[int]time.Time) float64 {
	w.Helper()
	rows, err := w.pool.Query(w.Context(), "select n, at from effect")
	require.NoError(w, err)
	var all []float64
	var n int
	var at time.Time
	_, err = pgx.ForEachRow(rows, []any{&n, &at}, func() error {
		if begun, measured := sent[n]; measured {
			all = append(all, float64(at.Sub(begun))/1e6)
		}
		return nil
	})
	require.NoError(w, err)
	slices.Sort(all)
	return all[len(all)*99/100]
}
