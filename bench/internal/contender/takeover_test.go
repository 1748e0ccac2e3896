package contender

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/internal/kafkatest"
	"github.com/outboxstream/streamer/internal/pgtest"
	"github.com/outboxstream/streamer/internal/testserver"
	"github.com/outboxstream/streamer/internal/wait"
)

// Take-overs are played in rounds: a worker with several connectors, of which
// each has a table, a slot and a topic of its own.
const (
	takeOversOfRound = 10
	takeOverRounds   = 20
	keysOfOutbox     = 40
)

// endings are how Debezium ends, one in each round.
var endings = []string{"SIGTERM", "SIGKILL", "SIGKILL, requests delayed", "SIGKILL after retries", "SIGKILL, started again, SIGTERM"}

// tally counts what happened in take-overs.
type tally struct {
	takeOvers, rows, lost, repeated, misordered, interrupted int
	waiting, published, holes, arrived, theirRepeats         int64
}

func (a *tally) add(b tally) {
	a.takeOvers += b.takeOvers
	a.rows += b.rows
	a.lost += b.lost
	a.repeated += b.repeated
	a.misordered += b.misordered
	a.interrupted += b.interrupted
	a.waiting += b.waiting
	a.published += b.published
	a.holes += b.holes
	a.arrived += b.arrived
	a.theirRepeats += b.theirRepeats
}

// TestTakeOvers lets a streamer take over from Debezium, which was stopped or
// killed at a random moment, while an application writes all the time. Rows are
// known from what the application has committed, and events by the header id: a
// consumer that knows only Debezium's format finds each once.
// STREAMER_ROUNDS is the number of rounds, with ten take-overs each.
func TestTakeOvers(t *testing.T) {
	testserver.Long(t)
	t.Parallel()
	rounds := takeOverRounds
	if text := os.Getenv("STREAMER_ROUNDS"); text != "" {
		var err error
		rounds, err = strconv.Atoi(text)
		require.NoError(t, err)
	}
	connect, err := InstallConnect(t.Context(), func(line string) { t.Log(line) })
	require.NoError(t, err)
	r := importRig{
		t: t, folder: t.TempDir(), kafka: kafkatest.New(t, kafkatest.Options{Progress: func(line string) { t.Log(line) }}),
		pg: pgtest.New(t, pgtest.Options{Settings: map[string]string{
			"wal_level": "logical", "max_replication_slots": "40", "max_wal_senders": "40", "max_connections": "200",
		}}),
	}
	require.NoError(t, testserver.Build(t.Context(), "", module+"cmd/streamer", filepath.Join(r.folder, "streamer")))
	r.write("log4j2.properties", logging)
	sums := map[string]*tally{}
	for n := range rounds {
		ending := endings[n%len(endings)]
		if sums[ending] == nil {
			sums[ending] = &tally{}
		}
		sums[ending].add(r.takeOverRound(connect, n, ending))
		t.Logf("round %d: %s: %+v", n+1, ending, *sums[ending])
		require.False(t, t.Failed())
	}
	for ending, sum := range sums {
		t.Logf("%s: %+v", ending, *sum)
	}
}

// outbox is the table of a connector, and what an application has committed to
// it.
type outbox struct {
	rig    *importRig
	name   string // of the table, the slot, the topic's prefix
	random *rand.Rand
	stop   chan struct{}
	done   chan error

	ids  []string // in the order of the commits
	keys map[string]string
}

// takeOverRound plays one round.
func (r *importRig) takeOverRound(connect *Connect, n int, ending string) tally {
	text := r.pg.CreateDatabase(r.t)
	dsn, err := url.Parse(text)
	require.NoError(r.t, err)
	r.dsn = dsn
	var all []*outbox
	for i := range takeOversOfRound {
		o := &outbox{
			rig: r, name: fmt.Sprintf("outbox_%d_%d", n, i), random: rand.New(rand.NewPCG(uint64(n), uint64(i))),
			stop: make(chan struct{}), done: make(chan error, 1), keys: map[string]string{},
		}
		o.prepare()
		all = append(all, o)
	}
	worker := r.worker(connect, n, all, 0)
	for _, o := range all {
		go func() { o.done <- o.write(text) }()
	}
	for _, o := range all { // it has begun
		_, err := wait.Until(r.t.Context(), 2*time.Minute, 200*time.Millisecond, func() (bool, error) {
			records, err := r.kafka.Consume(r.t.Context(), o.topic())
			return len(records) > 0, err
		})
		require.NoError(r.t, err)
	}
	r.end(connect, n, all, worker, ending)
	var sums tally
	var mu sync.Mutex
	var playing sync.WaitGroup
	gate := make(chan struct{}, 3)
	for _, o := range all {
		playing.Go(func() {
			gate <- struct{}{}
			defer func() { <-gate }()
			sum := o.takeOver()
			mu.Lock()
			defer mu.Unlock()
			sums.add(sum)
		})
	}
	playing.Wait()
	return sums
}

// end lets a random time pass, and ends the worker.
func (r *importRig) end(connect *Connect, n int, all []*outbox, worker *testserver.Process, ending string) {
	random := all[0].random
	some := func(most time.Duration) { wait.For(r.t.Context(), time.Duration(random.Int64N(int64(most)))) }
	some(8 * time.Second)
	switch ending {
	case "SIGTERM":
		r.stop(worker)
	case "SIGKILL":
		worker.Kill()
	case "SIGKILL, requests delayed": // they wait in the broker's sockets
		require.NoError(r.t, r.kafka.PauseBroker(0))
		some(time.Second)
		worker.Kill()
		go func() {
			some(2 * time.Second)
			assert.NoError(r.t, r.kafka.ResumeBroker(0))
		}()
	case "SIGKILL after retries": // what is sent again is in Kafka twice
		require.NoError(r.t, r.kafka.PauseBroker(0))
		wait.For(r.t.Context(), 4*time.Second)
		require.NoError(r.t, r.kafka.ResumeBroker(0))
		some(2 * time.Second)
		worker.Kill()
	default:
		worker.Kill()
		worker = r.worker(connect, n, all, 1)
		some(12 * time.Second)
		r.stop(worker)
	}
}

// stop ends the worker, which does not always end by itself.
func (r *importRig) stop(worker *testserver.Process) {
	if err := worker.Stop(time.Minute, syscall.SIGTERM); err != nil {
		r.t.Logf("killed after SIGTERM: %s", err)
	}
}

// worker starts Connect with a connector for each table.
func (r *importRig) worker(connect *Connect, n int, all []*outbox, again int) *testserver.Process {
	ports, err := testserver.FreePorts(1)
	require.NoError(r.t, err)
	name := fmt.Sprintf("worker-%d", n)
	r.write(name+".properties", map[string]string{
		"bootstrap.servers":            strings.Join(r.kafka.Brokers(), ","),
		"key.converter":                "org.apache.kafka.connect.storage.StringConverter",
		"value.converter":              "org.apache.kafka.connect.storage.StringConverter",
		"offset.storage.file.filename": filepath.Join(r.folder, name+".offsets"),
		"producer.request.timeout.ms":  "1500", "producer.linger.ms": "5",
		"listeners":   fmt.Sprintf("http://127.0.0.1:%d", ports[0]),
		"plugin.path": filepath.Join(connect.folder, "plugins"),
	})
	files := []string{filepath.Join(r.folder, name+".properties")}
	for _, o := range all {
		files = append(files, filepath.Join(r.folder, o.name+".properties"))
	}
	cmd := connect.command(r.t.Context(), Task{Folder: r.folder}, "ConnectStandalone", files...)
	return r.start(r.t, fmt.Sprintf("%s-%d", name, again), cmd)
}

func (o *outbox) topic() string { return "taken." + o.name + ".order" }

// prepare makes the table and the files.
func (o *outbox) prepare() {
	r := o.rig
	conn, err := pgx.Connect(r.t.Context(), r.dsn.String())
	require.NoError(r.t, err)
	defer conn.Close(r.t.Context())
	for _, statement := range []string{
		"create table " + o.name + " (id uuid primary key, aggregatetype text, aggregateid text, type text, payload jsonb)",
		fmt.Sprintf("create publication %[1]s for table %[1]s", o.name),
		fmt.Sprintf("select pg_create_logical_replication_slot('%s', 'pgoutput')", o.name),
	} {
		_, err := conn.Exec(r.t.Context(), statement)
		require.NoError(r.t, err, statement)
	}
	require.NoError(r.t, r.kafka.CreateTopic(r.t.Context(), o.topic(), 3, nil))
	r.write(o.name+".properties", imported{name: o.name, options: map[string]string{
		"table.include.list":                        "public." + o.name,
		"database.password":                         passwordOf(r.dsn),
		"key.converter":                             "org.apache.kafka.connect.storage.StringConverter",
		"value.converter":                           "org.apache.kafka.connect.storage.StringConverter",
		"transforms.outbox.route.topic.replacement": "taken." + o.name + ".${routedByValue}",
	}}.connector(r.dsn))
	said, err := output(exec.CommandContext(r.t.Context(), filepath.Join(r.folder, "streamer"), "import", "debezium",
		filepath.Join(r.folder, o.name+".properties"), "-o", filepath.Join(r.folder, o.name+".yaml")))
	require.NoError(r.t, err, said)
}

func passwordOf(dsn *url.URL) string {
	password, _ := dsn.User.Password()
	if password == "" {
		password = "none"
	}
	return password
}

// write is the application: transactions of all kinds, one after the other.
func (o *outbox) write(dsn string) error {
	ctx := context.WithoutCancel(o.rig.t.Context())
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	for {
		select {
		case <-o.stop:
			return nil
		case <-time.After(time.Duration(o.random.IntN(30)) * time.Millisecond):
		}
		if err := o.transaction(ctx, conn); err != nil {
			return err
		}
	}
}

func (o *outbox) transaction(ctx context.Context, conn *pgx.Conn) error {
	kind := o.random.IntN(200)
	count := 1
	switch {
	case kind == 0:
		count = 3000
	case kind < 60:
		count = 2 + o.random.IntN(20)
	}
	var rows [][]any
	for range count {
		n := len(o.ids)
		id := fmt.Sprintf("%08x-0000-4000-8000-%012x", o.random.Uint32(), n)
		key := "key-" + strconv.Itoa(o.random.IntN(keysOfOutbox))
		o.ids, o.keys[id] = append(o.ids, id), key
		rows = append(rows, []any{id, "order", key, "Placed", fmt.Sprintf(`{"n": %d, "total": 2.50}`, n)})
	}
	tx, err := conn.Begin(ctx)
	if err != nil {
		return err
	}
	columns := []string{"id", "aggregatetype", "aggregateid", "type", "payload"}
	if _, err := tx.CopyFrom(ctx, pgx.Identifier{o.name}, columns, pgx.CopyFromRows(rows)); err != nil {
		return err
	}
	if kind%3 == 0 { // as many frameworks do
		if _, err := tx.Exec(ctx, "delete from "+o.name+" where id = any($1)", o.ids[len(o.ids)-count:]); err != nil {
			return err
		}
	}
	return tx.Commit(ctx)
}

// streamer runs a command until it ends, or kills it after a while.
func (o *outbox) streamer(after time.Duration, arguments ...string) (out []byte, code int) {
	r := o.rig
	cmd := exec.CommandContext(context.WithoutCancel(r.t.Context()), filepath.Join(r.folder, "streamer"), append(arguments,
		"--config", filepath.Join(r.folder, o.name+".yaml"), "--set", "http.listen=", "--set", "checkpoint.store=file",
		"--set", "checkpoint.file.path="+filepath.Join(r.folder, o.name+".checkpoint"),
		"--set", "kafka.brokers="+strings.Join(r.kafka.Brokers(), ","), "--set", "kafka.topics.create=false")...)
	cmd.Env = append(environment(), "PGPASSWORD="+passwordOf(r.dsn), "PGSSLMODE=disable")
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	process, err := testserver.StartProcess(cmd, syscall.SIGKILL)
	require.NoError(r.t, err)
	if after > 0 {
		select {
		case <-process.Done():
		case <-time.After(after):
			process.Kill()
			return nil, -1
		}
	}
	select {
	case <-process.Done():
	case <-time.After(3 * time.Minute):
		process.Kill()
		assert.Fail(r.t, "stuck", "%s: %v\n%s", o.name, arguments, stderr.String())
	}
	code = cmd.ProcessState.ExitCode()
	if code != 0 {
		r.t.Logf("%s: %v: %s", o.name, arguments, stderr.String())
	}
	return stdout.Bytes(), code
}

// takeOver takes over, publishes the rest, and compares.
func (o *outbox) takeOver() (sum tally) {
	t := o.rig.t
	sum.takeOvers = 1
	arguments := []string{
		"take-over", "debezium", "--json", "--wait=3s", "--holes=publish", "--connector", filepath.Join(o.rig.folder, o.name+".properties"),
	}
	for o.random.IntN(3) == 0 && sum.interrupted < 3 {
		o.streamer(time.Duration(o.random.Int64N(int64(6*time.Second))), arguments...)
		sum.interrupted++
	}
	out, code := o.streamer(0, arguments...)
	assert.Zero(t, code, "%s: %s", o.name, out)
	var report struct {
		Rows, Published int64
		HoleCount       int64 `json:"hole_count"`
		Arrived         int64 `json:"arrived_while_waiting"`
	}
	assert.NoError(t, json.Unmarshal(out, &report), "%s", out) //nolint:testifylint // on a goroutine
	sum.waiting, sum.published, sum.holes, sum.arrived = report.Rows, report.Published, report.HoleCount, report.Arrived
	close(o.stop)
	assert.NoError(t, <-o.done) //nolint:testifylint // likewise
	end, err := o.end()
	assert.NoError(t, err) //nolint:testifylint // likewise
	_, code = o.streamer(0, "run", "--until", end)
	assert.Zero(t, code, o.name)
	o.audit(&sum)
	o.exec(fmt.Sprintf("select pg_drop_replication_slot('%s')", o.name))
	return sum
}

func (o *outbox) exec(statement string) {
	ctx := context.WithoutCancel(o.rig.t.Context())
	conn, err := pgx.Connect(ctx, o.rig.dsn.String())
	if assert.NoError(o.rig.t, err) {
		_, err = conn.Exec(ctx, statement)
		assert.NoError(o.rig.t, errors.Join(err, conn.Close(ctx)))
	}
}

// end is the end of the WAL.
func (o *outbox) end() (lsn string, err error) {
	ctx := context.WithoutCancel(o.rig.t.Context())
	conn, err := pgx.Connect(ctx, o.rig.dsn.String())
	if err != nil {
		return "", err
	}
	err = conn.QueryRow(ctx, "select pg_current_wal_flush_lsn()::text").Scan(&lsn)
	return lsn, errors.Join(err, conn.Close(ctx))
}

// audit compares what was committed with what is in the topic.
func (o *outbox) audit(sum *tally) {
	t := o.rig.t
	records, err := o.rig.kafka.Consume(t.Context(), o.topic())
	assert.NoError(t, err) //nolint:testifylint // on a goroutine
	place := map[string]int{}
	for n, id := range o.ids {
		place[id] = n
	}
	theirs, ours, last := map[string]int{}, map[string]int{}, map[string]int{}
	for _, m := range records {
		id := headerOf(m, "id") // a consumer of Debezium reads nothing else
		seen := theirs
		if headerOf(m, "streamer-stream") != "" {
			seen = ours
		}
		n, known := place[id]
		assert.True(t, known, "%s: event %s was never committed", o.name, id)
		assert.Equal(t, o.keys[id], string(m.Key))
		if seen[id]++; theirs[id]+ours[id] == 1 && headerOf(m, "ce_replay") == "" {
			if n < last[string(m.Key)] {
				sum.misordered++
			}
			last[string(m.Key)] = n
		}
	}
	sum.rows = len(o.ids)
	for _, id := range o.ids {
		switch {
		case theirs[id]+ours[id] == 0:
			sum.lost++
		case ours[id] > 0 && theirs[id]+ours[id] > 1:
			sum.repeated++
		}
		sum.theirRepeats += int64(max(0, theirs[id]-1))
	}
	assert.Zero(t, sum.lost, "%s: lost", o.name)
	assert.Zero(t, sum.repeated, "%s: repeated", o.name)
	assert.Zero(t, sum.misordered, "%s: out of order", o.name)
}
