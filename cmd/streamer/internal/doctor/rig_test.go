package doctor

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/outboxstream/streamer/checkpoint"
	"github.com/outboxstream/streamer/cmd/streamer/internal/console"
	"github.com/outboxstream/streamer/cmd/streamer/internal/site"
	"github.com/outboxstream/streamer/internal/config"
	"github.com/outboxstream/streamer/internal/kafkatest/fake"
	"github.com/outboxstream/streamer/internal/ops"
	"github.com/outboxstream/streamer/internal/pgtest"
	"github.com/outboxstream/streamer/internal/pipeline"
	"github.com/outboxstream/streamer/replication"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

// nowhere is an address where no server listens.
const nowhere = "127.0.0.1:1"

// rig is an outbox with its slot on a PostgreSQL, and a fake Kafka.
type rig struct {
	t        *testing.T
	cluster  fake.Cluster
	conn     *pgx.Conn
	dsn      string
	slot     string // also the name of the publication
	settings map[string]string
}

var rigs atomic.Int64

// newRig is a rig on the shared server. Settings are a key, "=" and a value.
func newRig(t *testing.T, settings ...string) *rig {
	t.Helper()
	return newRigOn(t, pgtest.Shared(t), settings...)
}

// newRigOn creates what `streamer setup` creates, but for topics.
func newRigOn(t *testing.T, server *pgtest.Server, settings ...string) *rig {
	t.Helper()
	r := &rig{
		t: t, dsn: server.CreateDatabase(t), cluster: fake.Start(t, kfake.NumBrokers(1)),
		slot: fmt.Sprintf("doctor_%d_%d", os.Getpid(), rigs.Add(1)),
	}
	r.settings = map[string]string{
		"postgres.dsn": r.dsn, "postgres.slot": r.slot, "postgres.publication": r.slot, "postgres.status_interval": "10ms",
		"kafka.brokers": strings.Join(r.cluster.Brokers(), ","), "kafka.topic": "events.{aggregate_type}", "kafka.topics.create": "true",
		"checkpoint.store": "file", "checkpoint.interval": "10ms", "checkpoint.file.path": filepath.Join(t.TempDir(), "checkpoint"),
		"http.listen": nowhere,
	}
	for _, setting := range settings {
		r.set(setting)
	}
	var err error
	r.conn, err = pgx.Connect(t.Context(), r.dsn)
	require.NoError(t, err)
	t.Cleanup(func() { r.conn.Close(context.WithoutCancel(t.Context())) })
	r.exec(`create table outbox (id text primary key, aggregatetype text, aggregateid text, type text, payload jsonb)`)
	r.exec(`create publication "` + r.slot + `" for table outbox with (publish = 'insert', publish_via_partition_root = true)`)
	r.makeSlot()
	return r
}

func (r *rig) makeSlot() { r.exec(`select pg_create_logical_replication_slot($1, 'pgoutput')`, r.slot) }

func (r *rig) dropSlot() { r.exec("select pg_drop_replication_slot($1)", r.slot) }

func (r *rig) set(setting string) {
	key, value, _ := strings.Cut(setting, "=")
	r.settings[key] = value
}

func (r *rig) exec(sql string, arguments ...any) {
	r.t.Helper()
	_, err := r.conn.Exec(context.WithoutCancel(r.t.Context()), sql, arguments...)
	require.NoError(r.t, err, sql)
}

// insert commits a row. A NULL aggregate ID can never be published.
func (r *rig) insert(id, aggregateType string, aggregateID any) {
	r.t.Helper()
	r.exec(`insert into outbox (id, aggregatetype, aggregateid, type, payload) values ($1, $2, $3, 't', '{}')`, id, aggregateType, aggregateID)
}

func (r *rig) config() config.Config {
	r.t.Helper()
	loaded, err := config.Load(config.Options{Flags: r.settings})
	require.NoError(r.t, err)
	return loaded.Config
}

// publish streams, as streamer run does, until everything is confirmed.
func (r *rig) publish() {
	r.t.Helper()
	p, err := pipeline.New(site.PipelineConfig(r.config(), slog.New(slog.DiscardHandler), ops.NewMetrics("test")))
	require.NoError(r.t, err)
	ctx, cancel := context.WithCancel(r.t.Context())
	ran := make(chan error, 1)
	go func() { ran <- p.Run(ctx) }()
	r.await("confirmed_flush_lsn >= pg_lsn '" + r.server().Flushed.String() + "'")
	cancel()
	require.NoError(r.t, <-ran)
	r.await("not active")
}

// await waits until the slot is in a state.
func (r *rig) await(state string) {
	r.t.Helper()
	require.Eventually(r.t, func() (is bool) {
		err := r.conn.QueryRow(r.t.Context(), "select "+state+" from pg_replication_slots where slot_name = $1", r.slot).Scan(&is)
		return err == nil && is
	}, 30*time.Second, 10*time.Millisecond)
}

// server identifies the server.
func (r *rig) server() replication.Server {
	r.t.Helper()
	control, _, err := site.ConnectPostgres(r.t.Context(), r.config())
	require.NoError(r.t, err)
	defer control.Close()
	server, err := control.Identify(r.t.Context())
	require.NoError(r.t, err)
	return server
}

// save stores a checkpoint at the end of the WAL, with changes.
func (r *rig) save(change func(*checkpoint.Record)) {
	r.t.Helper()
	server := r.server()
	record := checkpoint.Record{
		Identity: site.IdentityOf(server, r.config()), Timeline: server.Timeline, LSN: server.Flushed, SavedAt: time.Now().UTC(),
	}
	if change != nil {
		change(&record)
	}
	content, err := checkpoint.Encode(record)
	require.NoError(r.t, err)
	require.NoError(r.t, os.WriteFile(r.settings["checkpoint.file.path"], content, 0o600))
}

// examined is a report of the doctor.
type examined struct {
	t        *testing.T
	err      error
	Checks   []Diagnosis
	Failures int
}

// examine runs the command, with further settings for this time.
func (r *rig) examine(settings ...string) examined {
	r.t.Helper()
	changed := *r
	changed.settings = maps.Clone(r.settings)
	for _, setting := range settings {
		changed.set(setting)
	}
	var out bytes.Buffer
	e := examined{t: r.t}
	e.err = Command{JSON: true}.Run(r.t.Context(), func() (*config.Loaded, error) {
		return config.Load(config.Options{Flags: changed.settings})
	}, console.Streams{Out: &out})
	require.NoError(r.t, json.Unmarshal(out.Bytes(), &e), out.String())
	for _, check := range e.Checks {
		if check.Verdict == Warned {
			assert.NotEmpty(r.t, check.Remedy, "%s: a warning is something to act upon", check)
		}
	}
	return e
}

// says asserts that a line has this verdict, is about this, and that the words
// are in what it says.
func (e examined) says(verdict Verdict, what string, words ...string) examined {
	e.t.Helper()
	for _, check := range e.Checks {
		if check.Verdict == verdict && check.What == what && hasAll(check.Meaning+" "+check.Remedy, words) {
			return e
		}
	}
	assert.Fail(e.t, "the doctor does not say", "%s  %s: %q\n%s", verdict, what, words, e)
	return e
}

func hasAll(text string, words []string) bool {
	for _, word := range words {
		if !strings.Contains(text, word) {
			return false
		}
	}
	return true
}

// silent asserts that no line is about any of these.
func (e examined) silent(what ...string) {
	e.t.Helper()
	for _, check := range e.Checks {
		assert.NotContains(e.t, what, check.What, check.String())
	}
}

func (e examined) String() string {
	var lines strings.Builder
	for _, check := range e.Checks {
		fmt.Fprintln(&lines, check)
	}
	return lines.String()
}

// with is a doctor who has found nothing yet, and whose lines are read with
// report.
func with(cfg config.Config) *doctor {
	return &doctor{cfg: cfg, json: true, std: console.Streams{Out: &bytes.Buffer{}}}
}

func (d *doctor) report(t *testing.T) examined {
	t.Helper()
	return examined{t: t, Checks: d.found, Failures: d.failures}
}
