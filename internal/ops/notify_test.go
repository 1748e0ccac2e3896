package ops

import (
	"context"
	"net"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/internal/pipeline"
)

// supervisor receives what systemd would.
func supervisor(t *testing.T) *net.UnixConn {
	t.Helper()
	address := &net.UnixAddr{Net: "unixgram", Name: filepath.Join(t.TempDir(), "notify")}
	conn, err := net.ListenUnixgram("unixgram", address)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	t.Setenv("NOTIFY_SOCKET", address.Name)
	return conn
}

func hear(t *testing.T, conn *net.UnixConn) string {
	t.Helper()
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(30*time.Second)))
	buffer := make([]byte, 4096)
	n, err := conn.Read(buffer)
	require.NoError(t, err)
	return string(buffer[:n])
}

func TestNotifySupervisor(t *testing.T) {
	conn := supervisor(t)
	t.Setenv("WATCHDOG_USEC", "30000")
	var status atomic.Pointer[pipeline.Status]
	status.Store(&pipeline.Status{Phase: pipeline.Starting})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		NotifySupervisor(ctx, func() pipeline.Status { return *status.Load() })
	}()
	assert.Equal(t, "READY=1", hear(t, conn))
	assert.Equal(t, "STATUS=starting", hear(t, conn))
	for range 3 {
		assert.Equal(t, "WATCHDOG=1", hear(t, conn))
	}
	status.Store(&pipeline.Status{Phase: pipeline.Waiting, Detail: "connection\nrefused"})
	for said := ""; said != "STATUS=waiting: connection; refused"; said = hear(t, conn) {
		require.Contains(t, []string{"", "WATCHDOG=1"}, said)
	}
	cancel()
	for said := ""; said != "STOPPING=1"; said = hear(t, conn) {
		require.False(t, strings.HasPrefix(said, "STATUS"), said)
	}
	<-ended
}

func TestWithoutSupervisor(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	NotifySupervisor(t.Context(), func() pipeline.Status { // and returns
		t.Error("asked")
		return pipeline.Status{}
	})
}
