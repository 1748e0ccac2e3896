package shop_test

import (
	"bytes"
	"io"
	"net"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/examples/shop"
	"github.com/outboxstream/streamer/internal/pgtest"
)

// TestRunResolvesLostCommits puts a relay between the shop and the server that
// loses connections at the moment of a COMMIT, before or after it is delivered.
func TestRunResolvesLostCommits(t *testing.T) {
	t.Parallel()

	for name, deliver := range map[string]bool{
		"the server got the COMMIT, the answer is lost": true,
		"the server never got the COMMIT":               false,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dsn, conn := database(t, pgtest.Shared(t))
			relay := startRelay(t, dsn, deliver)
			ledger, err := shop.Run(t.Context(), shop.Config{DSN: relay.dsn, Connections: 3, Orders: 30, Seed: 4})
			require.NoError(t, err)
			requireTrue(t, ledger, conn)
			lost := int(relay.lost.Load())
			require.Positive(t, lost)
			if deliver {
				assert.Empty(t, ledger.RolledBack)
			} else {
				assert.Len(t, ledger.RolledBack, lost)
			}
		})
	}
}

// relay passes connections on to PostgreSQL and loses every tenth COMMIT.
type relay struct {
	dsn     string // of the server after it
	server  string // host:port
	deliver bool   // lose the answer, not the COMMIT

	commits, lost atomic.Int64
}

func startRelay(t *testing.T, dsn string, deliver bool) *relay {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address, err := url.Parse(dsn)
	require.NoError(t, err)
	r := &relay{server: address.Host, deliver: deliver}
	address.Host = listener.Addr().String()
	r.dsn = address.String()

	var connections sync.WaitGroup
	connections.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return // closed at the end of the test
			}
			connections.Go(func() { r.pass(t, client) })
		}
	})
	t.Cleanup(func() {
		assert.NoError(t, listener.Close())
		connections.Wait()
	})
	return r
}

// pass carries bytes both ways until one side has ended or a COMMIT is to be
// lost.
func (r *relay) pass(t *testing.T, client net.Conn) {
	t.Helper()
	defer client.Close()
	server, err := net.Dial("tcp", r.server)
	if err != nil {
		t.Error(err)
		return
	}
	defer server.Close()
	answers := make(chan struct{})
	go func() {
		defer close(answers)
		_, _ = io.Copy(client, server)
		client.Close()
	}()

	buffer := make([]byte, 64<<10)
	for {
		n, err := client.Read(buffer)
		if err != nil {
			break
		}
		lose := bytes.Contains(buffer[:n], []byte("commit\x00")) && r.commits.Add(1)%10 == 0
		if lose {
			r.lost.Add(1)
			client.Close()
		}
		if !lose || r.deliver {
			_, _ = server.Write(buffer[:n])
		}
		if lose {
			break
		}
	}
	// The server reads what was written before it sees the end.
	_ = server.(*net.TCPConn).CloseWrite()
	<-answers
}
