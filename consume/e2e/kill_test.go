package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/consume"
	"github.com/outboxstream/streamer/internal/kafkatest"
	"github.com/outboxstream/streamer/internal/pgtest"
	"github.com/outboxstream/streamer/internal/testserver"
)

// patience bounds every wait for something that must happen.
const patience = 2 * time.Minute

// shop is a service that writes an outbox, with its streamer, and another service
// that consumes it. All are processes.
type shop struct {
	*testing.T
	kafka  *kafkatest.Cluster
	outbox *pgx.Conn
	dsn    string // of the outbox
	effect *pgx.Conn
	topic  string
	flags  []string
	binary string
	s      settings

	mu      sync.Mutex
	kills   int
	started int
}

func newShop(t *testing.T, cluster *kafkatest.Cluster, s settings) *shop {
	t.Helper()
	w := &shop{T: t, kafka: cluster, s: s, binary: filepath.Join(t.TempDir(), "streamer")}
	require.NoError(t, testserver.Build(t.Context(), "../..", "./cmd/streamer", w.binary))
	w.dsn = pgtest.Shared(t).CreateDatabase(t)
	w.s.DSN, w.s.Brokers = pgtest.Shared(t).CreateDatabase(t), w.kafka.Brokers()
	w.outbox, w.effect = w.connect(w.dsn), w.connect(w.s.DSN)
	prefix := kafkatest.TopicName(t)
	w.topic, w.s.Group = prefix+".order", "group-"+prefix
	w.s.Topics = []string{w.topic}
	tight := map[string]string{"max.message.bytes": "20000"}
	require.NoError(t, w.kafka.CreateTopic(t.Context(), w.topic, 3, tight))
	slot := "slot_" + strconv.FormatInt(time.Now().UnixNano(), 36)
	w.run(w.outbox, `create table outbox (id uuid primary key default gen_random_uuid(), number bigint generated always as identity,
		aggregatetype text, aggregateid text, type text, payload jsonb)`)
	w.run(w.outbox, "create publication streamer for table outbox with (publish = 'insert')")
	w.run(w.outbox, "select pg_create_logical_replication_slot($1, 'pgoutput')", slot)
	w.run(w.effect, consume.Schema)
	w.run(w.effect, "create table effect (number bigint generated always as identity, key text, n int, id text)")
	ports, err := testserver.FreePorts(1)
	require.NoError(t, err)
	for _, setting := range []string{
		"postgres.dsn=" + w.dsn, "postgres.slot=" + slot, "kafka.brokers=" + strings.Join(w.kafka.Brokers(), ","),
		"kafka.topic=" + prefix + ".{aggregate_type}", "checkpoint.store=kafka", "checkpoint.kafka.topic=checkpoints-" + prefix,
		"checkpoint.kafka.replication_factor=1", "checkpoint.interval=50ms", "kafka.topics.create=true", "kafka.topics.replication_factor=1",
		"poison.policy=dead-letter", "poison.topic=letters-" + prefix, "log.format=text", "kafka.max_batch_bytes=15000B", "rewind.keep=1h",
		"http.listen=127.0.0.1:" + strconv.Itoa(ports[0]),
	} {
		w.flags = append(w.flags, "--set", setting)
	}
	return w
}

func (w *shop) connect(dsn string) *pgx.Conn {
	w.Helper()
	conn, err := pgx.Connect(w.Context(), dsn)
	require.NoError(w, err)
	w.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

func (w *shop) run(conn *pgx.Conn, statement string, arguments ...any) {
	w.Helper()
	_, err := conn.Exec(w.Context(), statement, arguments...)
	require.NoError(w, err)
}

func (w *shop) number(conn *pgx.Conn, query string) (n int) {
	w.Helper()
	require.NoError(w, conn.QueryRow(w.Context(), query).Scan(&n))
	return n
}

// stream starts the streamer.
func (w *shop) stream() {
	w.Helper()
	w.process(exec.CommandContext(context.Background(), w.binary, append([]string{"run"}, w.flags...)...))
}

// command runs a command of the streamer to its end.
func (w *shop) command(arguments ...string) {
	w.Helper()
	output, err := exec.CommandContext(w.Context(), w.binary, append(arguments, w.flags...)...).CombinedOutput()
	require.NoError(w, err, string(output))
}

// instance starts one more instance of the consuming service.
func (w *shop) instance() *exec.Cmd {
	w.Helper()
	itself, err := os.Executable()
	require.NoError(w, err)
	text, err := json.Marshal(w.s)
	require.NoError(w, err)
	cmd := exec.CommandContext(context.Background(), itself)
	cmd.Env = append(os.Environ(), serviceSettings+"="+string(text))
	w.process(cmd)
	w.started++
	return cmd
}

// process starts a process that ends with the test at the latest.
func (w *shop) process(cmd *exec.Cmd) {
	w.Helper()
	log, err := os.Create(filepath.Join(w.TempDir(), "log"))
	require.NoError(w, err)
	cmd.Stdout, cmd.Stderr = log, log
	require.NoError(w, cmd.Start())
	w.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		text, _ := os.ReadFile(log.Name())
		_ = log.Close()
		if w.Failed() && len(text) > 0 {
			w.Logf("process %d:\n%s", cmd.Process.Pid, text[max(0, len(text)-4000):])
		}
	})
}

// write inserts rows until stop is closed, in random order of keys, some of them
// too large for the topic, and some transactions rolled back.
func (w *shop) write(stop <-chan struct{}, pause time.Duration) {
	conn, err := pgx.Connect(context.Background(), w.dsn)
	if !assert.NoError(w, err) {
		return
	}
	defer conn.Close(context.Background())
	const keys = 30
	next := map[string]int{}
	for {
		select {
		case <-stop:
			return
		case <-time.After(pause):
		}
		ctx := context.Background()
		tx, err := conn.Begin(ctx)
		if !assert.NoError(w, err) {
			return
		}
		then := map[string]int{}
		for range 1 + rand.IntN(5) {
			key := fmt.Sprint("key-", rand.IntN(keys))
			n := max(next[key], then[key]) + 1
			then[key] = n
			pad := ""
			if rand.IntN(1000) == 0 || key == "key-7" && n == 5 {
				pad = random(40_000)
			}
			_, err := tx.Exec(ctx, `insert into outbox (aggregatetype, aggregateid, type, payload) values ('order', $1::text, 'placed',
				jsonb_build_object('N', $2::int, 'Key', $1::text, 'Pad', $3::text))`, key, n, pad)
			if !assert.NoError(w, err) {
				return
			}
		}
		if rand.IntN(20) == 0 {
			_ = tx.Rollback(ctx)
			continue
		}
		if !assert.NoError(w, tx.Commit(ctx)) {
			return
		}
		for key, n := range then {
			next[key] = n
		}
	}
}

func random(length int) string {
	text := make([]byte, length)
	for i := range text {
		text[i] = byte('a' + rand.IntN(26))
	}
	return string(text)
}

func (w *shop) eventually(what string, condition func() bool) {
	w.Helper()
	require.Eventually(w, condition, patience, 50*time.Millisecond, what)
}

// busy waits until something is handled since the last call, and a moment more.
func (w *shop) busy() {
	w.Helper()
	before := w.number(w.effect, "select count(*) from effect")
	w.eventually("events are handled between two kills", func() bool {
		return w.number(w.effect, "select count(*) from effect") > before
	})
	time.Sleep(rand.N(300 * time.Millisecond))
}

func (w *shop) widen() {
	w.Helper()
	admin, err := w.kafka.Admin()
	require.NoError(w, err)
	defer admin.Close()
	limit := "1000000"
	require.NoError(w, admin.IncrementalAlterConfig(sarama.TopicResource, w.topic, map[string]sarama.IncrementalAlterConfigsEntry{
		"max.message.bytes": {Operation: sarama.IncrementalAlterConfigsOperationSet, Value: &limit},
	}, false))
}

// Each row of the outbox has its effect once, and those of a key are in order,
// although instances are killed again and again, join and leave, while the topic
// grows, a replay publishes everything again, and dead letters come late.
func TestKilledAgainAndAgain(t *testing.T) {
	t.Parallel()
	kills := 10
	if os.Getenv("STREAMER_LONG") != "" {
		kills = 340
	}
	if text := os.Getenv("KILLS"); text != "" {
		var err error
		kills, err = strconv.Atoi(text)
		require.NoError(t, err)
	}
	// A member that is killed is missed soon.
	cluster := kafkatest.New(t, kafkatest.Options{Settings: map[string]string{"group.min.session.timeout.ms": "500"}})
	for name, s := range map[string]settings{
		"sarama eager":       {Client: "sarama"},
		"sarama cooperative": {Client: "sarama cooperative", SQL: true},
		"franz cooperative":  {Client: "franz"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s.Failures = 200
			killedAgainAndAgain(t, newShop(t, cluster, s), kills)
		})
	}
}

func killedAgainAndAgain(t *testing.T, w *shop, kills int) {
	t.Helper()
	w.stream()
	stop := make(chan struct{})
	var writing sync.WaitGroup
	defer writing.Wait()
	end := sync.OnceFunc(func() { close(stop) })
	defer end()
	writing.Go(func() { w.write(stop, 2*time.Millisecond) })
	instances := []*exec.Cmd{w.instance(), w.instance()}
	w.eventually("the first effects are there", func() bool { return w.number(w.effect, "select count(*) from effect") > 100 })
	for kill := range kills {
		w.busy()
		victim := rand.IntN(len(instances))
		require.NoError(t, instances[victim].Process.Kill())
		_ = instances[victim].Wait()
		instances[victim] = w.instance()
		if rand.IntN(3) == 0 { // the group grows and shrinks
			if len(instances) < 4 {
				instances = append(instances, w.instance())
			} else {
				_ = instances[0].Process.Signal(os.Interrupt)
				_ = instances[0].Process.Kill()
				_ = instances[0].Wait()
				instances = instances[1:]
			}
		}
		switch kill {
		case kills / 4:
			w.command("replay", "--from", "beginning", "--rate", "0")
		case kills / 2:
			require.NoError(t, w.kafka.AddPartitions(t.Context(), w.topic, 5))
		case kills * 3 / 4:
			w.widen()
			w.command("dead-letters", "retry", "--all", "--yes")
		}
	}
	end()
	writing.Wait()
	// Those of rows that came before the streamer had noticed the wider topic. There
	// may be none. A replay would publish them as repeats.
	_ = exec.CommandContext(t.Context(), w.binary, append([]string{"dead-letters", "retry", "--all", "--yes"}, w.flags...)...).Run()
	w.command("replay", "--from", "beginning", "--rate", "0") // also of keys that have moved
	rows := w.number(w.outbox, "select count(*) from outbox")
	begun := time.Now()
	assert.Eventually(t, func() bool {
		return w.number(w.effect, "select count(distinct id) from effect") == rows
	}, patience, 50*time.Millisecond, "every row has an effect")
	t.Logf("settled in %s", time.Since(begun).Round(time.Millisecond))
	w.audit(kills)
}

// audit compares the outbox with the effects, and with nothing that the package
// has written.
func (w *shop) audit(kills int) {
	w.Helper()
	late := map[string]bool{}
	messages, err := w.kafka.Consume(w.Context(), w.topic)
	require.NoError(w, err)
	seen := map[string][]string{} // where its records are
	for _, m := range messages {
		for _, h := range m.Headers {
			if string(h.Key) == "streamer-replay" && string(h.Value) == "dead-letter" {
				late[idOf(m)] = true
			}
		}
		place := fmt.Sprintf("%d@%d", m.Partition, m.Offset)
		for _, h := range m.Headers {
			if string(h.Key) == "streamer-replay" {
				place += " " + string(h.Value)
			}
		}
		seen[idOf(m)] = append(seen[idOf(m)], place)
	}
	rows, err := w.outbox.Query(w.Context(), "select id::text from outbox")
	require.NoError(w, err)
	outbox, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(w, err)
	rows, err = w.effect.Query(w.Context(), "select key, n, id from effect order by number")
	require.NoError(w, err)
	type effect struct {
		Key string
		N   int
		ID  string
	}
	effects, err := pgx.CollectRows(rows, pgx.RowToStructByPos[effect])
	require.NoError(w, err)
	times, last := map[string]int{}, map[string]int{}
	doubled, disordered, lost := 0, 0, 0
	for _, e := range effects {
		if times[e.ID]++; times[e.ID] > 1 {
			doubled++
		}
		if late[e.ID] {
			continue
		}
		if e.N <= last[e.Key] {
			if disordered++; disordered < 10 {
				w.Logf("out of order: %s %d after %d: records %s", e.Key, e.N, last[e.Key], seen[e.ID])
			}
		}
		last[e.Key] = max(last[e.Key], e.N)
	}
	for _, id := range outbox {
		if times[id] == 0 {
			if lost++; lost < 10 {
				w.Logf("lost: records %s", seen[id])
			}
		}
	}
	w.Logf("%d kills of %d processes, %d rows, %d records, %d dead letters published late: %d lost, %d doubled, %d out of order",
		kills, w.started, len(outbox), len(messages), len(late), lost, doubled, disordered)
	if lost+doubled+disordered > 0 {
		for _, table := range []string{"topic", "growth", "range", "position"} {
			rows, err := w.effect.Query(w.Context(), "select t::text from inbox."+table+" t order by 1")
			require.NoError(w, err)
			all, err := pgx.CollectRows(rows, pgx.RowTo[string])
			require.NoError(w, err)
			w.Logf("inbox.%s: %s", table, strings.Join(all, " "))
		}
	}
	assert.Zero(w, lost)
	assert.Zero(w, doubled)
	assert.Zero(w, disordered)
	assert.Len(w, times, len(outbox))
	assert.Positive(w, len(late))
}

func idOf(m *sarama.ConsumerMessage) string {
	for _, h := range m.Headers {
		if string(h.Key) == "ce_id" {
			return string(h.Value)
		}
	}
	return ""
}
