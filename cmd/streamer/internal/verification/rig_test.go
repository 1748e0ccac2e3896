package verification

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alecthomas/kong"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/outboxstream/streamer/cmd/streamer/internal/console"
	"github.com/outboxstream/streamer/cmd/streamer/internal/site"
	"github.com/outboxstream/streamer/internal/config"
	"github.com/outboxstream/streamer/internal/kafkatest/fake"
	"github.com/outboxstream/streamer/internal/ops"
	"github.com/outboxstream/streamer/internal/pgtest"
	"github.com/outboxstream/streamer/internal/pipeline"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

// rig is an outbox with its slot on the shared PostgreSQL, and a fake Kafka.
type rig struct {
	t        *testing.T
	cluster  fake.Cluster
	conn     *pgx.Conn
	slot     string // also the name of the publication
	settings map[string]string
}

var rigs atomic.Int64

// newRig sets up a table whose rows say when they were written. Rows go to the
// topics events.order and so on, of which none exists. Settings are a key, "="
// and a value.
func newRig(t *testing.T, settings ...string) *rig {
	t.Helper()
	dsn := pgtest.Shared(t).CreateDatabase(t)
	r := &rig{
		t: t, cluster: fake.Start(t, kfake.NumBrokers(1)),
		slot: fmt.Sprintf("verification_%d_%d", os.Getpid(), rigs.Add(1)),
	}
	r.settings = map[string]string{
		"postgres.dsn": dsn, "postgres.slot": r.slot, "postgres.publication": r.slot, "postgres.status_interval": "10ms",
		"kafka.brokers": strings.Join(r.cluster.Brokers(), ","), "kafka.topic": "events.{aggregate_type}", "kafka.topics.create": "true",
		"checkpoint.interval": "10ms",
	}
	for _, setting := range settings {
		key, value, _ := strings.Cut(setting, "=")
		r.settings[key] = value
	}
	var err error
	r.conn, err = pgx.Connect(t.Context(), dsn)
	require.NoError(t, err)
	t.Cleanup(func() { r.conn.Close(context.WithoutCancel(t.Context())) })
	r.exec(`create table outbox (id text primary key, aggregatetype text, aggregateid text, type text,
		payload jsonb, created_at timestamptz default clock_timestamp())`)
	r.exec(`create publication "` + r.slot + `" for table outbox with (publish = 'insert')`)
	r.exec(`select pg_create_logical_replication_slot($1, 'pgoutput')`, r.slot)
	return r
}

func (r *rig) exec(sql string, arguments ...any) {
	r.t.Helper()
	_, err := r.conn.Exec(r.t.Context(), sql, arguments...)
	require.NoError(r.t, err, sql)
}

// insert commits a row for each ID, one after the other.
func (r *rig) insert(aggregateType string, ids ...string) {
	r.t.Helper()
	for _, id := range ids {
		r.exec(`insert into outbox (id, aggregatetype, aggregateid, type, payload) values ($1, $2, 'a', 't', '{"secret": 1}')`, id, aggregateType)
	}
}

// passOver lets the slot pass what was committed, which is then never
// published.
func (r *rig) passOver() {
	r.t.Helper()
	r.exec("select pg_replication_slot_advance($1, pg_current_wal_lsn())", r.slot)
}

func (r *rig) load() (*config.Loaded, error) { return config.Load(config.Options{Flags: r.settings}) }

func (r *rig) config() config.Config {
	r.t.Helper()
	loaded, err := r.load()
	require.NoError(r.t, err)
	return loaded.Config
}

// stream runs the pipeline as streamer run does, until stop is called.
func (r *rig) stream() (stop func()) {
	r.t.Helper()
	p, err := pipeline.New(site.PipelineConfig(r.config(), slog.New(slog.DiscardHandler), ops.NewMetrics("test")))
	require.NoError(r.t, err)
	ctx, cancel := context.WithCancel(r.t.Context())
	ran := make(chan error, 1)
	go func() { ran <- p.Run(ctx) }()
	return func() {
		r.t.Helper()
		cancel()
		require.NoError(r.t, <-ran)
		r.await("not active")
	}
}

// publish streams until everything that was committed is confirmed.
func (r *rig) publish() {
	r.t.Helper()
	var end string
	require.NoError(r.t, r.conn.QueryRow(r.t.Context(), "select pg_current_wal_lsn()::text").Scan(&end))
	stop := r.stream()
	r.await("confirmed_flush_lsn >= '" + end + "'")
	stop()
}

// await waits until the slot is in a state.
func (r *rig) await(state string) {
	r.t.Helper()
	require.Eventually(r.t, func() (is bool) {
		err := r.conn.QueryRow(r.t.Context(), "select "+state+" from pg_replication_slots where slot_name = $1", r.slot).Scan(&is)
		return err == nil && is
	}, 30*time.Second, 10*time.Millisecond)
}

// outcome is what a comparison printed and how it ended.
type outcome struct {
	t        *testing.T
	err      error
	printed  string
	findings []string // kind and event ID, sorted
	summary  result
}

// command returns the command with its defaults, and JSON as its output.
func command(t *testing.T, change func(*Command)) Command {
	t.Helper()
	var c Command
	require.NoError(t, kong.ApplyDefaults(&c))
	c.JSON, c.TempDir = true, t.TempDir()
	if change != nil {
		change(&c)
	}
	return c
}

// verify runs the command; change may be nil.
func (r *rig) verify(change func(*Command)) outcome {
	r.t.Helper()
	var stdout, stderr bytes.Buffer
	c := command(r.t, change)
	o := outcome{t: r.t, err: c.Run(r.t.Context(), r.load, console.Streams{Out: &stdout, Err: &stderr})}
	o.printed = stdout.String()
	if !c.JSON {
		return o
	}
	for line := range strings.Lines(o.printed) {
		var one struct {
			Kind    string
			EventID string `json:"event_id"`
			Summary *result
		}
		require.NoError(r.t, json.Unmarshal([]byte(line), &one), line)
		if one.Summary != nil {
			o.summary = *one.Summary
			continue
		}
		o.findings = append(o.findings, one.Kind+" "+one.EventID)
	}
	slices.Sort(o.findings)
	return o
}

// finds asserts which findings there are, and what the error says of them.
func (o outcome) finds(want ...string) outcome {
	o.t.Helper()
	if len(want) == 0 {
		require.NoError(o.t, o.err)
	} else {
		require.Equal(o.t, findingsError(len(want)), o.err)
	}
	assert.Equal(o.t, want, o.findings)
	return o
}

// notes asserts that there are this many notes, in which the words stand.
func (o outcome) notes(want int, words ...string) outcome {
	o.t.Helper()
	assert.Len(o.t, o.summary.Notes, want)
	for _, word := range words {
		assert.Contains(o.t, strings.Join(o.summary.Notes, "\n"), word)
	}
	return o
}
