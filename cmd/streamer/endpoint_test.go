package main

import (
	"context"
	"log/slog"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/cmd/streamer/internal/site"
	"github.com/outboxstream/streamer/internal/config"
	"github.com/outboxstream/streamer/internal/ops"
	"github.com/outboxstream/streamer/internal/pipeline"
)

// endpoint serves what streamer run serves, without streaming.
func endpoint(t *testing.T, environ ...string) (address string, closeIt func()) {
	t.Helper()
	r := newRig(t, false, environ...)
	loaded, err := config.Load(config.Options{Environ: r.environ})
	require.NoError(t, err)
	metrics := ops.NewMetrics("test")
	log := slog.New(slog.DiscardHandler)
	p, err := pipeline.New(site.PipelineConfig(loaded.Config, log, metrics))
	require.NoError(t, err)
	closeIt, err = openEndpoint(t.Context(), loaded.Config, log, metrics, p, ops.NewJournal())
	require.NoError(t, err)
	return "http://" + r.listen, closeIt
}

func statusOf(t *testing.T, url string) int {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	require.NoError(t, err)
	response, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	defer response.Body.Close()
	return response.StatusCode
}

// The status page is there unless it is switched off. Everything else at the
// endpoint is there anyway.
func TestStatusPage(t *testing.T) {
	t.Parallel()
	for setting, want := range map[string]int{"true": http.StatusOK, "false": http.StatusNotFound} {
		address, closeIt := endpoint(t, "STREAMER_HTTP_PAGE="+setting)
		for path, want := range map[string]int{
			"/": want, "/page/style.css": want, "/healthz": http.StatusOK, "/metrics": http.StatusOK, "/elsewhere": http.StatusNotFound,
		} {
			assert.Equal(t, want, statusOf(t, address+path), "%s with http.page %s", path, setting)
		}
		closeIt()
	}
}

// Whoever watches does not delay the end of the process.
func TestViewersDoNotDelayTheEnd(t *testing.T) {
	t.Parallel()
	address, closeIt := endpoint(t)
	for range 10 {
		ctx, cancel := context.WithCancel(t.Context())
		t.Cleanup(cancel)
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, address+"/page/live", http.NoBody)
		require.NoError(t, err)
		response, err := http.DefaultClient.Do(r)
		require.NoError(t, err)
		defer response.Body.Close()
	}
	began := time.Now()
	closeIt()
	assert.Less(t, time.Since(began), 700*time.Millisecond, "Server.Close waits up to a second for requests")
}
