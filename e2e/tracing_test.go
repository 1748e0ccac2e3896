package e2e

import (
	"bytes"
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A request's trace continues in the record's headers, and a span of the batch
// is linked to it.
func TestTraceGoesThroughTheOutbox(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var spans, metrics []byte
	collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, request *http.Request) {
		body, err := io.ReadAll(request.Body)
		assert.NoError(t, err)
		mu.Lock()
		defer mu.Unlock()
		if request.URL.Path == "/v1/metrics" {
			metrics = append(metrics, body...)
		} else {
			spans = append(spans, body...)
		}
	}))
	t.Cleanup(collector.Close)
	r := newRig(t, `create table outbox (id uuid primary key default gen_random_uuid(), `+
		`aggregatetype text, aggregateid text, type text, payload jsonb, traceparent text)`,
		withConfig("outbox.columns.traceparent=traceparent", "otlp.endpoint="+collector.URL, "otlp.metrics=true"))
	p := r.withPassword().startReady()
	const sampled, other = "0af7651916cd43dd8448eb211c80319c", "1bf7651916cd43dd8448eb211c80319c"
	r.exec("insert into outbox (aggregatetype, aggregateid, type, payload, traceparent) "+
		"values ('order', 'o1', 't', $3, $1), ('order', 'o1', 't', '{}', $2)",
		"00-"+sampled+"-b7ad6b7169203331-01", "00-"+other+"-b7ad6b7169203331-00", `"`+payloadCanary+`"`)
	m := r.await(p, "order", 2)[0]
	assert.Equal(t, "00-"+sampled+"-b7ad6b7169203331-01", header(m, "traceparent"))
	assert.Zero(t, p.stop())
	mu.Lock()
	defer mu.Unlock()
	id, err := hex.DecodeString(sampled)
	require.NoError(t, err)
	assert.True(t, bytes.Contains(spans, id), "the span is linked to the sampled trace")
	assert.Contains(t, string(spans), "send "+r.topic("order"))
	id, err = hex.DecodeString(other)
	require.NoError(t, err)
	assert.False(t, bytes.Contains(spans, id))
	assert.Contains(t, string(metrics), "streamer_events_produced_total")
	for _, canary := range []string{payloadCanary, passwordCanary} {
		assert.NotContains(t, string(spans)+string(metrics), canary)
	}
}

// The streamer reports once that a collector is away, and the stream continues.
func TestCollectorIsAway(t *testing.T) {
	t.Parallel()
	collector := httptest.NewServer(http.NotFoundHandler())
	collector.Close()
	r := newRig(t, outboxTable,
		withConfig("otlp.endpoint="+collector.URL, "otlp.metrics=true", "otlp.interval=200ms", "otlp.headers=x=canary"))
	p := r.startReady()
	p.logged("telemetry could not be sent")
	r.numbered("o1", 1, 2, 3)
	r.published(p, "o1", 1, 2, 3)
	assert.Zero(t, p.stop())
	assert.NotContains(t, p.log.String(), "canary")
}
