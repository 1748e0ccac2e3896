package setup

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/outboxstream/streamer/cmd/streamer/internal/console"
	"github.com/outboxstream/streamer/internal/config"
	"github.com/outboxstream/streamer/internal/kafkatest/fake"
	"github.com/outboxstream/streamer/internal/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

// result is what a command printed, and how it ended.
type result struct {
	out, told string
	err       error
}

// execute runs the command with a configuration from the environment.
func execute(ctx context.Context, command Command, environ ...string) result {
	var out, told bytes.Buffer
	err := command.Run(ctx, func() (*config.Loaded, error) {
		return config.Load(config.Options{Environ: environ})
	}, console.Streams{Out: &out, Err: &told})
	return result{out.String(), told.String(), err}
}

// rig is a database for one test, and the configuration of a stream from it.
type rig struct {
	t       *testing.T
	dsn     string
	slot    string // also the name of the publication
	environ []string
	conn    *pgx.Conn
}

var rigs atomic.Int64

// newRig has no table, no Kafka, and a checkpoint file, which setup does not
// create.
func newRig(t *testing.T, more ...string) *rig {
	t.Helper()
	return newRigOn(t, pgtest.Shared(t), more...)
}

func newRigOn(t *testing.T, server *pgtest.Server, more ...string) *rig {
	t.Helper()
	r := &rig{t: t, dsn: server.CreateDatabase(t), slot: fmt.Sprintf("setup_%d_%d", os.Getpid(), rigs.Add(1))}
	r.environ = append([]string{
		"STREAMER_POSTGRES_DSN=" + r.dsn, "STREAMER_POSTGRES_SLOT=" + r.slot, "STREAMER_POSTGRES_PUBLICATION=" + r.slot,
		"STREAMER_KAFKA_BROKERS=127.0.0.1:1", // no server listens there
		"STREAMER_CHECKPOINT_STORE=file",
	}, more...)
	var err error
	r.conn, err = pgx.Connect(t.Context(), r.dsn)
	require.NoError(t, err)
	t.Cleanup(func() { r.conn.Close(context.WithoutCancel(t.Context())) })
	return r
}

// newSlot has a table, a publication and a slot.
func newSlot(t *testing.T, more ...string) *rig {
	t.Helper()
	r := newRig(t, more...)
	r.makeTable()
	r.exec(`create publication "$slot" for table outbox with (publish = 'insert', publish_via_partition_root = true)`)
	r.exec(`select pg_create_logical_replication_slot('$slot', 'pgoutput')`)
	return r
}

func (r *rig) makeTable() {
	r.t.Helper()
	r.exec(`create table outbox (id uuid primary key default gen_random_uuid(), ` +
		`aggregatetype text not null, aggregateid text not null, type text, payload jsonb)`)
}

// exec runs SQL in which $slot is the name of the slot.
func (r *rig) exec(sql string) {
	r.t.Helper()
	sql = strings.ReplaceAll(sql, "$slot", r.slot)
	_, err := r.conn.Exec(r.t.Context(), sql)
	require.NoError(r.t, err, sql)
}

// value is the only value that a query returns.
func value[T any](r *rig, sql string) T {
	r.t.Helper()
	var v T
	sql = strings.ReplaceAll(sql, "$slot", r.slot)
	require.NoError(r.t, r.conn.QueryRow(r.t.Context(), sql).Scan(&v), sql)
	return v
}

// role creates a role that may stream and that ends with the test, and returns
// the setting by which the streamer connects as this role.
func (r *rig) role(options string) (name, setting string) {
	r.t.Helper()
	r.exec("create role $slot login " + options)
	r.t.Cleanup(func() {
		_, err := r.conn.Exec(context.WithoutCancel(r.t.Context()), "drop owned by "+r.slot+"; drop role "+r.slot)
		assert.NoError(r.t, err)
	})
	return r.slot, "STREAMER_POSTGRES_DSN=" + r.as(r.slot)
}

// as is the DSN for another user.
func (r *rig) as(user string) string {
	r.t.Helper()
	dsn := strings.Replace(r.dsn, "postgres@", user+"@", 1)
	require.Contains(r.t, dsn, user+"@")
	return dsn
}

// setup runs the command with the rig's configuration.
func (r *rig) setup(command Command, more ...string) result {
	r.t.Helper()
	if command.Timeout == 0 {
		command.Timeout = time.Minute
	}
	return execute(r.t.Context(), command, slices.Concat(r.environ, more)...)
}

// fakeKafka starts a fake with one broker. It returns the setting that names it.
func fakeKafka(t *testing.T, options ...kfake.Opt) (fake.Cluster, string) {
	t.Helper()
	cluster := fake.Start(t, append([]kfake.Opt{kfake.NumBrokers(1)}, options...)...)
	return cluster, "STREAMER_KAFKA_BROKERS=" + strings.Join(cluster.Brokers(), ",")
}
