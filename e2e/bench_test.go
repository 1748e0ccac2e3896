package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/internal/kafkatest"
	"github.com/outboxstream/streamer/internal/pgtest"
)

// benchRig is a server with an outbox, topics, and a streamer's configuration.
type benchRig struct {
	b     *testing.B
	db    *pgx.Conn
	dsn   string
	flags []string

	brokers []string
}

func newBenchRig(b *testing.B, table string, settings ...string) *benchRig {
	b.Helper()
	server, cluster := pgtest.New(b, pgtest.Options{
		Settings: map[string]string{"max_wal_size": "8GB", "autovacuum": "off"},
	}), kafkatest.New(b, kafkatest.Options{})
	r := &benchRig{b: b, dsn: server.CreateDatabase(b), brokers: cluster.Brokers()}
	r.db = r.connect()
	r.exec(table)
	r.exec("create publication streamer for table outbox with (publish = 'insert')")
	r.exec("select pg_create_logical_replication_slot('streamer', 'pgoutput')")
	r.set("postgres.dsn="+r.dsn, "kafka.brokers="+strings.Join(cluster.Brokers(), ","), "kafka.topics.create=true",
		"kafka.topics.partitions=8", "kafka.topics.replication_factor=1", "checkpoint.store=file",
		"checkpoint.file.path="+filepath.Join(b.TempDir(), "checkpoint"), "http.listen=")
	r.set(settings...)
	return r
}

// set changes the configuration of every process that is started later.
func (r *benchRig) set(settings ...string) {
	for _, s := range settings {
		r.flags = append(r.flags, "--set", s)
	}
}

// fill commits events of 5,000 aggregates, ten in each transaction.
func (r *benchRig) fill(events int) {
	r.b.Helper()
	r.exec(fmt.Sprintf(`do $$ begin for i in 1..%d loop
		insert into outbox (aggregatetype, aggregateid, type, payload)
			select 'order', 'o' || (10 * i + n) %% 5000, 't', `+
		`jsonb_build_object('n', 10 * i + n, 'pad', repeat(md5((10 * i + n)::text), 8)) from generate_series(1, 10) n;
		commit; end loop; end $$`, events/10))
}

func (r *benchRig) connect() *pgx.Conn {
	r.b.Helper()
	db, err := pgx.Connect(r.b.Context(), r.dsn)
	require.NoError(r.b, err)
	r.b.Cleanup(func() { _ = db.Close(context.WithoutCancel(r.b.Context())) })
	return db
}

func (r *benchRig) exec(sql string) {
	r.b.Helper()
	_, err := r.db.Exec(r.b.Context(), sql)
	require.NoError(r.b, err)
}

// confirmed waits until everything that is in the WAL now has been published
// through a slot.
func (r *benchRig) confirmed(slot string) {
	r.b.Helper()
	var end string
	require.NoError(r.b, r.db.QueryRow(r.b.Context(), "select pg_current_wal_flush_lsn()::text").Scan(&end))
	require.Eventually(r.b, func() (reached bool) {
		require.NoError(r.b, r.db.QueryRow(r.b.Context(), "select confirmed_flush_lsn >= $1::pg_lsn "+
			"from pg_replication_slots where slot_name = $2", end, slot).Scan(&reached))
		return reached
	}, 5*time.Minute, 10*time.Millisecond)
}

// stream starts a streamer. The returned function stops it and returns the
// state of the ended process.
func (r *benchRig) stream() (stop func() *os.ProcessState) {
	r.b.Helper()
	var log syncBuffer
	cmd := exec.CommandContext(r.b.Context(), binary, append([]string{"run"}, r.flags...)...)
	cmd.Stderr = &log
	require.NoError(r.b, cmd.Start())
	return func() *os.ProcessState {
		require.NoError(r.b, cmd.Process.Signal(syscall.SIGTERM))
		require.NoError(r.b, cmd.Wait(), log.String())
		return cmd.ProcessState
	}
}
