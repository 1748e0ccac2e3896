package e2e

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/internal/testserver"
)

// BenchmarkObservation publishes a million events that wait when the streamer
// starts, one in a hundred of them with a sampled trace. Runs alternate between
// no observation and everything that can be observed: metrics, health and
// readiness queried every second, traces, and metrics sent to a collector every
// second.
//
//	go test ./e2e -run '^$' -bench Observation -benchtime 5x -timeout 20m
func BenchmarkObservation(b *testing.B) {
	const events = 1_000_000
	ports, err := testserver.FreePorts(1)
	require.NoError(b, err)
	address := fmt.Sprintf("127.0.0.1:%d", ports[0])
	collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, request *http.Request) {
		_, _ = io.Copy(io.Discard, request.Body)
	}))
	defer collector.Close()
	r := newBenchRig(b, `create table outbox (id uuid primary key default gen_random_uuid(), `+
		`aggregatetype text, aggregateid text, type text, payload jsonb,
		traceparent text default '00-' || md5(random()::text) || '-b7ad6b7169203331-0' || (random() < 0.01)::int)`,
		"outbox.columns.traceparent=traceparent")
	r.fill(events)
	plain := slices.Clone(r.flags)
	var rates, work [2][]float64 // unobserved, observed
	for i := 0; b.Loop(); i++ {
		for turn := range 2 {
			observed := (turn + i) % 2
			r.flags = slices.Clone(plain)
			if observed == 1 {
				r.set("http.listen="+address, "otlp.endpoint="+collector.URL, "otlp.metrics=true", "otlp.interval=1s")
			}
			beside := func(context.Context) {}
			if observed == 1 {
				beside = func(ctx context.Context) { askEverySecond(ctx, address) }
			}
			took, cpu := r.publishAll(fmt.Sprintf("run_%d_%d", i, observed), beside)
			rates[observed] = append(rates[observed], events/took.Seconds())
			work[observed] = append(work[observed], float64(cpu.Nanoseconds())/events)
		}
	}
	for observed, name := range []string{"unobserved", "observed"} {
		b.ReportMetric(median(rates[observed]), name+"-events/s")
		b.ReportMetric(median(work[observed]), name+"-client-ns/event")
	}
	b.ReportMetric(median(rates[1])/median(rates[0]), "rate-ratio")
	b.ReportMetric(median(work[1])/median(work[0]), "client-cpu-ratio")
}

// publishAll publishes what the slot holds, through a copy of the slot. What
// happens beside it ends with the context.
func (r *benchRig) publishAll(slot string, beside func(context.Context)) (took, cpu time.Duration) {
	r.b.Helper()
	r.exec("select pg_copy_logical_replication_slot('streamer', '" + slot + "')")
	r.set("postgres.slot="+slot, "checkpoint.file.path="+filepath.Join(r.b.TempDir(), slot))
	ctx, cancel := context.WithCancel(r.b.Context())
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	began := time.Now()
	stop := r.stream()
	running.Go(func() { beside(ctx) })
	r.confirmed(slot)
	took = time.Since(began)
	state := stop()
	r.exec("select pg_drop_replication_slot('" + slot + "')")
	return took, state.UserTime() + state.SystemTime()
}

// askEverySecond plays Prometheus and a supervisor. It discards the answers.
func askEverySecond(ctx context.Context, address string) {
	for tick := time.NewTicker(time.Second); ; {
		for _, path := range []string{"/metrics", "/healthz", "/readyz"} {
			request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+path, nil)
			if err != nil {
				return
			}
			if response, err := http.DefaultClient.Do(request); err == nil {
				_, _ = io.Copy(io.Discard, response.Body)
				_ = response.Body.Close()
			}
		}
		select {
		case <-ctx.Done():
			tick.Stop()
			return
		case <-tick.C:
		}
	}
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return (sorted[(len(sorted)-1)/2] + sorted[len(sorted)/2]) / 2
}
