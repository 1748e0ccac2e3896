package browser

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/outboxstream/streamer/internal/kafkatest/fake"
	"github.com/outboxstream/streamer/internal/pgtest"
	"github.com/outboxstream/streamer/internal/testserver"
)

// patience bounds every wait for something that must happen.
const patience = 40 * time.Second

// rig is an outbox with a slot, a Kafka of its own, and the streamers between
// them.
type rig struct {
	t       *testing.T
	kafka   fake.Cluster
	db      *pgx.Conn
	dsn     string
	slot    string
	folder  string
	address string // of the first streamer
}

var rigs atomic.Int64

func newRig(t *testing.T) *rig {
	t.Helper()
	return newRigOn(t, pgtest.Shared(t))
}

func newRigOn(t *testing.T, server *pgtest.Server) *rig {
	t.Helper()
	r := &rig{
		t: t, kafka: fake.Start(t, kfake.NumBrokers(1)), dsn: server.CreateDatabase(t),
		slot: fmt.Sprintf("slot_%d", rigs.Add(1)), folder: t.TempDir(), address: address(t),
	}
	r.db = r.open()
	r.exec(`create table outbox (id uuid primary key default gen_random_uuid(),
		aggregatetype text, aggregateid text, type text, payload jsonb)`)
	r.exec("create publication streamer for table outbox with (publish = 'insert')")
	r.exec("select pg_create_logical_replication_slot($1, 'pgoutput')", r.slot)
	return r
}

// address is where nobody listens yet.
func address(t *testing.T) string {
	t.Helper()
	ports, err := testserver.FreePorts(1)
	require.NoError(t, err)
	return fmt.Sprintf("127.0.0.1:%d", ports[0])
}

// open returns another connection to the database.
func (r *rig) open() *pgx.Conn {
	r.t.Helper()
	db, err := pgx.Connect(r.t.Context(), r.dsn)
	require.NoError(r.t, err)
	r.t.Cleanup(func() { _ = db.Close(context.WithoutCancel(r.t.Context())) })
	return db
}

func (r *rig) exec(sql string, arguments ...any) {
	r.t.Helper()
	_, err := r.db.Exec(r.t.Context(), sql, arguments...)
	require.NoError(r.t, err, sql)
}

// insert commits rows of an aggregate type.
func (r *rig) insert(aggregateType string, rows int) {
	r.t.Helper()
	r.exec(`insert into outbox (aggregatetype, aggregateid, type, payload)
		select $1, 'o' || n % 10, 't', jsonb_build_object('secret', 'c4n4ry-payload', 'n', n) from generate_series(1, $2) n`, aggregateType, rows)
}

// process is a running streamer.
type process struct {
	*testserver.Process
	log *buffer
}

// start starts a streamer at an address.
func (r *rig) start(address string) *process {
	r.t.Helper()
	arguments := []string{"run"}
	for _, s := range []string{
		"postgres.dsn=" + r.dsn, "postgres.slot=" + r.slot, "kafka.brokers=" + strings.Join(r.kafka.Brokers(), ","),
		"kafka.topic=shop.{aggregate_type}", "kafka.topics.create=true", "kafka.topics.partitions=3", "kafka.topics.replication_factor=1",
		"checkpoint.kafka.replication_factor=1", "checkpoint.interval=100ms", "poison.policy=dead-letter", "poison.topic=shop.dead-letters",
		"http.listen=" + address, "log.format=text", "retry.initial=50ms", "retry.max=500ms",
	} {
		arguments = append(arguments, "--set", s)
	}
	p := &process{log: &buffer{}}
	cmd := exec.CommandContext(context.WithoutCancel(r.t.Context()), binary, arguments...)
	cmd.Stdout, cmd.Stderr, cmd.Dir, cmd.Env = p.log, p.log, r.folder, []string{"PATH=" + os.Getenv("PATH"), "HOME=" + r.folder}
	var err error
	p.Process, err = testserver.StartProcess(cmd, syscall.SIGKILL)
	require.NoError(r.t, err)
	r.t.Cleanup(func() {
		p.Kill()
		if r.t.Failed() {
			r.t.Logf("log of the streamer at %s:\n%s", address, p.log)
		}
	})
	return p
}

// ready starts a streamer and waits until it streams or stands by.
func (r *rig) ready(address string) *process {
	r.t.Helper()
	p := r.start(address)
	eventually(r.t, "the streamer is ready", func() bool {
		request, err := http.NewRequestWithContext(r.t.Context(), http.MethodGet, "http://"+address+"/readyz", nil)
		require.NoError(r.t, err)
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return false
		}
		_ = response.Body.Close()
		return response.StatusCode == http.StatusOK
	})
	return p
}

func (p *process) stop(t *testing.T) {
	t.Helper()
	require.NoError(t, p.Signal(syscall.SIGTERM))
	select {
	case <-p.Done():
	case <-time.After(patience):
		t.Fatal("the streamer does not stop")
	}
}

// eventually polls until the condition holds.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !condition(); {
		if time.Now().After(deadline) {
			t.Fatalf("waited %s in vain until %s", patience, what)
		}
		<-time.After(50 * time.Millisecond)
	}
}

type buffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}
