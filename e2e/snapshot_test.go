package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/internal/kafkatest"
	"github.com/outboxstream/streamer/internal/testserver"
)

// oldTable is an outbox that had rows before its slot.
const oldTable = `create table outbox (
	id uuid primary key default gen_random_uuid(),
	aggregatetype text, aggregateid text, type text, payload jsonb, created_at timestamptz not null default clock_timestamp());
	create index on outbox (created_at)`

var initialSnapshot = []string{"snapshot.mode=initial", "snapshot.order_by=created_at"}

// newSnapshotRig has a table with rows from before the slot: numbers below n, in
// the order of created_at, over 100 aggregates. clock_timestamp() at the insert
// of later rows is after all of them.
func newSnapshotRig(t *testing.T, rows int, options ...option) *rig {
	t.Helper()
	r := newRig(t, "", append([]option{withConfig(initialSnapshot...)}, options...)...)
	r.exec(oldTable)
	r.exec("create publication streamer for table outbox with (publish = 'insert')")
	r.exec(`insert into outbox (aggregatetype, aggregateid, type, payload, created_at)
		select 'order', 'o' || n % 100, 't', jsonb_build_object('n', n), now() - ($1::int - n) * interval '1 millisecond' - interval '1 minute'
		from generate_series(0, $1::int - 1) n`, rows)
	r.exec("analyze outbox")
	r.exec("select pg_create_logical_replication_slot($1, 'pgoutput')", r.slot)
	return r
}

// writeLive commits rows, numbered from first on, until stop is called. stop
// returns the number after the last.
func (r *rig) writeLive(first int) (stop func() int) {
	conn := r.open()
	quit, done := make(chan struct{}), make(chan error, 1)
	n := first
	go func() {
		var err error
		pace := time.NewTicker(time.Millisecond)
		defer pace.Stop()
		for err == nil {
			select {
			case <-quit:
				done <- nil
				return
			case <-pace.C:
			}
			_, err = conn.Exec(r.t.Context(), "insert into outbox (aggregatetype, aggregateid, type, payload) "+
				"values ('order', $1, 't', jsonb_build_object('n', $2::int))", fmt.Sprint("o", n%100), n)
			n++
		}
		done <- err
	}()
	var once sync.Once
	return func() int {
		once.Do(func() {
			close(quit)
			require.NoError(r.t, <-done)
		})
		return n
	}
}

// seam audits a topic: every number below end once, in order for each key, in
// each partition the old rows first, and sequences that grow.
func (r *rig) seam(old, end int) {
	r.t.Helper()
	a := &seamAudit{t: r.t, streaming: map[int32]bool{}, sequence: map[int32]string{}, number: map[string]int{}}
	reader := kafkatest.NewReader(r.kafka, r.topic("order"))
	defer func() { _ = reader.Close() }()
	require.NoError(r.t, reader.Read(r.t.Context(), a.add))
	require.Equal(r.t, old, a.marked)
	require.Equal(r.t, end, a.published)
}

// seamAudit reads millions of records, so it keeps none of them.
type seamAudit struct {
	t                 *testing.T
	published, marked int
	mark, first       string           // of the snapshot, and of its sequences
	streaming         map[int32]bool   // by partition
	sequence          map[int32]string // the last, by partition
	number            map[string]int   // the last, by key
}

func (a *seamAudit) add(m *sarama.ConsumerMessage) {
	a.published++
	var payload struct{ N int }
	require.NoError(a.t, json.Unmarshal(m.Value, &payload))
	key := string(m.Key)
	if last, seen := a.number[key]; seen && payload.N <= last {
		require.Greater(a.t, payload.N, last, "in order, and none twice: "+key)
	}
	a.number[key] = payload.N
	sequence, mark := header(m, "ce_sequence"), header(m, "ce_snapshot")
	if sequence <= a.sequence[m.Partition] {
		require.Greater(a.t, sequence, a.sequence[m.Partition])
	}
	a.sequence[m.Partition] = sequence
	if mark == "" {
		a.streaming[m.Partition] = true
		return
	}
	a.marked++
	if a.mark == "" {
		a.mark, a.first = mark, sequence[:16]
	}
	if a.streaming[m.Partition] || mark != a.mark || sequence[:16] != a.first || header(m, "streamer-snapshot-key") == "" {
		require.Failf(a.t, "an old row that is not before the stream, or not marked like the others",
			"%s %s at %d/%d", mark, sequence, m.Partition, m.Offset)
	}
}

// snapshotState is what `streamer status` says.
type snapshotState struct {
	Rows     int64     `json:"rows"`
	Expected int64     `json:"rows_expected"`
	Finished time.Time `json:"finished"`
	Left     *float64  `json:"seconds_left"`
}

func (r *rig) snapshotState() *snapshotState {
	r.t.Helper()
	out, _ := r.run("status", "--json")
	var s struct{ Snapshot *snapshotState }
	require.NoError(r.t, json.NewDecoder(bytes.NewReader(out)).Decode(&s), string(out))
	return s.Snapshot
}

// run runs a command that ends, and returns its output and exit code.
func (r *rig) run(command ...string) (out []byte, code int) {
	r.t.Helper()
	p := r.startWith(command)
	code = p.code()
	return []byte(p.log.String()), code
}

func TestSnapshot(t *testing.T) {
	t.Parallel()
	const old = 5000
	r := newSnapshotRig(t, old, withConfig("snapshot.chunk_rows=700"))
	stop := r.writeLive(old)
	p := r.startReady()
	p.logged("snapshot finished: the stream begins")
	end := stop()
	r.confirmed(p)
	r.seam(old, end)
	state := r.snapshotState()
	require.NotNil(t, state)
	assert.EqualValues(t, old, state.Rows)
	assert.False(t, state.Finished.IsZero())
	require.Zero(t, p.stop())

	p = r.startReady() // never again
	r.insert("order", "o1", "t", fmt.Sprintf(`{"n": %d}`, end))
	r.confirmed(p)
	r.seam(old, end+1)
	out, code := r.run("verify")
	assert.Zero(t, code, string(out))
}

// TestSnapshotKilledAgainAndAgain kills a snapshot at random moments, while rows
// are written, and while rows that are published are deleted.
func TestSnapshotKilledAgainAndAgain(t *testing.T) {
	t.Parallel()
	for _, store := range []string{"kafka", "postgres"} {
		t.Run(store, func(t *testing.T) {
			t.Parallel()
			if store == "kafka" {
				testserver.Long(t)
			}
			const old = 60_000
			r := newSnapshotRig(t, old, withStore(store), withConfig("snapshot.rate=20000", "snapshot.chunk_rows=4000"))
			snapshotKilled(t, r, old, 10, 300*time.Millisecond)
		})
	}
}

// TestSnapshotOfMillions is the same in the size that is promised:
//
//	STREAMER_LONG=1 go test ./e2e -run TestSnapshotOfMillions -timeout 60m
func TestSnapshotOfMillions(t *testing.T) {
	testserver.Long(t)
	old, kills := 10_000_000, 50
	if n, err := strconv.Atoi(os.Getenv("STREAMER_SNAPSHOT_ROWS")); err == nil {
		old = n
	}
	r := newSnapshotRig(t, old)
	snapshotKilled(t, r, old, kills, 500*time.Millisecond)
}

// TestSnapshotWithAFullSlot has more rows in the slot than are remembered, with
// times among those of the old rows: the first start comes long after setup.
func TestSnapshotWithAFullSlot(t *testing.T) {
	testserver.Long(t)
	const old, waiting = 200_000, 1_000_000
	r := newSnapshotRig(t, old)
	const batch = waiting / 20
	for n := old; n < old+waiting; n += batch {
		r.exec(`insert into outbox (aggregatetype, aggregateid, type, payload, created_at)
			select 'order', 'o' || n % 100, 't', jsonb_build_object('n', n), now() - random() * interval '200 seconds' - interval '1 minute'
			from generate_series($1::int, $2::int - 1) n`, n, n+batch)
	}
	p := r.start()
	deadline := time.Now().Add(5 * time.Minute)
	for !strings.Contains(p.log.String(), "snapshot finished") && time.Now().Before(deadline) {
		time.Sleep(50 * time.Millisecond)
	}
	peak := p.peak()
	t.Logf("peak %d MiB", peak>>10)
	assert.LessOrEqual(t, peak, 64<<10)
	r.confirmed(p)
	r.seam(old, old+waiting)
}

func snapshotKilled(t *testing.T, r *rig, old, kills int, pause time.Duration) {
	t.Helper()
	stop := r.writeLive(old)
	during, peak := 0, 0
	for kill := range kills {
		start := r.start
		if kill%2 == 0 { // at least so far, however slow the machine is
			start = r.startReady
		}
		p := start()
		time.Sleep(pause/4 + time.Duration(rand.Int64N(int64(2*pause))))
		peak = max(peak, p.peak())
		p.kill()
		if state := r.snapshotState(); state != nil && state.Finished.IsZero() {
			during++
			// The oldest rows are published, and their application deletes some.
			r.exec("delete from outbox where id in (select id from outbox where (payload->>'n')::int < $1 "+
				"order by created_at limit 2000)", state.Rows/2)
		}
	}
	p := r.start()
	for deadline := time.Now().Add(20 * time.Minute); time.Now().Before(deadline); time.Sleep(time.Second) {
		if state := r.snapshotState(); state != nil && !state.Finished.IsZero() { // perhaps before this start
			break
		}
	}
	peak = max(peak, p.peak())
	end := stop()
	t.Logf("%d kills, %d of them during the snapshot, %d rows written meanwhile, peak %d MiB", kills, during, end-old, peak>>10)
	assert.Positive(t, during)
	assert.LessOrEqual(t, peak, 64<<10)
	r.confirmed(p)
	r.seam(old, end)
}

// TestSnapshotIsStopped stops and starts a snapshot several times. Nothing is
// repeated, and the position in the table is kept.
func TestSnapshotIsStopped(t *testing.T) {
	t.Parallel()
	const old = 8000
	r := newSnapshotRig(t, old, withConfig("snapshot.chunk_rows=500"))
	stop := r.writeLive(old)
	for range 3 {
		p := r.start("snapshot.rate=2000")
		p.eventually("rows are published", func() bool { return len(r.records("order")) > 0 })
		time.Sleep(300 * time.Millisecond)
		before := r.snapshotState()
		require.Zero(t, p.stop())
		state := r.snapshotState()
		require.True(t, state.Finished.IsZero())
		require.GreaterOrEqual(t, state.Rows, before.Rows)
		assert.Len(t, r.records("order"), int(state.Rows), "what is in Kafka is in the checkpoint")
	}
	p := r.startReady()
	p.logged("snapshot continues")
	p.logged("snapshot finished")
	end := stop()
	r.confirmed(p)
	r.seam(old, end)
}

// TestSnapshotBlocked has a broker that does not answer. The server must not
// keep dead rows for a reader that waits for it.
func TestSnapshotBlocked(t *testing.T) {
	testserver.Long(t)
	t.Parallel()
	const old = 60_000
	cluster := kafkatest.New(t, kafkatest.Options{})
	r := newSnapshotRig(t, old, withKafka(cluster), withConfig("kafka.max_in_flight_bytes=64KiB", "kafka.max_batch_bytes=32KiB"))
	p := r.startReady()
	p.eventually("rows are published", func() bool { return len(r.records("order")) > 0 })
	require.NoError(t, cluster.PauseBroker(0))
	defer func() { _ = cluster.ResumeBroker(0) }()
	// A moment, and the time to see that it is over.
	const longest, blocked = 11 * time.Second, 14 * time.Second
	began := time.Now()
	p.eventually("Kafka has not answered for a while", func() bool {
		var age time.Duration
		require.NoError(t, r.db.QueryRow(t.Context(), "select coalesce(max(now() - xact_start), '0') from pg_stat_activity "+
			"where application_name = 'streamer:' || $1 and backend_xmin is not null", r.slot).Scan(&age))
		require.Less(t, age, longest, "the server keeps dead rows")
		return time.Since(began) > blocked
	})
	require.NoError(t, cluster.ResumeBroker(0))
	p.logged("snapshot finished")
	r.confirmed(p)
	r.seam(old, old)
}

// TestSnapshotSurvives loses its connections to PostgreSQL.
func TestSnapshotSurvives(t *testing.T) {
	t.Parallel()
	const old = 20_000
	r := newSnapshotRig(t, old, withConfig("snapshot.rate=10000", "snapshot.chunk_rows=2000"))
	stop := r.writeLive(old)
	p := r.startReady()
	for range 4 {
		time.Sleep(400 * time.Millisecond)
		r.exec("select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'streamer:' || $1", r.slot)
	}
	p.logged("snapshot finished")
	end := stop()
	r.confirmed(p)
	r.seam(old, end)
}

// TestSnapshotDeadLetters has rows that cannot be published.
func TestSnapshotDeadLetters(t *testing.T) {
	t.Parallel()
	const old = 2000
	r := newSnapshotRig(t, old, withConfig("snapshot.chunk_rows=300", "poison.topic=dead"+"-letters-"+strconv.Itoa(rand.IntN(1<<30))))
	r.exec("update outbox set aggregateid = null where (payload->>'n')::int % 400 = 7")
	r.start().refused(exitRefused, "value is NULL, an event needs it", "poison.policy=dead-letter")

	p := r.startReady("poison.policy=dead-letter", "snapshot.rate=2000")
	p.eventually("rows are published", func() bool { return len(r.records("order")) > 0 })
	p.kill()
	p = r.startReady("poison.policy=dead-letter")
	p.logged("snapshot finished")
	r.confirmed(p)
	assert.Len(t, r.records("order"), old-5)
	r.lines = append(r.lines, "poison.policy=dead-letter")
	out, code := r.run("dead-letters", "list", "--json")
	require.Zero(t, code, string(out))
	assert.Equal(t, 5, bytes.Count(out, []byte(`"invalid_row"`)), string(out))
}

func TestSnapshotRefusals(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		sql    string
		config []string
		code   int
		says   []string
	}{
		"NULLs in the order": {
			"alter table outbox alter created_at drop not null; insert into outbox (created_at) values (null)", nil, exitRefused,
			[]string{`column "created_at" of public.outbox may be NULL`, `ALTER COLUMN "created_at" SET NOT NULL`},
		},
		"uuid": {
			"",
			[]string{"snapshot.order_by=id"},
			exitRefused,
			[]string{`column "id" of public.outbox is uuid, whose values have no order`, "snapshot.order_by"},
		},
		"a column that where names and the table lacks": {
			"",
			[]string{"snapshot.where=createdat > now()"},
			exitUsage,
			[]string{`column "createdat" does not exist`, "correct snapshot.where; the table has id"},
		},
		"no order": {"", []string{"snapshot.order_by="}, exitUsage, []string{"snapshot.order_by", "created_at"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newSnapshotRig(t, 10)
			if test.sql != "" {
				r.exec(test.sql)
			}
			r.start(test.config...).refused(test.code, test.says...)
			assert.Empty(t, r.records("order"), "nothing was published")
		})
	}
}

// TestSnapshotIsChangedMidway refuses what would publish rows twice or leave
// some out, and lets the operator give up the rest.
func TestSnapshotIsChangedMidway(t *testing.T) {
	t.Parallel()
	const old = 4000
	r := newSnapshotRig(t, old, withConfig("snapshot.rate=1000", "snapshot.chunk_rows=300"))
	p := r.startReady()
	p.eventually("rows are published", func() bool { return len(r.records("order")) > 0 })
	require.Zero(t, p.stop())
	const unfinished = "the snapshot of table public.outbox is not finished"
	r.start("snapshot.mode=none").refused(exitRefused, unfinished, "snapshot.mode is none", "streamer checkpoint set slot --yes")
	r.start("snapshot.where=true").refused(exitRefused, unfinished, "its rows are selected or ordered in another way")
	r.start("kafka.key={type}").refused(exitRefused, unfinished, "topics, keys or partitions are chosen in another way")
	out, code := r.run("doctor")
	assert.Contains(t, string(out), "rows from before the slot are published", code)

	published := len(r.records("order"))
	id := r.insert("order", "o1", "t", `{"n": 4000}`)
	out, code = r.run("checkpoint", "set", "slot", "--yes")
	require.Zero(t, code, string(out))
	assert.Contains(t, string(out), "snapshot: given up")
	p = r.startReady()
	r.confirmed(p)
	messages := r.records("order")
	require.Len(t, messages, published+1)
	assert.Contains(t, ids(messages), id)
	require.Zero(t, p.stop())
}

// TestUnpublishedRowsAreSaid has rows from before the slot and no snapshot.
func TestUnpublishedRowsAreSaid(t *testing.T) {
	t.Parallel()
	r := newRig(t, "", withConfig("snapshot.order_by=created_at"))
	r.exec(oldTable)
	r.exec("insert into outbox (aggregatetype, aggregateid, type, payload) select 'order', 'o', 't', '{}' from generate_series(1, 1234)")
	out, code := r.run("setup")
	require.Zero(t, code, string(out))
	assert.Contains(t, string(out), "1,234 rows from before slot")
	out, _ = r.run("doctor")
	assert.Contains(t, string(out), "1,234 rows, and those that were committed before the slot are not published")
	p := r.start()
	p.logged("rows that were committed before the slot began are not published (snapshot.mode is none)")
	p.logged("rows_in_table=1234")
	p.logged("msg=streaming") // with the first checkpoint stored
	p.kill()

	out, code = r.run("setup", "--set", "snapshot.mode=initial")
	require.Zero(t, code, string(out))
	assert.Contains(t, string(out), `1,234 rows of public.outbox, ordered by "created_at", are published by the first start`)
	p = r.start("snapshot.mode=initial")
	p.logged("no snapshot, because this slot was streamed before")
	p.kill()
}
