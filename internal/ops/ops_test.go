package ops

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/internal/pipeline"
	"github.com/outboxstream/streamer/replication"
	"github.com/outboxstream/streamer/router"
)

// serve answers on a free port until the test ends.
func serve(t *testing.T, m *Metrics, status pipeline.Status) (address string) {
	t.Helper()
	return serveProfiles(t, false, m, status)
}

func serveProfiles(t *testing.T, profiles bool, m *Metrics, status pipeline.Status) (address string) {
	t.Helper()
	s, err := Listen("127.0.0.1:0", profiles, m, func() pipeline.Status { return status }, nil)
	require.NoError(t, err)
	served := make(chan error, 1)
	go func() { served <- s.Serve() }()
	t.Cleanup(func() {
		s.Close()
		require.NoError(t, <-served)
	})
	return "http://" + s.listener.Addr().String()
}

func get(t *testing.T, url string) (code int, body string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	require.NoError(t, err)
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	return response.StatusCode, string(text)
}

func TestProfilesAreOffUnlessAskedFor(t *testing.T) {
	t.Parallel()
	for profiles, want := range map[bool]int{false: http.StatusNotFound, true: http.StatusOK} {
		code, _ := get(t, serveProfiles(t, profiles, NewMetrics("test"), pipeline.Status{})+"/debug/pprof/heap?debug=1")
		assert.Equal(t, want, code)
	}
}

func TestReadiness(t *testing.T) {
	t.Parallel()
	for phase, want := range map[pipeline.Phase]int{
		pipeline.Streaming: http.StatusOK, pipeline.Standby: http.StatusOK, pipeline.Starting: http.StatusServiceUnavailable,
		pipeline.Blocked: http.StatusServiceUnavailable, pipeline.Waiting: http.StatusServiceUnavailable,
		pipeline.Draining: http.StatusServiceUnavailable,
	} {
		t.Run(string(phase), func(t *testing.T) {
			t.Parallel()
			address := serve(t, NewMetrics("test"), pipeline.Status{Phase: phase, Detail: "why", Since: time.Unix(1, 0)})
			code, body := get(t, address+"/readyz")
			assert.Equal(t, want, code)
			var health Health
			require.NoError(t, json.Unmarshal([]byte(body), &health))
			assert.Equal(
				t, Health{Ready: want == http.StatusOK, Phase: phase, Detail: "why", Since: time.Unix(1, 0)},
				Health{health.Ready, health.Phase, health.Detail, health.Since.Local()},
			)
			code, _ = get(t, address+"/healthz")
			assert.Equal(t, http.StatusOK, code, "alive, regardless of what it waits for")
		})
	}
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	m := NewMetrics("v1")
	address := serve(t, m, pipeline.Status{})
	m.Published(router.Publication{Topic: "orders", Events: 3, Bytes: 700, OldestCommit: time.Now().Add(-20 * time.Millisecond)})
	m.Reconnected()
	m.Skipped()
	m.Position(time.Unix(1700000000, 0), 42, 2)
	m.Slot(replication.Slot{Name: "s", Lag: 7, RetainedWAL: 9, Active: true})
	_, text := get(t, address+"/metrics")
	for _, line := range []string{
		`streamer_events_produced_total{topic="orders"} 3`, `streamer_bytes_produced_total{topic="orders"} 700`,
		`streamer_end_to_end_latency_seconds_count 1`, `streamer_reconnects_total 1`, `streamer_events_skipped_total 1`,
		`streamer_in_flight_bytes 42`, `streamer_in_flight_events 2`, `streamer_slot_lag_bytes{slot="s"} 7`,
		`streamer_slot_retained_wal_bytes{slot="s"} 9`, `streamer_slot_active{slot="s"} 1`, `streamer_build_info{version="v1"} 1`,
	} {
		assert.Contains(t, text, line+"\n")
	}
}

// Each start reports whether it keeps other instances out.
func TestExactlyOnceMetric(t *testing.T) {
	t.Parallel()
	m := NewMetrics("v1")
	address := serve(t, m, pipeline.Status{})
	for _, test := range []struct {
		reason string
		want   string
	}{{"", "1"}, {"not allowed", "0"}, {"", "1"}} {
		m.Resuming(test.reason)
		_, text := get(t, address+"/metrics")
		assert.Contains(t, text, "\nstreamer_exactly_once "+test.want+"\n")
	}
}

func TestListenOnATakenPort(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer taken.Close()
	_, err = Listen(taken.Addr().String(), false, NewMetrics("test"), nil, nil)
	require.ErrorContains(t, err, "http.listen")
	assert.Equal(t, failure.Misconfigured, failure.ClassOf(err))
}
