package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/internal/kafkatest"
	"github.com/outboxstream/streamer/internal/pgtest"
	"github.com/outboxstream/streamer/replication"
)

// BenchmarkReplay publishes a million events, ten a transaction, that wait when
// the streamer starts, and then replays them, as fast as it goes:
//
//	go test ./e2e -run '^$' -bench Replay -benchtime 1x -timeout 20m
func BenchmarkReplay(b *testing.B) {
	const events = 1_000_000
	server, cluster := pgtest.New(b, pgtest.Options{Settings: map[string]string{"max_wal_size": "8GB", "autovacuum": "off"}}), kafkatest.New(b, kafkatest.Options{})
	dsn := server.CreateDatabase(b)
	db, err := pgx.Connect(b.Context(), dsn)
	require.NoError(b, err)
	b.Cleanup(func() { _ = db.Close(context.WithoutCancel(b.Context())) })
	exec := func(sql string) {
		b.Helper()
		_, err := db.Exec(b.Context(), sql)
		require.NoError(b, err)
	}
	exec(outboxTable)
	exec("create publication streamer for table outbox with (publish = 'insert')")
	exec("select pg_create_logical_replication_slot('streamer', 'pgoutput')")
	flags := []string{
		"--set", "postgres.dsn=" + dsn, "--set", "kafka.brokers=" + strings.Join(cluster.Brokers(), ","), "--set", "kafka.topics.create=true",
		"--set", "kafka.topics.partitions=8", "--set", "kafka.topics.replication_factor=1", "--set", "checkpoint.store=file",
		"--set", "checkpoint.file.path=" + filepath.Join(b.TempDir(), "checkpoint"), "--set", "http.listen=", "--set", "rewind.keep=1h",
	}
	exists := func() (found bool) {
		require.NoError(b, db.QueryRow(b.Context(), "select exists(select from pg_replication_slots where slot_name = $1)", replication.RewindSlot("streamer")).Scan(&found))
		return found
	}
	stream := benchStreamer(b, flags)
	require.Eventually(b, exists, patience, 20*time.Millisecond)
	stream()
	exec(fmt.Sprintf(`do $$ begin for i in 1..%d loop
		insert into outbox (aggregatetype, aggregateid, type, payload)
			select 'order', 'o' || (10 * i + n) %% 5000, 't', jsonb_build_object('n', 10 * i + n, 'pad', repeat(md5((10 * i + n)::text), 8)) from generate_series(1, 10) n;
		commit; end loop; end $$`, events/10))
	var end string
	require.NoError(b, db.QueryRow(b.Context(), "select pg_current_wal_insert_lsn()::text").Scan(&end))
	for b.Loop() {
		began := time.Now()
		stream = benchStreamer(b, flags)
		require.Eventually(b, func() (reached bool) {
			require.NoError(b, db.QueryRow(b.Context(), "select confirmed_flush_lsn >= $1::pg_lsn from pg_replication_slots where slot_name = 'streamer'", end).Scan(&reached))
			return reached
		}, 5*time.Minute, 10*time.Millisecond)
		first := time.Since(began)
		stream()
		replayed, peak := benchReplay(b, flags, events)
		b.ReportMetric(events/first.Seconds(), "first-events/s")
		b.ReportMetric(events/replayed.Seconds(), "replayed-events/s")
		b.ReportMetric(first.Seconds()/replayed.Seconds(), "ratio")
		b.ReportMetric(peak, "peak-MiB")
	}
}

// benchStreamer starts a streamer; the returned function stops it.
func benchStreamer(b *testing.B, flags []string) (stop func()) {
	b.Helper()
	var log syncBuffer
	cmd := exec.CommandContext(b.Context(), binary, append([]string{"run"}, flags...)...)
	cmd.Stderr = &log
	require.NoError(b, cmd.Start())
	return func() {
		require.NoError(b, cmd.Process.Signal(syscall.SIGTERM))
		require.NoError(b, cmd.Wait(), log.String())
	}
}

// benchReplay replays everything and tells how long that took, from the start of
// the process, and how much memory.
func benchReplay(b *testing.B, flags []string, events int64) (took time.Duration, peakMiB float64) {
	b.Helper()
	began := time.Now()
	cmd := exec.CommandContext(b.Context(), binary, append([]string{"replay", "--from", "beginning", "--rate", "0", "--json"}, flags...)...)
	var output bytes.Buffer
	cmd.Stdout = &output
	require.NoError(b, cmd.Start())
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	for running := true; running; {
		select {
		case err := <-done:
			require.NoError(b, err, output.String())
			running = false
		case <-time.After(20 * time.Millisecond):
			peakMiB = max(peakMiB, residentPeak(cmd.Process.Pid))
		}
	}
	took = time.Since(began)
	var result struct{ Events int64 }
	require.NoError(b, json.Unmarshal(output.Bytes(), &result))
	require.Equal(b, events, result.Events)
	return took, peakMiB
}

// residentPeak is the peak of a running process's memory in MiB, on Linux. What
// is told of one that has ended includes what its parent had when it started it.
func residentPeak(pid int) float64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	_, after, _ := strings.Cut(string(text), "VmHWM:")
	fields := strings.Fields(after)
	if len(fields) == 0 {
		return 0
	}
	kilobytes, _ := strconv.ParseFloat(fields[0], 64) // a line of the kernel's
	return kilobytes / 1024
}
