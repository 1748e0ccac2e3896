package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/internal/kafkatest"
	"github.com/outboxstream/streamer/internal/pgtest"
	"github.com/outboxstream/streamer/internal/proxytest"
	"github.com/outboxstream/streamer/internal/testserver"
)

// patience bounds every wait for something that must happen.
const patience = 40 * time.Second

// outboxTable is the table that most tests use.
const outboxTable = `create table outbox (
	id uuid primary key default gen_random_uuid(),
	aggregatetype text, aggregateid text, type text, payload jsonb)`

// rig is a database with an outbox, a publication and a slot, a set of topics,
// and the configuration of a streamer between them. All names are its own.
type rig struct {
	t       *testing.T
	pg      *pgtest.Server
	kafka   *kafkatest.Cluster
	db      *pgx.Conn
	dsn     string
	role    string // role that the streamer connects as, if it has one of its own
	slot    string
	prefix  string // prefix of all topics
	store   string
	address string // address of the HTTP endpoint
	lines   []string
	folder  string
}

// option changes a rig before it is set up.
type option func(*rig)

func withServer(s *pgtest.Server) option    { return func(r *rig) { r.pg = s } }
func withKafka(c *kafkatest.Cluster) option { return func(r *rig) { r.kafka = c } }
func withStore(store string) option         { return func(r *rig) { r.store = store } }
func withConfig(keyValues ...string) option {
	return func(r *rig) { r.lines = append(r.lines, keyValues...) }
}

// asRole makes the streamer connect as a role of its own with the least rights.
func (r *rig) asRole(options string) {
	r.t.Helper()
	role := "app_" + r.slot[max(0, len(r.slot)-40):]
	r.exec("create role " + role + " login " + options)
	r.t.Cleanup(func() {
		_, err := r.db.Exec(context.WithoutCancel(r.t.Context()), "drop owned by "+role+"; drop role "+role)
		assert.NoError(r.t, err)
	})
	r.role = role
	r.dsn = dsnOf(r.t, r.dsn, func(u *url.URL) { u.User = url.UserPassword(role, passwordCanary) })
}

// newRig sets up a rig whose outbox table is created by the given SQL.
func newRig(t *testing.T, table string, options ...option) *rig {
	t.Helper()
	r := &rig{t: t, store: "kafka", folder: t.TempDir()}
	for _, o := range options {
		o(r)
	}
	if r.pg == nil {
		r.pg = pgtest.Shared(t)
	}
	if r.kafka == nil {
		r.kafka = kafkatest.Shared(t)
	}
	r.dsn = r.pg.CreateDatabase(t)
	r.prefix = kafkatest.TopicName(t)
	r.slot = "slot_" + strings.ToLower(strings.Map(func(c rune) rune {
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' {
			return c
		}
		return -1
	}, r.prefix))
	r.slot = r.slot[max(0, len(r.slot)-60):]
	if r.slot[0] == '_' {
		r.slot = "s" + r.slot
	}
	ports, err := testserver.FreePorts(1)
	require.NoError(t, err)
	r.address = fmt.Sprintf("127.0.0.1:%d", ports[0])
	r.db = r.open()
	if table != "" {
		r.exec(table)
		r.exec("create publication streamer for table outbox with (publish = 'insert', publish_via_partition_root = true)")
		r.exec("select pg_create_logical_replication_slot($1, 'pgoutput')", r.slot)
	}
	return r
}

// behindProxy starts a Kafka of one broker behind a proxy.
func behindProxy(t *testing.T, options kafkatest.Options) (*kafkatest.Cluster, *proxytest.Proxy) {
	t.Helper()
	var proxy *proxytest.Proxy
	options.Proxied = func(_ int, listener string) (string, error) {
		var err error
		if proxy, err = proxytest.Listen("127.0.0.1:0", listener); err != nil {
			return "", err
		}
		t.Cleanup(proxy.Close)
		return proxy.Address(), nil
	}
	return kafkatest.New(t, options), proxy
}

// open returns another connection to the database.
func (r *rig) open() *pgx.Conn {
	r.t.Helper()
	conn, err := pgx.Connect(r.t.Context(), r.dsn)
	require.NoError(r.t, err)
	r.t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(r.t.Context())) })
	return conn
}

func (r *rig) exec(sql string, arguments ...any) {
	r.t.Helper()
	_, err := r.db.Exec(r.t.Context(), sql, arguments...)
	require.NoError(r.t, err, sql)
}

// insert commits one outbox row and returns its ID.
func (r *rig) insert(aggregateType, aggregateID, eventType, payload string) string {
	r.t.Helper()
	var id string
	err := r.db.QueryRow(r.t.Context(), "insert into outbox (aggregatetype, aggregateid, type, payload) "+
		"values ($1, $2, $3, $4::jsonb) returning id::text",
		aggregateType, aggregateID, eventType, payload).Scan(&id)
	require.NoError(r.t, err)
	return id
}

func (r *rig) topic(aggregateType string) string { return r.prefix + "." + aggregateType }

// arguments are the --set flags of every command.
func (r *rig) arguments() []string {
	settings := append([]string{
		"postgres.dsn=" + r.dsn, "postgres.slot=" + r.slot,
		"kafka.brokers=" + strings.Join(r.kafka.Brokers(), ","),
		"kafka.topic=" + r.prefix + ".{aggregate_type}",
		"kafka.topics.create=true", "kafka.topics.partitions=3", "kafka.topics.replication_factor=1",
		"checkpoint.store=" + r.store, "checkpoint.interval=50ms",
		"checkpoint.kafka.topic=checkpoints-" + r.prefix, "checkpoint.kafka.replication_factor=1",
		"checkpoint.file.path=" + filepath.Join(r.folder, "checkpoint"),
		"http.listen=" + r.address, "log.format=text",
		"retry.initial=50ms", "retry.max=500ms",
		"replication.reader=" + testserver.Reader(),
	}, r.lines...)
	var flags []string
	for _, s := range settings {
		flags = append(flags, "--set", s)
	}
	return flags
}

// process is a running streamer.
type process struct {
	t      *testing.T
	cmd    *exec.Cmd
	log    *syncBuffer
	exited chan struct{}
}

// start runs `streamer run`. The process is killed at the end of the test.
func (r *rig) start(extra ...string) *process {
	r.t.Helper()
	return r.startWith([]string{"run"}, extra...)
}

// startWith starts a command that keeps running, with flags.
func (r *rig) startWith(command []string, extra ...string) *process {
	r.t.Helper()
	arguments := slices.Concat(command, r.arguments())
	for _, s := range extra {
		arguments = append(arguments, "--set", s)
	}
	p := &process{
		t: r.t, cmd: exec.CommandContext(context.WithoutCancel(r.t.Context()), binary, arguments...),
		log: &syncBuffer{}, exited: make(chan struct{}),
	}
	p.cmd.Stderr, p.cmd.Stdout, p.cmd.Dir = p.log, p.log, r.folder
	p.cmd.Env = append(slices.DeleteFunc(os.Environ(),
		func(v string) bool { return strings.HasPrefix(v, "STREAMER_") || strings.HasPrefix(v, "PG") }),
		"GOTRACEBACK=all")
	require.NoError(r.t, p.cmd.Start())
	go func() {
		defer close(p.exited)
		_ = p.cmd.Wait()
	}()
	r.t.Cleanup(func() {
		p.kill()
		if r.t.Failed() {
			r.t.Logf("log of streamer process %d:\n%s", p.cmd.Process.Pid, p.log)
		}
	})
	return p
}

// startReady starts a streamer and waits until it streams.
func (r *rig) startReady(extra ...string) *process {
	r.t.Helper()
	p := r.start(extra...)
	r.ready(p)
	return p
}

// ready waits until /readyz reports ready.
func (r *rig) ready(p *process) {
	r.t.Helper()
	p.eventually("the streamer is ready", func() bool {
		response, err := get(r.t, "http://"+r.address+"/readyz")
		if err != nil {
			return false
		}
		defer response.Body.Close()
		_, _ = io.Copy(io.Discard, response.Body)
		return response.StatusCode == http.StatusOK
	})
}

func get(t testing.TB, url string) (*http.Response, error) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	require.NoError(t, err)
	return http.DefaultClient.Do(request)
}

// eventually polls until the condition holds. A process that has ended fails
// the test at once.
func (p *process) eventually(what string, condition func() bool) {
	p.t.Helper()
	deadline := time.Now().Add(patience)
	for !condition() {
		select {
		case <-p.exited:
			p.t.Fatalf("waiting until %s: the streamer ended with code %d", what, p.cmd.ProcessState.ExitCode())
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			p.t.Fatalf("waited %s in vain until %s", patience, what)
		}
	}
}

// logged waits until the log contains a text.
func (p *process) logged(text string) {
	p.t.Helper()
	p.eventually("the log says "+text, func() bool { return strings.Contains(p.log.String(), text) })
}

// code waits for the process to end by itself.
func (p *process) code() int {
	p.t.Helper()
	select {
	case <-p.exited:
	case <-time.After(patience):
		p.t.Fatalf("the streamer did not end")
	}
	return p.cmd.ProcessState.ExitCode()
}

// stop asks the process to stop and returns its exit code.
func (p *process) stop() int {
	p.t.Helper()
	require.NoError(p.t, p.cmd.Process.Signal(syscall.SIGTERM))
	return p.code()
}

func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.exited
}

// records reads a topic from its beginning. A topic that does not exist yet is
// empty.
func (r *rig) records(aggregateType string) []*sarama.ConsumerMessage {
	r.t.Helper()
	messages, err := r.kafka.Consume(r.t.Context(), r.topic(aggregateType))
	if err != nil && strings.Contains(err.Error(), "does not exist") {
		return nil
	}
	require.NoError(r.t, err)
	return messages
}

// await waits until a topic holds n records, and returns them.
func (r *rig) await(p *process, aggregateType string, n int) []*sarama.ConsumerMessage {
	r.t.Helper()
	var messages []*sarama.ConsumerMessage
	p.eventually(fmt.Sprintf("topic %s holds %d records", r.topic(aggregateType), n), func() bool {
		messages = r.records(aggregateType)
		return len(messages) >= n
	})
	require.Len(r.t, messages, n)
	return messages
}

// confirmed waits until the slot's confirmed position has reached the current
// end of the WAL.
func (r *rig) confirmed(p *process) {
	r.t.Helper()
	var end string
	require.NoError(r.t, r.db.QueryRow(r.t.Context(), "select pg_current_wal_flush_lsn()::text").Scan(&end))
	p.eventually("the slot is confirmed up to "+end, func() bool {
		var reached bool
		err := r.db.QueryRow(r.t.Context(), "select confirmed_flush_lsn >= $1::pg_lsn "+
			"from pg_replication_slots where slot_name = $2", end, r.slot).Scan(&reached)
		require.NoError(r.t, err)
		return reached
	})
}

// header returns the value of a record header, or "".
func header(m *sarama.ConsumerMessage, key string) string {
	for _, h := range m.Headers {
		if string(h.Key) == key {
			return string(h.Value)
		}
	}
	return ""
}

// ids returns the event IDs of records.
func ids(messages []*sarama.ConsumerMessage) []string {
	var all []string
	for _, m := range messages {
		all = append(all, header(m, "ce_id"))
	}
	return all
}

// byKey groups the numbers in the payloads' member n by record key, in the
// order of the partition.
func byKey(t *testing.T, messages []*sarama.ConsumerMessage) map[string][]int {
	t.Helper()
	groups := map[string][]int{}
	for _, m := range messages {
		var payload struct{ N int }
		require.NoError(t, json.Unmarshal(m.Value, &payload))
		groups[string(m.Key)] = append(groups[string(m.Key)], payload.N)
	}
	return groups
}

// syncBuffer is a buffer for a process's output.
type syncBuffer struct {
	mu     sync.Mutex
	buffer bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.String()
}

// health is the answer of /readyz.
type health struct {
	Ready         bool
	Phase, Detail string
}
