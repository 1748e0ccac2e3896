package telemetry

import (
	"compress/gzip"
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metricspb "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	tracepb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	spanpb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/outboxstream/streamer/router"
)

// collector receives what is exported.
type collector struct {
	*httptest.Server
	mu      sync.Mutex
	traces  []*tracepb.ExportTraceServiceRequest
	metrics []*metricspb.ExportMetricsServiceRequest
	headers http.Header
}

func newCollector(t *testing.T) *collector {
	t.Helper()
	c := &collector{}
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.headers = r.Header
		var body io.Reader = r.Body
		if r.Header.Get("Content-Encoding") == "gzip" {
			unpacked, err := gzip.NewReader(r.Body)
			if !assert.NoError(t, err) {
				return
			}
			body = unpacked
		}
		content, err := io.ReadAll(body)
		assert.NoError(t, err)
		switch r.URL.Path {
		case "/v1/traces":
			var request tracepb.ExportTraceServiceRequest
			assert.NoError(t, proto.Unmarshal(content, &request))
			c.traces = append(c.traces, &request)
		case "/v1/metrics":
			var request metricspb.ExportMetricsServiceRequest
			assert.NoError(t, proto.Unmarshal(content, &request))
			c.metrics = append(c.metrics, &request)
		default:
			w.WriteHeader(http.StatusNotFound)
		}
		w.Header().Set("Content-Type", "application/x-protobuf")
	}))
	t.Cleanup(c.Close)
	return c
}

func config(endpoint string) Config {
	return Config{
		Endpoint: endpoint, Headers: func(context.Context) (string, error) { return "x-key = canary", nil },
		Interval: time.Hour, Gatherer: prometheus.NewRegistry(), Service: "streamer", Version: "test", Slot: "s",
		Log: slog.New(slog.DiscardHandler),
	}
}

func attributes(list []*commonpb.KeyValue) map[string]string {
	all := map[string]string{}
	for _, a := range list {
		all[a.GetKey()] = a.GetValue().String()
	}
	return all
}

func TestSpanOfABatch(t *testing.T) {
	t.Parallel()
	at := newCollector(t)
	c := config(at.URL)
	c.Traces = true
	telemetry, err := Start(t.Context(), c)
	require.NoError(t, err)
	opened := time.Now().Add(-time.Second)
	from := []router.Trace{{TraceID: [16]byte{1}, SpanID: [8]byte{2}}, {TraceID: [16]byte{3}, SpanID: [8]byte{4}}}
	telemetry.Published(
		router.Publication{Topic: "orders", Partition: 7, Events: 3, Bytes: 100, Opened: opened, OldestCommit: opened, Traces: from},
	)
	telemetry.Published(router.Publication{Topic: "orders", Partition: 8, Events: 1, Opened: opened}) // none of its events is sampled
	require.NoError(t, telemetry.Stop(t.Context()))

	require.Len(t, at.traces, 1)
	require.Len(t, at.traces[0].GetResourceSpans(), 1)
	of := at.traces[0].GetResourceSpans()[0]
	assert.Contains(t, attributes(of.GetResource().GetAttributes())["streamer.slot"], `"s"`)
	require.Len(t, of.GetScopeSpans(), 1)
	require.Len(t, of.GetScopeSpans()[0].GetSpans(), 1)
	span := of.GetScopeSpans()[0].GetSpans()[0]
	assert.Equal(t, "send orders", span.GetName())
	assert.Equal(t, spanpb.Span_SPAN_KIND_PRODUCER, span.GetKind())
	assert.EqualValues(t, opened.UnixNano(), span.GetStartTimeUnixNano())
	assert.GreaterOrEqual(t, span.GetEndTimeUnixNano()-span.GetStartTimeUnixNano(), uint64(time.Second))
	require.Len(t, span.GetLinks(), 2)
	for i, link := range span.GetLinks() {
		assert.Equal(t, from[i].TraceID[:], link.GetTraceId())
		assert.Equal(t, from[i].SpanID[:], link.GetSpanId())
	}
	said := attributes(span.GetAttributes())
	assert.Contains(t, said["messaging.destination.name"], `"orders"`)
	assert.Contains(t, said["messaging.destination.partition.id"], "7")
	assert.Contains(t, said["messaging.batch.message_count"], "3")
	assert.Equal(t, "canary", at.headers.Get("x-key"))
}

func TestMetricsAreExported(t *testing.T) {
	t.Parallel()
	at := newCollector(t)
	registry := prometheus.NewRegistry()
	counter := prometheus.NewCounter(prometheus.CounterOpts{Name: "streamer_test_total", Help: "for a test"})
	registry.MustRegister(counter)
	counter.Add(42)
	c := config(at.URL)
	c.Metrics, c.Gatherer = true, registry
	telemetry, err := Start(t.Context(), c)
	require.NoError(t, err)
	require.NoError(t, telemetry.Stop(t.Context()))
	require.NotEmpty(t, at.metrics)
	assert.Contains(t, at.metrics[0].String(), "streamer_test_total")
	assert.Contains(t, at.metrics[0].String(), "as_double:42")
	assert.Empty(t, at.traces)
}

// An unreachable collector costs nothing but a log message.
func TestCollectorIsAway(t *testing.T) {
	t.Parallel()
	at := newCollector(t)
	at.Close()
	c := config(at.URL)
	c.Traces, c.Metrics = true, true
	telemetry, err := Start(t.Context(), c)
	require.NoError(t, err)
	began := time.Now()
	for range 10_000 {
		telemetry.Published(router.Publication{Topic: "orders", Traces: make([]router.Trace, 1)})
	}
	assert.Less(t, time.Since(began), 5*time.Second, "it waits for nothing")
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	assert.Error(t, telemetry.Stop(ctx))
}

func TestWrongHeaders(t *testing.T) {
	t.Parallel()
	c := config("http://127.0.0.1:1")
	c.Headers = func(context.Context) (string, error) { return "canary", nil }
	_, err := Start(t.Context(), c)
	require.ErrorContains(t, err, "otlp.headers: not comma-separated key=value pairs")
	assert.NotContains(t, err.Error(), "canary")
}
