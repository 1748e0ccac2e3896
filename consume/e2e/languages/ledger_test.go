package languages

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/consume"
	"github.com/outboxstream/streamer/internal/kafkatest"
	"github.com/outboxstream/streamer/internal/pgtest"
)

// patience bounds every wait for something that must happen.
const patience = 5 * time.Minute

// ledger is a database in which a program books the events of a topic.
type ledger struct {
	*testing.T
	in      language
	folder  string // of the program
	kafka   *kafkatest.Cluster
	dsn     string
	db      *pgx.Conn
	group   string
	topic   string
	log     *os.File // of all instances
	started int
}

func newLedger(t *testing.T, kafka *kafkatest.Cluster, in language) *ledger {
	t.Helper()
	name := kafkatest.TopicName(t)
	l := &ledger{
		T: t, in: in, folder: in.built(t), kafka: kafka, dsn: pgtest.Shared(t).CreateDatabase(t),
		group: "group-" + name, topic: name + ".order",
	}
	l.log = logFile(t, "the instances")
	l.db = connect(t, l.dsn)
	tables, err := os.ReadFile(filepath.Join(examples, "ledger.sql"))
	require.NoError(t, err)
	run(t, l.db, consume.Schema)
	run(t, l.db, string(tables))
	return l
}

// logFile returns a file for what processes say, which is shown if the test fails.
func logFile(t *testing.T, of string) *os.File {
	t.Helper()
	file, err := os.OpenFile(filepath.Join(t.TempDir(), "log"), os.O_CREATE|os.O_APPEND|os.O_RDWR, 0o600)
	require.NoError(t, err)
	t.Cleanup(func() {
		text, _ := os.ReadFile(file.Name())
		_ = file.Close()
		if t.Failed() {
			t.Logf("%s said:\n%s", of, text[max(0, len(text)-6000):])
		}
	})
	return file
}

func connect(t *testing.T, dsn string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(t.Context())) })
	return conn
}

func run(t *testing.T, conn *pgx.Conn, statement string, arguments ...any) {
	t.Helper()
	_, err := conn.Exec(t.Context(), statement, arguments...)
	require.NoError(t, err)
}

func number(t *testing.T, conn *pgx.Conn, query string) (n int) {
	t.Helper()
	require.NoError(t, conn.QueryRow(t.Context(), query).Scan(&n))
	return n
}

const entries = "select count(*) from entry"

func (l *ledger) eventually(what string, condition func() bool) {
	l.Helper()
	require.Eventually(l, condition, patience, 50*time.Millisecond, what)
}

// write inserts rows until stop is closed: random keys, some rows too large for
// the topic, and some transactions rolled back.
func write(ctx context.Context, dsn string, stop <-chan struct{}, pause time.Duration) error {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	for first := true; ; first = false {
		select {
		case <-stop:
			return nil
		case <-time.After(pause):
		}
		tx, err := conn.Begin(ctx)
		if err != nil {
			return err
		}
		for range 1 + rand.IntN(4) {
			pad := 0
			if first || rand.IntN(500) == 0 {
				pad = 40_000
			}
			if _, err := tx.Exec(ctx, insertRow, fmt.Sprint("key-", rand.IntN(30)), rand.IntN(200)-100, pad); err != nil {
				return err
			}
		}
		end := tx.Commit
		if !first && rand.IntN(20) == 0 {
			end = tx.Rollback
		}
		if err := end(ctx); err != nil {
			return err
		}
	}
}

const insertRow = `insert into outbox (aggregatetype, aggregateid, type, payload) values ('order', $1::text, 'booked',
	jsonb_build_object('account', $1::text, 'amount', $2::int, 'pad', (select string_agg(chr(97 + (random() * 25)::int), '')
	from generate_series(1, $3::int))))`

// records returns what is in the topic.
func (l *ledger) records() []*sarama.ConsumerMessage {
	l.Helper()
	records, err := l.kafka.Consume(l.Context(), l.topic)
	require.NoError(l, err)
	return records
}

// caughtUp reports whether the group has committed that it has handled records.
func (l *ledger) caughtUp(records []*sarama.ConsumerMessage) bool {
	l.Helper()
	admin, err := l.kafka.Admin()
	require.NoError(l, err)
	defer admin.Close()
	next := map[int32]int64{}
	for _, r := range records {
		next[r.Partition] = max(next[r.Partition], r.Offset+1)
	}
	var partitions []int32
	for p := range next {
		partitions = append(partitions, p)
	}
	offsets, err := admin.ListConsumerGroupOffsets(l.group, map[string][]int32{l.topic: partitions})
	require.NoError(l, err)
	for p, end := range next {
		if block := offsets.GetBlock(l.topic, p); block == nil || block.Offset < end {
			return false
		}
	}
	return true
}

func header(r *sarama.ConsumerMessage, name string) string {
	for _, h := range r.Headers {
		if string(h.Key) == name {
			return string(h.Value)
		}
	}
	return ""
}

// audit compares the outbox with the entries. It looks at nothing that the inbox
// has written. It returns what it has found, for people.
func (l *ledger) audit(outbox *pgx.Conn) string {
	l.Helper()
	late, records := map[string]bool{}, l.records()
	for _, r := range records {
		if header(r, "streamer-replay") == "dead-letter" {
			late[header(r, "ce_id")] = true
		}
	}
	type event struct {
		Place   int
		Account string
		Amount  int64
	}
	written, balances := map[string]event{}, map[string]int64{}
	rows, err := outbox.Query(l.Context(), "select id::text, number, aggregateid, (payload->>'amount')::bigint from outbox")
	require.NoError(l, err)
	var id string
	var e event
	_, err = pgx.ForEachRow(rows, []any{&id, &e.Place, &e.Account, &e.Amount}, func() error {
		written[id] = e
		balances[e.Account] += e.Amount
		return nil
	})
	require.NoError(l, err)

	booked, last := map[string]bool{}, map[string]int{}
	var doubled, disordered, foreign int
	rows, err = l.db.Query(l.Context(), "select event, account, amount from entry order by number")
	require.NoError(l, err)
	_, err = pgx.ForEachRow(rows, []any{&id, &e.Account, &e.Amount}, func() error {
		row, known := written[id]
		if !known || row.Account != e.Account || row.Amount != e.Amount {
			foreign++
		}
		if booked[id] {
			doubled++
		}
		booked[id] = true
		if late[id] {
			return nil
		}
		if row.Place <= last[e.Account] {
			disordered++
		}
		last[e.Account] = row.Place
		return nil
	})
	require.NoError(l, err)
	lost := len(written) - len(booked)

	found := map[string]int64{}
	rows, err = l.db.Query(l.Context(), "select name, balance from account")
	require.NoError(l, err)
	var balance int64
	_, err = pgx.ForEachRow(rows, []any{&id, &balance}, func() error {
		found[id] = balance
		return nil
	})
	require.NoError(l, err)

	assert.Zero(l, lost, "lost")
	assert.Zero(l, doubled, "doubled")
	assert.Zero(l, disordered, "out of order")
	assert.Zero(l, foreign, "not of the outbox")
	assert.Equal(l, balances, found)
	assert.NotEmpty(l, late, "no dead letter was published late")
	repeats := strings.Count(said(l.T, l.log), "repeat "+l.topic)
	return fmt.Sprintf("%d rows, %d records, %d dead letters published late, %d repeats seen: "+
		"%d lost, %d doubled, %d out of order, %d balances",
		len(written), len(records), len(late), repeats, lost, doubled, disordered, len(balances))
}
