package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/cmd/streamer/internal/site"
	"github.com/outboxstream/streamer/internal/config"
	"github.com/outboxstream/streamer/internal/kafkatest"
	"github.com/outboxstream/streamer/internal/ops"
	"github.com/outboxstream/streamer/internal/pgtest"
	"github.com/outboxstream/streamer/internal/pipeline"
	"github.com/outboxstream/streamer/internal/testserver"
)

func TestMain(m *testing.M) {
	os.Exit(testserver.Main(m, pgtest.CloseShared, kafkatest.CloseShared))
}

// result is the output and exit code of a command.
type result struct {
	code           int
	stdout, stderr string
}

// execute runs the program in this process.
func execute(t *testing.T, environ []string, arguments ...string) result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	code := run(arguments, environment{stdout: &stdout, stderr: &stderr, environ: environ})
	return result{code, stdout.String(), stderr.String()}
}

// rig is a database and a set of names on the shared servers for one test.
type rig struct {
	t       *testing.T
	dsn     string
	slot    string // also the name of the publication
	topic   string // prefix of topic names
	listen  string
	environ []string
	conn    *pgx.Conn
}

var rigs atomic.Int64

// newRig creates neither table nor slot. It starts Kafka only if asked to.
func newRig(t *testing.T, kafka bool, more ...string) *rig {
	t.Helper()
	r := &rig{t: t, dsn: pgtest.Shared(t).CreateDatabase(t), slot: fmt.Sprintf("commands_%d_%d", os.Getpid(), rigs.Add(1))}
	ports, err := testserver.FreePorts(1)
	require.NoError(t, err)
	r.listen = fmt.Sprintf("127.0.0.1:%d", ports[0])
	r.topic = kafkatest.TopicName(t)
	brokers := "127.0.0.1:1" // no server listens there
	if kafka {
		brokers = strings.Join(kafkatest.Shared(t).Brokers(), ",")
	}
	r.environ = append([]string{
		"STREAMER_POSTGRES_DSN=" + r.dsn, "STREAMER_POSTGRES_SLOT=" + r.slot, "STREAMER_POSTGRES_PUBLICATION=" + r.slot,
		"STREAMER_KAFKA_BROKERS=" + brokers, "STREAMER_KAFKA_TOPIC=" + r.topic + ".{aggregate_type}",
		"STREAMER_CHECKPOINT_KAFKA_TOPIC=checkpoints-" + r.topic, "STREAMER_HTTP_LISTEN=" + r.listen,
	}, more...)
	r.conn, err = pgx.Connect(t.Context(), r.dsn)
	require.NoError(t, err)
	t.Cleanup(func() { r.conn.Close(context.WithoutCancel(t.Context())) })
	return r
}

// newSlot creates a rig with table, publication and slot.
func newSlot(t *testing.T, kafka bool, more ...string) *rig {
	t.Helper()
	r := newRig(t, kafka, more...)
	r.makeSlot()
	return r
}

func (r *rig) makeSlot() {
	r.t.Helper()
	r.exec(`create table outbox (id uuid primary key default gen_random_uuid(), ` +
		`aggregatetype text not null, aggregateid text not null, type text, payload jsonb)`)
	r.exec(`create publication "` + r.slot + `" for table outbox with (publish = 'insert', publish_via_partition_root = true)`)
	r.exec(`select pg_create_logical_replication_slot($1, 'pgoutput')`, r.slot)
}

func (r *rig) exec(sql string, arguments ...any) {
	r.t.Helper()
	_, err := r.conn.Exec(r.t.Context(), sql, arguments...)
	require.NoError(r.t, err, sql)
}

func (r *rig) insert(aggregateType, aggregateID, typ, payload string) {
	r.t.Helper()
	r.exec("insert into outbox (aggregatetype, aggregateid, type, payload) values ($1, $2, $3, $4)", aggregateType, aggregateID, typ, payload)
}

func (r *rig) execute(arguments ...string) result {
	r.t.Helper()
	return execute(r.t, r.environ, arguments...)
}

// stream runs the pipeline as streamer run does, until stop is called or the
// test ends. It answers on the rig's HTTP address. It returns once the stream
// is open.
func (r *rig) stream() (stop func()) {
	r.t.Helper()
	loaded, err := config.Load(config.Options{Environ: r.environ})
	require.NoError(r.t, err)
	metrics := ops.NewMetrics("test")
	p, err := pipeline.New(site.PipelineConfig(loaded.Config, slog.New(slog.DiscardHandler), metrics))
	require.NoError(r.t, err)
	server, err := ops.Listen(r.listen, false, metrics, p.Status, nil)
	require.NoError(r.t, err)
	served, ran := make(chan error, 1), make(chan error, 1)
	go func() { served <- server.Serve() }()
	ctx, cancel := context.WithCancel(context.WithoutCancel(r.t.Context()))
	go func() { ran <- p.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		require.NoError(r.t, <-ran)
		server.Close()
		require.NoError(r.t, <-served)
		r.awaitFreeSlot()
	})
	r.t.Cleanup(stop)
	require.Eventually(r.t, func() bool { return p.Status().Phase == pipeline.Streaming }, 30*time.Second, 20*time.Millisecond)
	return stop
}

// awaitFreeSlot waits until the server has noticed that the stream has ended.
func (r *rig) awaitFreeSlot() {
	r.t.Helper()
	ctx := context.WithoutCancel(r.t.Context())
	require.Eventually(r.t, func() bool {
		var active bool
		err := r.conn.QueryRow(ctx, "select coalesce(bool_or(active), false) "+
			"from pg_replication_slots where slot_name = $1", r.slot).Scan(&active)
		return err == nil && !active
	}, 30*time.Second, 10*time.Millisecond)
}

// lines parses the output of a command as JSON lines.
func lines[T any](t *testing.T, printed string) []T {
	t.Helper()
	var all []T
	for line := range strings.Lines(printed) {
		var one T
		require.NoError(t, json.Unmarshal([]byte(line), &one), line)
		all = append(all, one)
	}
	return all
}
