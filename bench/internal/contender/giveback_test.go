package contender

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
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

const waysBack = 50

// wayBack is what happened in ways back of one kind.
type wayBack struct {
	Ways, Rows, Killed, Stated, Lost, Repeated, Misordered int
	Theirs                                                 int // records that Debezium wrote afterwards
}

func (w *wayBack) add(other wayBack) {
	w.Ways += other.Ways
	w.Rows += other.Rows
	w.Killed += other.Killed
	w.Stated += other.Stated
	w.Lost += other.Lost
	w.Repeated += other.Repeated
	w.Misordered += other.Misordered
	w.Theirs += other.Theirs
}

// offsetsKinds are what becomes of the connector's offsets.
var offsetsKinds = []string{"kept, trust_slot", "deleted", "replaced"}

// TestWaysBack lets Debezium begin, a streamer go on, and Debezium go on again
// where the streamer was stopped or killed at a random moment, while an
// application writes all the time, also large transactions. Rows are known from
// what the application has committed, and events by their IDs. STREAMER_ROUNDS is
// the number of ways back.
func TestWaysBack(t *testing.T) {
	testserver.Long(t)
	t.Parallel()
	rounds := waysBack
	if text := os.Getenv("STREAMER_ROUNDS"); text != "" {
		var err error
		rounds, err = strconv.Atoi(text)
		require.NoError(t, err)
	}
	connect, err := InstallConnect(t.Context(), func(line string) { t.Log(line) })
	require.NoError(t, err)
	r := wayRig{importRig: importRig{
		t: t, folder: t.TempDir(), kafka: kafkatest.New(t, kafkatest.Options{Progress: func(line string) { t.Log(line) }}),
		pg: pgtest.New(t, pgtest.Options{Settings: map[string]string{"wal_level": "logical"}}),
	}}
	require.NoError(t, testserver.Build(t.Context(), "", module+"cmd/streamer", filepath.Join(r.folder, "streamer")))
	r.write("log4j2.properties", logging)
	r.worker(connect)
	sums := map[string]*wayBack{}
	for n := range rounds {
		kind, signal := offsetsKinds[n%len(offsetsKinds)], []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL}[n/len(offsetsKinds)%2]
		name := fmt.Sprintf("%s, %s", kind, signal)
		if sums[name] == nil {
			sums[name] = &wayBack{}
		}
		w := r.way(n, kind, signal)
		sums[name].add(w)
		t.Logf("way %d: %s: %+v", n+1, name, w)
		require.False(t, t.Failed())
	}
	for name, sum := range sums {
		t.Logf("%s: %+v", name, *sum)
	}
}

// wayRig is an importRig with a worker that is asked by REST.
type wayRig struct {
	importRig
	address string
}

func (r *wayRig) worker(connect *Connect) {
	ports, err := testserver.FreePorts(1)
	require.NoError(r.t, err)
	r.address = fmt.Sprintf("http://127.0.0.1:%d", ports[0])
	r.write("worker.properties", map[string]string{
		"bootstrap.servers":            strings.Join(r.kafka.Brokers(), ","),
		"key.converter":                "org.apache.kafka.connect.storage.StringConverter",
		"value.converter":              "org.apache.kafka.connect.storage.StringConverter",
		"offset.storage.file.filename": filepath.Join(r.folder, "offsets"),
		"offset.flush.interval.ms":     "2000",
		"listeners":                    r.address,
		"plugin.path":                  filepath.Join(connect.folder, "plugins"),
	})
	file := filepath.Join(r.folder, "worker.properties")
	r.process("worker", connect.command(r.t.Context(), Task{Folder: r.folder}, "ConnectStandalone", file))
}

// process runs until the end of the test.
func (r *wayRig) process(name string, cmd *exec.Cmd) *testserver.Process {
	r.t.Helper()
	log, err := os.Create(filepath.Join(r.folder, name+".log"))
	require.NoError(r.t, err)
	cmd.Stdout, cmd.Stderr = log, log
	process, err := testserver.StartProcess(cmd, syscall.SIGKILL)
	require.NoError(r.t, err)
	r.t.Cleanup(func() {
		process.Kill()
		assert.NoError(r.t, log.Close())
		if text, err := os.ReadFile(log.Name()); err == nil && r.t.Failed() {
			r.t.Logf("log of %s:\n%s", name, text[max(0, len(text)-20_000):])
		}
	})
	return process
}

// ask sends a request until the worker does what it asks for.
func (r *wayRig) ask(method, path string, body any) []byte {
	r.t.Helper()
	var answer []byte
	var last error
	done, err := wait.Until(r.t.Context(), submitPatience, submitEvery, func() (bool, error) {
		answer, last = r.request(method, path, body)
		return last == nil, nil
	})
	require.NoError(r.t, err)
	require.True(r.t, done, "%s %s: %v", method, path, last)
	return answer
}

func (r *wayRig) request(method, path string, body any) ([]byte, error) {
	text, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	request, err := http.NewRequestWithContext(r.t.Context(), method, r.address+"/connectors"+path, bytes.NewReader(text))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode >= http.StatusBadRequest {
		err = fmt.Errorf("%s: %s", response.Status, answer)
	}
	return answer, err
}

// way plays one way back.
func (r *wayRig) way(n int, kind string, signal syscall.Signal) (w wayBack) {
	dsn, err := url.Parse(r.pg.CreateDatabase(r.t))
	require.NoError(r.t, err)
	r.dsn = dsn
	o := &shop{
		rig: r, name: fmt.Sprintf("way_%d", n), random: rand.New(rand.NewPCG(1, uint64(n))),
		stop: make(chan struct{}), done: make(chan error, 1), keys: map[string]string{},
	}
	o.prepare()
	go func() { o.done <- o.write() }()

	config := o.connector()
	r.ask(http.MethodPut, "/"+o.name+"/config", config)
	o.await("Debezium publishes", func(theirs, _ int) bool { return theirs > 20 })
	if kind == "deleted" {
		r.ask(http.MethodDelete, "/"+o.name, nil) // its offsets stay
		r.free(o.name)
	} else {
		r.stopConnector(o.name)
	}

	out, code := o.streamer("take-over", "debezium", "--wait=1s", "--holes=publish")
	require.Zero(r.t, code, "%s", out)
	o.run(signal, time.Duration(o.random.Int64N(int64(2500*time.Millisecond))))

	file := filepath.Join(r.folder, o.name+".json")
	arguments := []string{"give-back", "debezium", "--json"}
	if kind != offsetsKinds[0] {
		arguments = append(arguments, "--offsets=delete")
	}
	text, err := json.Marshal(map[string]any{"name": o.name, "config": config})
	require.NoError(r.t, err)
	require.NoError(r.t, os.WriteFile(file, text, 0o600))
	if kind == offsetsKinds[0] {
		out, code = o.streamer(append(arguments, "--connector", file)...)
		require.Equal(r.t, 2, code, "the file has another strategy: %s", out)
	}
	out, code = o.streamer(arguments...)
	require.Zero(r.t, code, "%s", out)
	var report struct {
		Position string
		Repeats  struct{ Events int }
		Settings []struct{ Option, Value string }
	}
	require.NoError(r.t, json.Unmarshal(out, &report), "%s", out)
	for _, s := range report.Settings {
		config[s.Option] = s.Value
	}
	_, ours := o.count()
	if kind == "deleted" {
		r.ask(http.MethodPost, "", map[string]any{"name": o.name, "config": config, "initial_state": "STOPPED"})
	} else {
		r.ask(http.MethodPut, "/"+o.name+"/config", config)
	}
	r.offsets(o.name, kind, report.Position)
	r.ask(http.MethodPut, "/"+o.name+"/resume", nil)
	theirs, _ := o.count()
	o.await("Debezium goes on", func(now, _ int) bool { return now > theirs+20 })
	close(o.stop)
	require.NoError(r.t, <-o.done)
	o.await("everything is published", func(int, int) bool { return len(o.missing()) == 0 })
	w = o.audit()
	w.Stated = report.Repeats.Events
	now, after := o.count()
	w.Theirs = now - theirs
	assert.Equal(r.t, ours, after, "the streamer published after the way back")
	assert.LessOrEqual(r.t, w.Repeated, w.Stated)
	assert.Zero(r.t, w.Lost)
	assert.Zero(r.t, w.Misordered)
	if signal == syscall.SIGKILL {
		w.Killed = 1
	}
	r.ask(http.MethodDelete, "/"+o.name, nil)
	r.free(o.name)
	o.exec(fmt.Sprintf("select pg_drop_replication_slot('%s')", o.name))
	return w
}

func (r *wayRig) stopConnector(name string) {
	r.ask(http.MethodPut, "/"+name+"/stop", nil)
	_, err := wait.Until(r.t.Context(), time.Minute, 100*time.Millisecond, func() (bool, error) {
		answer := r.ask(http.MethodGet, "/"+name+"/status", nil)
		var status struct {
			Connector struct{ State string }
			Tasks     []any
		}
		err := json.Unmarshal(answer, &status)
		return status.Connector.State == "STOPPED" && len(status.Tasks) == 0, err
	})
	require.NoError(r.t, err)
}

// free waits until nobody reads a slot.
func (r *wayRig) free(slot string) {
	conn, err := pgx.Connect(r.t.Context(), r.dsn.String())
	require.NoError(r.t, err)
	defer conn.Close(r.t.Context())
	done, err := wait.Until(r.t.Context(), time.Minute, 100*time.Millisecond, func() (bool, error) {
		var active bool
		err := conn.QueryRow(r.t.Context(), "select active from pg_replication_slots where slot_name = $1", slot).Scan(&active)
		return !active, err
	})
	require.NoError(r.t, err)
	require.True(r.t, done)
}

// offsets does with the connector's offsets what an operator would.
func (r *wayRig) offsets(name, kind, position string) {
	switch kind {
	case "deleted":
		r.ask(http.MethodDelete, "/"+name+"/offsets", nil)
	case "replaced":
		var high, low uint64
		_, err := fmt.Sscanf(position, "%X/%X", &high, &low)
		require.NoError(r.t, err)
		r.ask(http.MethodPatch, "/"+name+"/offsets", map[string]any{"offsets": []any{map[string]any{
			"partition": map[string]string{"server": name}, "offset": map[string]any{"lsn": high<<32 | low},
		}}})
	}
}

// shop is an application and its outbox.
type shop struct {
	rig    *wayRig
	name   string
	random *rand.Rand
	stop   chan struct{}
	done   chan error
	ids    []string // in the order of their commits
	keys   map[string]string
}

func (o *shop) topic() string { return o.name + ".order" }

func (o *shop) connector() map[string]string {
	options := imported{name: o.name, options: map[string]string{
		"table.include.list":                        "public." + o.name,
		"transforms.outbox.route.topic.replacement": o.name + ".${routedByValue}",
		"poll.interval.ms":                          "50",
	}}.connector(o.rig.dsn)
	if password, ok := o.rig.dsn.User.Password(); ok {
		options["database.password"] = password
	}
	return options
}

func (o *shop) prepare() {
	r := o.rig
	for _, statement := range []string{
		"create table " + o.name + " (id uuid primary key, aggregatetype text, aggregateid text, type text, payload jsonb)",
		fmt.Sprintf("create publication %[1]s for table %[1]s", o.name),
		fmt.Sprintf("select pg_create_logical_replication_slot('%s', 'pgoutput')", o.name),
	} {
		o.exec(statement)
	}
	require.NoError(r.t, r.kafka.CreateTopic(r.t.Context(), o.topic(), 3, nil))
	r.write(o.name+".properties", o.connector())
	said, err := output(exec.CommandContext(r.t.Context(), filepath.Join(r.folder, "streamer"), "import", "debezium",
		filepath.Join(r.folder, o.name+".properties"), "-o", filepath.Join(r.folder, o.name+".yaml")))
	require.NoError(r.t, err, said)
}

func (o *shop) exec(statement string) {
	t := o.rig.t
	conn, err := pgx.Connect(t.Context(), o.rig.dsn.String())
	require.NoError(t, err)
	defer conn.Close(t.Context())
	_, err = conn.Exec(t.Context(), statement)
	require.NoError(t, err, statement)
}

// write commits transactions until it is stopped.
func (o *shop) write() error {
	ctx := context.WithoutCancel(o.rig.t.Context())
	conn, err := pgx.Connect(ctx, o.rig.dsn.String())
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	for {
		select {
		case <-o.stop:
			return nil
		case <-time.After(time.Duration(o.random.IntN(15)) * time.Millisecond):
		}
		if err := o.transaction(ctx, conn); err != nil {
			return err
		}
	}
}

func (o *shop) transaction(ctx context.Context, conn *pgx.Conn) error {
	kind, count := o.random.IntN(100), 1
	switch {
	case kind == 0:
		count = 4000
	case kind < 40:
		count = 2 + o.random.IntN(30)
	}
	var rows [][]any
	var ids []string
	for range count {
		n := len(o.ids) + len(ids)
		id := fmt.Sprintf("%08x-0000-4000-8000-%012x", o.random.Uint32(), n)
		key := "key-" + strconv.Itoa(o.random.IntN(40))
		o.keys[id] = key
		ids = append(ids, id)
		rows = append(rows, []any{id, "order", key, "Placed", fmt.Sprintf(`{"n": %d}`, n)})
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
		if _, err := tx.Exec(ctx, "delete from "+o.name+" where id = any($1)", ids); err != nil {
			return err
		}
	}
	o.ids = append(o.ids, ids...)
	return tx.Commit(ctx)
}

func (o *shop) command(arguments ...string) *exec.Cmd {
	r := o.rig
	cmd := exec.CommandContext(context.WithoutCancel(r.t.Context()), filepath.Join(r.folder, "streamer"), append(arguments,
		"--config", filepath.Join(r.folder, o.name+".yaml"), "--set", "http.listen=", "--set", "checkpoint.store=file",
		"--set", "checkpoint.file.path="+filepath.Join(r.folder, o.name+".checkpoint"),
		"--set", "kafka.brokers="+strings.Join(r.kafka.Brokers(), ","), "--set", "kafka.topics.create=false")...)
	password, _ := r.dsn.User.Password()
	cmd.Env = append(environment(), "PGPASSWORD="+password, "PGSSLMODE=disable")
	return cmd
}

// streamer runs a command until it ends.
func (o *shop) streamer(arguments ...string) (out []byte, code int) {
	cmd := o.command(arguments...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := testserver.RunProcess(cmd)
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return append(stdout.Bytes(), stderr.Bytes()...), exit.ExitCode()
	}
	require.NoError(o.rig.t, err)
	return stdout.Bytes(), 0
}

// run streams, and ends after a while: cleanly, or not.
func (o *shop) run(signal syscall.Signal, after time.Duration) {
	process := o.rig.process(o.name, o.command("run"))
	_, before := o.count()
	o.await("the streamer publishes", func(_, ours int) bool { return ours > before })
	wait.For(o.rig.t.Context(), after)
	if signal == syscall.SIGKILL {
		process.Kill()
		return
	}
	require.NoError(o.rig.t, process.Stop(time.Minute, syscall.SIGTERM))
}

// records visits the records of the topic, of Debezium and of the streamer.
func (o *shop) records(visit func(id, key string, ours bool)) {
	records, err := o.rig.kafka.Consume(o.rig.t.Context(), o.topic())
	require.NoError(o.rig.t, err)
	for _, m := range records {
		if id := headerOf(m, "ce_id"); id != "" {
			visit(id, string(m.Key), true)
		} else {
			visit(headerOf(m, "id"), string(m.Key), false)
		}
	}
}

func (o *shop) count() (theirs, ours int) {
	o.records(func(_, _ string, own bool) {
		if own {
			ours++
		} else {
			theirs++
		}
	})
	return theirs, ours
}

func (o *shop) await(what string, condition func(theirs, ours int) bool) {
	o.rig.t.Helper()
	done, err := wait.Until(o.rig.t.Context(), 90*time.Second, 150*time.Millisecond, func() (bool, error) { return condition(o.count()), nil })
	require.NoError(o.rig.t, err)
	if !done {
		theirs, ours := o.count()
		o.rig.t.Logf("status: %s", o.rig.ask(http.MethodGet, "/"+o.name+"/status", nil))
		require.Fail(o.rig.t, what, "records of Debezium: %d, of the streamer: %d", theirs, ours)
	}
}

// missing are committed rows that are not in the topic. The application has
// ended.
func (o *shop) missing() (ids []string) {
	seen := map[string]bool{}
	o.records(func(id, _ string, _ bool) { seen[id] = true })
	for _, id := range o.ids {
		if !seen[id] {
			ids = append(ids, id)
		}
	}
	return ids
}

func (o *shop) audit() (w wayBack) {
	place, last, seen := map[string]int{}, map[string]int{}, map[string]int{}
	for n, id := range o.ids {
		place[id] = n
	}
	o.records(func(id, key string, _ bool) {
		n, known := place[id]
		assert.True(o.rig.t, known, "event %s was never committed", id)
		assert.Equal(o.rig.t, o.keys[id], key)
		if seen[id]++; seen[id] > 1 {
			w.Repeated++
			return
		}
		if n < last[key] {
			w.Misordered++
		}
		last[key] = n
	})
	w.Ways, w.Rows, w.Lost = 1, len(o.ids), len(o.missing())
	return w
}
