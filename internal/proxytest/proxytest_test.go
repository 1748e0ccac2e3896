package proxytest_test

import (
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/internal/proxytest"
)

// patience bounds waits for what must happen; moment is how long nothing may
// happen.
const (
	patience = 30 * time.Second
	moment   = 100 * time.Millisecond
)

// echo is a server that sends back what it receives, after a greeting.
func echo(t *testing.T, greeting string) (address string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var running sync.WaitGroup
	running.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			running.Go(func() {
				defer conn.Close()
				if _, err := io.WriteString(conn, greeting); err == nil {
					_, _ = io.Copy(conn, conn) // ends with the connection
				}
			})
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		running.Wait()
	})
	return listener.Addr().String()
}

// dial connects through the proxy; the connection ends before the server does.
func dial(t *testing.T, p *proxytest.Proxy) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", p.Address())
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func send(t *testing.T, conn net.Conn, text string) {
	t.Helper()
	_, err := io.WriteString(conn, text)
	require.NoError(t, err)
}

func receive(t *testing.T, conn net.Conn, n int) string {
	t.Helper()
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(patience)))
	buffer := make([]byte, n)
	_, err := io.ReadFull(conn, buffer)
	require.NoError(t, err)
	return string(buffer)
}

// silent requires that nothing arrives for a moment, and that the connection
// stays open.
func silent(t *testing.T, conn net.Conn) {
	t.Helper()
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(moment)))
	_, err := conn.Read(make([]byte, 1))
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
}

// broken requires that the connection was reset or closed.
func broken(t *testing.T, conn net.Conn) error {
	t.Helper()
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(patience)))
	_, err := io.Copy(io.Discard, conn)
	require.NotErrorIs(t, err, os.ErrDeadlineExceeded)
	return err
}

func TestProxy(t *testing.T) {
	t.Parallel()
	t.Run("forwards", func(t *testing.T) {
		t.Parallel()
		p := proxytest.New(t, echo(t, "hello"))
		conn := dial(t, p)
		send(t, conn, "abc")
		assert.Equal(t, "helloabc", receive(t, conn, 8))
		assert.EqualValues(t, 1, p.Accepted())
		assert.GreaterOrEqual(t, p.Bytes(), int64(8))
		assert.True(t, p.Connected())
		require.NoError(t, conn.Close())
		require.Eventually(t, func() bool { return !p.Connected() }, patience, time.Millisecond)
	})
	t.Run("holds back and loses nothing", func(t *testing.T) {
		t.Parallel()
		p := proxytest.New(t, echo(t, ""))
		conn := dial(t, p)
		send(t, conn, "a")
		require.Equal(t, "a", receive(t, conn, 1))
		p.Stall()
		send(t, conn, "bcd")
		silent(t, conn)
		p.Clear()
		assert.Equal(t, "bcd", receive(t, conn, 3))
	})
	t.Run("swallows, and resets what has lost something", func(t *testing.T) {
		t.Parallel()
		p := proxytest.New(t, echo(t, ""))
		conn := dial(t, p)
		send(t, conn, "a")
		require.Equal(t, "a", receive(t, conn, 1))
		p.Swallow()
		send(t, conn, "b")
		silent(t, conn)
		p.Clear()
		_ = broken(t, conn) // how it ends depends on what is in transit
		again := dial(t, p)
		send(t, again, "c")
		assert.Equal(t, "c", receive(t, again, 1))
	})
	t.Run("drips", func(t *testing.T) {
		t.Parallel()
		p := proxytest.New(t, echo(t, ""))
		p.Drip(10 * time.Millisecond)
		conn := dial(t, p)
		began := time.Now()
		send(t, conn, "0123456789")
		assert.Equal(t, "0123456789", receive(t, conn, 10))
		assert.GreaterOrEqual(t, time.Since(began), 90*time.Millisecond)
	})
	t.Run("resets after some bytes", func(t *testing.T) {
		t.Parallel()
		p := proxytest.New(t, echo(t, "0123456789"))
		p.ResetAfter(4)
		conn, err := net.Dial("tcp", p.Address())
		var got []byte
		if err == nil { // otherwise it was reset before the client noticed that it was connected
			defer conn.Close()
			require.NoError(t, conn.SetReadDeadline(time.Now().Add(patience)))
			got, err = io.ReadAll(conn)
		}
		require.ErrorIs(t, err, syscall.ECONNRESET)
		assert.LessOrEqual(t, len(got), 4)
		p.Clear()
		assert.Equal(t, "0123456789", receive(t, dial(t, p), 10))
	})
	t.Run("refuses", func(t *testing.T) {
		t.Parallel()
		p := proxytest.New(t, echo(t, "hello"))
		conn := dial(t, p)
		require.Equal(t, "hello", receive(t, conn, 5))
		p.Refuse()
		_ = broken(t, conn) // it ends, one way or another
		refused := dial(t, p)
		require.NoError(t, refused.SetReadDeadline(time.Now().Add(patience)))
		_, err := refused.Read(make([]byte, 1))
		require.Error(t, err)
		require.NotErrorIs(t, err, os.ErrDeadlineExceeded)
		p.Clear()
		assert.Equal(t, "hello", receive(t, dial(t, p), 5))
	})
	t.Run("moves to another target", func(t *testing.T) {
		t.Parallel()
		p := proxytest.New(t, echo(t, "first"))
		require.Equal(t, "first", receive(t, dial(t, p), 5))
		p.Retarget(echo(t, "other"))
		assert.Equal(t, "other", receive(t, dial(t, p), 5))
	})
	t.Run("ends while stalled", func(t *testing.T) {
		t.Parallel()
		p, err := proxytest.Listen("127.0.0.1:0", echo(t, ""))
		require.NoError(t, err)
		conn := dial(t, p)
		p.Stall()
		send(t, conn, "a")
		p.Close()
		_ = broken(t, conn)
	})
	t.Run("stands in a URL", func(t *testing.T) {
		t.Parallel()
		p := proxytest.New(t, "127.0.0.1:1")
		through, err := p.Through("postgres://u:secret@db:5432/shop?sslmode=disable")
		require.NoError(t, err)
		assert.Equal(t, "postgres://u:secret@"+p.Address()+"/shop?sslmode=disable", through)
		_, err = p.Through("postgres://u:se\ncret@db")
		require.Error(t, err)
		assert.NotContains(t, err.Error(), "cret", "no secret in an error")
	})
}
