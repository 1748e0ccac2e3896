package preview

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/cmd/streamer/internal/console"
	"github.com/outboxstream/streamer/internal/config"
	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/internal/pgtest"
	"github.com/outboxstream/streamer/router"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

// rig is a database with a table, a publication and a slot, and the
// configuration of a streamer. Events go to the topic of their aggregate type.
type rig struct {
	t       *testing.T
	slot    string // also the name of the publication
	environ []string
	conn    *pgx.Conn
}

var rigs atomic.Int64

// newRig has no Kafka, and a checkpoint file that does not exist.
func newRig(t *testing.T, more ...string) *rig {
	t.Helper()
	return newRigOn(t, pgtest.Shared(t), more...)
}

func newRigOn(t *testing.T, server *pgtest.Server, more ...string) *rig {
	t.Helper()
	r := &rig{t: t, slot: fmt.Sprintf("preview_%d_%d", os.Getpid(), rigs.Add(1))}
	dsn := server.CreateDatabase(t)
	r.environ = append([]string{
		"STREAMER_POSTGRES_DSN=" + dsn, "STREAMER_POSTGRES_SLOT=" + r.slot, "STREAMER_POSTGRES_PUBLICATION=" + r.slot,
		"STREAMER_KAFKA_BROKERS=127.0.0.1:1", // no server listens there
		"STREAMER_KAFKA_TOPIC={aggregate_type}",
		"STREAMER_CHECKPOINT_STORE=file", "STREAMER_CHECKPOINT_FILE_PATH=" + filepath.Join(t.TempDir(), "checkpoint"),
	}, more...)
	var err error
	r.conn, err = pgx.Connect(t.Context(), dsn)
	require.NoError(t, err)
	t.Cleanup(func() { r.conn.Close(context.WithoutCancel(t.Context())) })
	r.exec(`create table outbox (id uuid primary key default gen_random_uuid(), ` +
		`aggregatetype text not null, aggregateid text not null, type text, payload jsonb)`)
	r.exec(`create publication "$slot" for table outbox with (publish = 'insert', publish_via_partition_root = true)`)
	r.exec(`select pg_create_logical_replication_slot('$slot', 'pgoutput')`)
	return r
}

// exec runs SQL in which $slot is the name of the slot.
func (r *rig) exec(sql string) {
	r.t.Helper()
	sql = strings.ReplaceAll(sql, "$slot", r.slot)
	_, err := r.conn.Exec(r.t.Context(), sql)
	require.NoError(r.t, err, sql)
}

// insert commits a row of a table.
func (r *rig) insert(table, aggregateType, aggregateID string) {
	r.t.Helper()
	_, err := r.conn.Exec(r.t.Context(), "insert into "+table+" (aggregatetype, aggregateid, type, payload) values ($1, $2, 'T', '{}')",
		aggregateType, aggregateID)
	require.NoError(r.t, err)
}

func (r *rig) load() (*config.Loaded, error) { return config.Load(config.Options{Environ: r.environ}) }

func (r *rig) config() config.Config {
	r.t.Helper()
	loaded, err := r.load()
	require.NoError(r.t, err)
	return loaded.Config
}

// line is a line of preview.
type line struct {
	router.Rendering
	Position, ID, Poison string
}

// result is what preview printed, and how it ended.
type result struct {
	lines []line
	told  string
	err   error
}

func (r *rig) run(limit uint) result {
	r.t.Helper()
	var out, told bytes.Buffer
	got := result{err: Command{Limit: limit}.Run(r.t.Context(), r.load, console.Streams{Out: &out, Err: &told})}
	got.told = told.String()
	for text := range strings.Lines(out.String()) {
		var l line
		require.NoError(r.t, json.Unmarshal([]byte(text), &l), text)
		got.lines = append(got.lines, l)
	}
	return got
}

// preview returns the lines of a run that succeeds. An earlier one that had
// enough may have left the server at work.
func (r *rig) preview(limit uint) []line {
	r.t.Helper()
	require.Eventually(r.t, func() bool {
		var active bool
		err := r.conn.QueryRow(r.t.Context(), "select active from pg_replication_slots where slot_name = $1", r.slot).Scan(&active)
		return err == nil && !active
	}, 30*time.Second, 10*time.Millisecond)
	got := r.run(limit)
	require.NoError(r.t, got.err)
	return got.lines
}

// keys are the aggregate IDs of lines with an event.
func keys(lines []line) (list []string) {
	for _, l := range lines {
		list = append(list, *l.Key)
	}
	return list
}

// requireRefused checks that the preview was refused, and what it said with all
// its remedies.
func requireRefused(t *testing.T, got result, says ...string) {
	t.Helper()
	require.Error(t, got.err)
	assert.Equal(t, failure.Refused, failure.ClassOf(got.err), got.err)
	assert.Empty(t, got.lines)
	for _, words := range says {
		assert.Contains(t, failure.Describe(got.err), words)
	}
}
