package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/internal/testserver"
	"github.com/outboxstream/streamer/replication"
)

// newReplayBench is a rig whose events are kept for a replay.
func newReplayBench(b *testing.B, events int, settings ...string) *benchRig {
	b.Helper()
	r := newBenchRig(b, outboxTable, append(settings, "rewind.keep=1h")...)
	stop := r.stream()
	require.Eventually(b, func() (found bool) {
		require.NoError(b, r.db.QueryRow(b.Context(), "select exists(select from pg_replication_slots "+
			"where slot_name = $1)", replication.RewindSlot("streamer")).Scan(&found))
		return found
	}, patience, 20*time.Millisecond)
	stop()
	r.fill(events)
	return r
}

// BenchmarkReplay publishes a million events, ten in each transaction, that
// wait when the streamer starts. It then replays them as fast as possible:
//
//	go test ./e2e -run '^$' -bench Replay$ -benchtime 1x -timeout 20m
func BenchmarkReplay(b *testing.B) {
	const events = 1_000_000
	r := newReplayBench(b, events)
	for b.Loop() {
		began := time.Now()
		stop := r.stream()
		r.confirmed("streamer")
		first := time.Since(began)
		stop()
		replayed, peak := benchReplay(b, r.flags, events)
		b.ReportMetric(events/first.Seconds(), "first-events/s")
		b.ReportMetric(events/replayed.Seconds(), "replayed-events/s")
		b.ReportMetric(first.Seconds()/replayed.Seconds(), "ratio")
		b.ReportMetric(peak, "peak-MiB")
	}
}

// BenchmarkLatencyDuringReplay measures the time from commit to acknowledgement
// at 1,000 events a second, alone and while a replay runs at its default rate:
//
//	go test ./e2e -run '^$' -bench LatencyDuringReplay -benchtime 1x -timeout 20m
func BenchmarkLatencyDuringReplay(b *testing.B) {
	ports, err := testserver.FreePorts(1)
	require.NoError(b, err)
	address := fmt.Sprintf("127.0.0.1:%d", ports[0])
	r := newReplayBench(b, 400_000, "http.listen="+address)
	stop := r.stream()
	r.confirmed("streamer")
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

// latency writes 1,000 rows a second for some time. It returns the 50th and the
// 99th percentile of the time from commit to acknowledgement, in seconds, from
// the streamer's own histogram.
func (r *benchRig) latency(address string) [2]float64 {
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

// histogram returns the cumulative count of each bucket by upper bound.
func (r *benchRig) histogram(address string) (buckets [][2]float64) {
	r.b.Helper()
	response, err := get(r.b, "http://"+address+"/metrics")
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

// benchReplay replays everything. It returns how long the replay took, from the
// start of the process, and its peak memory.
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

// residentPeak returns the peak of a running process's memory in MiB, on Linux.
// The figure for an ended process includes what its parent had when it started
// the process.
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
	kilobytes, _ := strconv.ParseFloat(fields[0], 64) // the line comes from the kernel
	return kilobytes / 1024
}
