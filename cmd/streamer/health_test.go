package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/internal/ops"
	"github.com/outboxstream/streamer/internal/pipeline"
	"github.com/outboxstream/streamer/internal/testserver"
)

// serve runs the endpoint of a streamer in the given phase.
func serve(t *testing.T, listen string, status pipeline.Status) *ops.Metrics {
	t.Helper()
	metrics := ops.NewMetrics("test")
	server, err := ops.Listen(listen, false, metrics, func() pipeline.Status { return status }, nil)
	require.NoError(t, err)
	done := make(chan error, 1)
	go func() { done <- server.Serve() }()
	t.Cleanup(func() {
		server.Close()
		assert.NoError(t, <-done)
	})
	return metrics
}

func freePort(t *testing.T) int {
	t.Helper()
	ports, err := testserver.FreePorts(1)
	require.NoError(t, err)
	return ports[0]
}

func TestHealth(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		phase  pipeline.Phase
		listen string
		code   int
	}{
		{pipeline.Streaming, "127.0.0.1", exitOK},
		{pipeline.Standby, "0.0.0.0", exitOK},
		{pipeline.Blocked, "", exitFailed},
		{pipeline.Waiting, "127.0.0.1", exitFailed},
	} {
		t.Run(string(c.phase), func(t *testing.T) {
			t.Parallel()
			port := freePort(t)
			serve(t, fmt.Sprintf("127.0.0.1:%d", port), pipeline.Status{Phase: c.phase, Detail: "the reason", Since: time.Now()})
			got := execute(t, []string{fmt.Sprintf("STREAMER_HTTP_LISTEN=%s:%d", c.listen, port)}, "health")
			assert.Equal(t, c.code, got.code, got.stderr)
			assert.Contains(t, got.stdout, string(c.phase))
			assert.Contains(t, got.stdout, "the reason")
		})
	}
	t.Run("nobody answers", func(t *testing.T) {
		t.Parallel()
		got := execute(t, []string{fmt.Sprintf("STREAMER_HTTP_LISTEN=127.0.0.1:%d", freePort(t))}, "health")
		assert.Equal(t, exitFailed, got.code)
		assert.Contains(t, got.stderr, "no streamer answers at 127.0.0.1:")
	})
	t.Run("somebody else answers", func(t *testing.T) {
		t.Parallel()
		other := httptest.NewServer(http.NotFoundHandler())
		defer other.Close()
		got := execute(t, []string{"STREAMER_HTTP_LISTEN=" + other.Listener.Addr().String()}, "health")
		assert.Equal(t, exitFailed, got.code)
		assert.Contains(t, got.stderr, "is not a streamer")
	})
	t.Run("no endpoint", func(t *testing.T) {
		t.Parallel()
		got := execute(t, nil, "health", "--set", "http.listen=")
		assert.Equal(t, exitUsage, got.code)
		assert.Contains(t, got.stderr, "http.listen is empty")
	})
}
