package e2e

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
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
	"github.com/outboxstream/streamer/internal/testserver"
	"github.com/outboxstream/streamer/replication"
)

// replayBench is a server with a past, and a streamer's configuration.
type replayBench struct {
	b     *testing.B
	db    *pgx.Conn
	dsn   string
	flags []string
}

func newReplayBench(b *testing.B, events int, settings ...string) *replayBench {
	b.Helper()
	server, cluster := pgtest.New(b, pgtest.Options{Settings: map[string]string{"max_wal_size": "8GB", "autovacuum": "off"}}), kafkatest.New(b, kafkatest.Options{})
	r := &replayBench{b: b, dsn: server.CreateDatabase(b)}
	r.db = r.connect()
	r.exec(outboxTable)
	r.exec("create publication streamer for table outbox with (publish = 'insert')")
	r.exec("select pg_create_logical_replication_slot('streamer', 'pgoutput')")
	for _, s := range append([]string{
		"postgres.dsn=" + r.dsn, "kafka.brokers=" + strings.Join(cluster.Brokers(), ","), "kafka.topics.create=true",
		"kafka.topics.partitions=8", "kafka.topics.replication_factor=1", "checkpoint.store=file",
		"checkpoint.file.path=" + filepath.Join(b.TempDir(), "checkpoint"), "http.listen=", "rewind.keep=1h",
	}, settings...) {
		r.flags = append(r.flags, "--set", s)
	}
	stop := benchStreamer(b, r.flags)
	require.Eventually(b, func() (found bool) {
		require.NoError(b, r.db.QueryRow(b.Context(), "select exists(select from pg_replication_slots where slot_name = $1)", replication.RewindSlot("streamer")).Scan(&found))
		return found
	}, patience, 20*time.Millisecond)
	stop()
	r.exec(fmt.Sprintf(`do $$ begin for i in 1..%d loop
		insert into outbox (aggregatetype, aggregateid, type, payload)
			select 'order', 'o' || (10 * i + n) %% 5000, 't', jsonb_build_object('n', 10 * i + n, 'pad', repeat(md5((10 * i + n)::text), 8)) from generate_series(1, 10) n;
		commit; end loop; end $$`, events/10))
	return r
}

func (r *replayBench) connect() *pgx.Conn {
	r.b.Helper()
	db, err := pgx.Connect(r.b.Context(), r.dsn)
	require.NoError(r.b, err)
	r.b.Cleanup(func() { _ = db.Close(context.WithoutCancel(r.b.Context())) })
	return db
}

func (r *replayBench) exec(sql string) {
	r.b.Helper()
	_, err := r.db.Exec(r.b.Context(), sql)
	require.NoError(r.b, err)
}

// confirmed waits until everything that is in the log now has been published.
func (r *replayBench) confirmed() {
	r.b.Helper()
	var end string
	require.NoError(r.b, r.db.QueryRow(r.b.Context(), "select pg_current_wal_flush_lsn()::text").Scan(&end))
	require.Eventually(r.b, func() (reached bool) {
		require.NoError(r.b, r.db.QueryRow(r.b.Context(), "select confirmed_flush_lsn >= $1::pg_lsn from pg_replication_slots where slot_name = 'streamer'", end).Scan(&reached))
		return reached
	}, 5*time.Minute, 10*time.Millisecond)
}

// BenchmarkReplay publishes a million events, ten a transaction, that wait when
// the streamer starts, and then replays them, as fast as it goes:
//
//	go test ./e2e -run '^$' -bench Replay$ -benchtime 1x -timeout 20m
func BenchmarkReplay(b *testing.B) {
	const events = 1_000_000
	r := newReplayBench(b, events)
	for b.Loop() {
		began := time.Now()
		stop := benchStreamer(b, r.flags)
		r.confirmed()
		first := time.Since(began)
		stop()
		replayed, peak := benchReplay(b, r.flags, events)
		b.ReportMetric(events/first.Seconds(), "first-events/s")
		b.ReportMetric(events/replayed.Seconds(), "replayed-events/s")
		b.ReportMetric(first.Seconds()/replayed.Seconds(), "ratio")
		b.ReportMetric(peak, "peak-MiB")
	}
}

// BenchmarkLatencyDuringReplay measures commit to acknowledgement at 1,000
// events a second, alone and while a replay runs at its default rate:
//
//	go test ./e2e -run '^$' -bench LatencyDuringReplay -benchtime 1x -timeout 20m
func BenchmarkLatencyDuringReplay(b *testing.B) {
	ports, err := testserver.FreePorts(1)
	require.NoError(b, err)
	address := fmt.Sprintf("127.0.0.1:%d", ports[0])
	r := newReplayBench(b, 400_000, "http.listen="+address)
	stop := benchStreamer(b, r.flags)
	r.confirmed()
	for b.Loop() {
		alone := r.latency(address)
		replay := exec.CommandContext(b.Context(), binary, append([]string{"replay", "--from", "beginning"}, r.flags...)...)
		require.NoError(b, replay.Start())
		during := r.latency(address)
		require.NoError(b, replay.Process.Signal(syscall.SIGTERM), "it still runs")
		_ = replay.Wait() // it was interrupted
		for i, name := range []string{"p50", "p99"} {
			b.ReportMetric(alone[i]*1000, "alone-"+name+"-ms")
			b.ReportMetric(during[i]*1000, "during-"+name+"-ms")
		}
	}
	stop()
}

// latency writes 1,000 rows a second for some time, and gives the 50th and the
// 99th percentile of commit to acknowledgement, in seconds, as the streamer's own
// histogram has them.
func (r *replayBench) latency(address string) [2]float64 {
	r.b.Helper()
	const rows = 15_000
	before := r.histogram(address)
	pace := time.NewTicker(time.Millisecond)
	defer pace.Stop()
	for range rows {
		r.exec("insert into outbox (aggregatetype, aggregateid, type, payload) values ('order', 'live', 't', '{}')")
		<-pace.C
	}
	after := r.histogram(address)
	var percentiles [2]float64
	for i, q := range []float64{.5, .99} {
		percentiles[i] = quantile(q, before, after)
	}
	return percentiles
}

// histogram is the cumulated count of each bucket's upper bound.
func (r *replayBench) histogram(address string) (buckets [][2]float64) {
	r.b.Helper()
	request, err := http.NewRequestWithContext(r.b.Context(), http.MethodGet, "http://"+address+"/metrics", nil)
	require.NoError(r.b, err)
	response, err := http.DefaultClient.Do(request)
	require.NoError(r.b, err)
	defer response.Body.Close()
	for lines := bufio.NewScanner(response.Body); lines.Scan(); {
		bucket, found := strings.CutPrefix(lines.Text(), `streamer_end_to_end_latency_seconds_bucket{le="`)
		if !found {
			continue
		}
		bound, count, _ := strings.Cut(bucket, `"} `)
		le, err := strconv.ParseFloat(bound, 64)
		require.NoError(r.b, err)
		n, err := strconv.ParseFloat(count, 64)
		require.NoError(r.b, err)
		buckets = append(buckets, [2]float64{le, n})
	}
	return buckets
}

// quantile interpolates within a bucket, as Prometheus does.
func quantile(q float64, before, after [][2]float64) float64 {
	count := func(i int) float64 { return after[i][1] - before[i][1] }
	rank := q * count(len(after)-1)
	low, below := 0.0, 0.0
	for i := range after {
		if n := count(i); n >= rank {
			return low + (after[i][0]-low)*(rank-below)/max(1, n-below)
		}
		low, below = after[i][0], count(i)
	}
	return low
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
