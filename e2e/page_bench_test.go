package e2e

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/internal/testserver"
)

// watchers is how many have the status page open.
const watchers = 10

// BenchmarkPage publishes a million events that wait when the streamer starts.
// Runs alternate between nobody and ten viewers of the status page. Then it
// compares the memory of one process, before and with ten viewers, while a few
// events flow.
//
//	go test ./e2e -run '^$' -bench Page -benchtime 6x -timeout 30m
func BenchmarkPage(b *testing.B) {
	const events = 1_000_000
	ports, err := testserver.FreePorts(1)
	require.NoError(b, err)
	address := fmt.Sprintf("127.0.0.1:%d", ports[0])
	r := newBenchRig(b, `create table outbox (id uuid primary key default gen_random_uuid(), `+
		`aggregatetype text, aggregateid text, type text, payload jsonb)`, "http.listen="+address, "http.pprof=true")
	r.fill(events)
	plain := slices.Clone(r.flags)
	var rates, work [2][]float64 // unwatched, watched
	var ratios []float64
	for i := 0; b.Loop(); i++ {
		var rate [2]float64
		for turn := range 2 {
			watched := (turn + i) % 2
			r.flags = slices.Clone(plain)
			seen := &atomic.Int64{}
			beside := func(ctx context.Context) {
				if watched == 1 {
					watchPage(ctx, address, seen)
				}
			}
			run := fmt.Sprintf("run_%d_%d", i, watched)
			r.set("kafka.topic=" + run + ".{aggregate_type}") // its first start reads what topics hold
			took, cpu := r.publishAll(run, beside)
			require.Equal(b, watched == 1, seen.Load() > 0)
			rate[watched] = events / took.Seconds()
			rates[watched] = append(rates[watched], rate[watched])
			work[watched] = append(work[watched], float64(cpu.Nanoseconds())/events)
		}
		ratios = append(ratios, rate[1]/rate[0])
		b.Logf("round %d: %.0f events/s without, %.0f with %d viewers", i, rate[0], rate[1], watchers)
	}
	for watched, name := range []string{"unwatched", "watched"} {
		b.ReportMetric(median(rates[watched]), name+"-events/s")
		b.ReportMetric(median(work[watched]), name+"-client-ns/event")
	}
	b.ReportMetric(median(ratios), "rate-ratio")
	b.ReportMetric(median(work[1])/median(work[0]), "client-cpu-ratio")
	r.flags = plain
	r.weighPage(address)
}

// weighPage reports how much more memory a process takes with viewers.
func (r *benchRig) weighPage(address string) {
	r.b.Helper()
	r.exec("select pg_create_logical_replication_slot('weighed', 'pgoutput')")
	r.set("postgres.slot=weighed", "kafka.topic=weighed.{aggregate_type}", "checkpoint.file.path="+filepath.Join(r.b.TempDir(), "weighed"))
	stop := r.stream()
	defer stop()
	r.confirmed("weighed")
	few := func(d time.Duration) {
		for until := time.Now().Add(d); time.Now().Before(until); {
			r.exec("insert into outbox (aggregatetype, aggregateid, type, payload) values ('order', 'o', 't', '{}')")
			<-time.After(20 * time.Millisecond)
		}
	}
	few(20 * time.Second)
	heap, resident, _ := weigh(r.b, address)
	ctx, cancel := context.WithCancel(r.b.Context())
	var watching sync.WaitGroup
	seen := &atomic.Int64{}
	watching.Go(func() { watchPage(ctx, address, seen) })
	few(30 * time.Second)
	heapWatched, residentWatched, sent := weigh(r.b, address)
	received := seen.Load()
	cancel()
	watching.Wait()
	require.Positive(r.b, received)
	r.b.ReportMetric((heapWatched-heap)/1e6, "heap-MB-more")
	r.b.ReportMetric((residentWatched-resident)/1e6, "resident-MB-more")
	r.b.ReportMetric(float64(received)/30/watchers, "bytes/s/viewer")
	r.b.Logf("live heap and stacks %.2f → %.2f MB, resident %.1f → %.1f MB, %.1f MB allocated", heap/1e6, heapWatched/1e6,
		resident/1e6, residentWatched/1e6, sent/1e6)
}

// weigh returns the bytes of the heap that are in use and of stacks, after a
// collection, the resident memory, and what was allocated since the start.
func weigh(b *testing.B, address string) (heap, resident, allocated float64) {
	b.Helper()
	families := map[string]float64{}
	for _, path := range []string{"/debug/pprof/heap?gc=1", "/metrics"} {
		response, err := get(b, "http://"+address+path)
		require.NoError(b, err)
		text, err := io.ReadAll(response.Body)
		_ = response.Body.Close()
		require.NoError(b, err)
		require.Equal(b, http.StatusOK, response.StatusCode)
		for line := range bytes.Lines(text) {
			if name, value, ok := strings.Cut(strings.TrimSpace(string(line)), " "); ok && path == "/metrics" {
				families[name], _ = strconv.ParseFloat(value, 64)
			}
		}
	}
	return families["go_memstats_heap_alloc_bytes"] + families["go_memstats_stack_inuse_bytes"], families["process_resident_memory_bytes"],
		families["go_memstats_alloc_bytes_total"]
}

// watchPage opens the status page as browsers do, once for each viewer, and
// reads what comes until ctx ends.
func watchPage(ctx context.Context, address string, received *atomic.Int64) {
	var viewing sync.WaitGroup
	defer viewing.Wait()
	for range watchers {
		viewing.Go(func() {
			for ctx.Err() == nil {
				for _, path := range []string{"/", "/page/live"} {
					_ = readLines(ctx, "http://"+address+path, received)
				}
				select { // it has not started yet
				case <-ctx.Done():
				case <-time.After(50 * time.Millisecond):
				}
			}
		})
	}
}

// readLines reads a response to its end.
func readLines(ctx context.Context, url string, received *atomic.Int64) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	for lines := bufio.NewReader(response.Body); ; {
		line, err := lines.ReadSlice('\n')
		received.Add(int64(len(line)))
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return err
		}
	}
}
