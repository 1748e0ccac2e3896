package replication

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// pair returns two connected ends, one of which reads in bulk.
func pair(t *testing.T, network string) (bulk, peer net.Conn) {
	t.Helper()
	address := "127.0.0.1:0"
	if network == "unix" {
		address = filepath.Join(t.TempDir(), "s")
	}
	listener, err := net.Listen(network, address)
	require.NoError(t, err)
	defer listener.Close()
	conn, err := net.Dial(network, listener.Addr().String())
	require.NoError(t, err)
	peer, err = listener.Accept()
	require.NoError(t, err)
	bulk, err = readInBulk(conn, false)
	require.NoError(t, err)
	require.IsType(t, &bulkConn{}, bulk)
	t.Cleanup(func() {
		_ = bulk.Close()
		_ = peer.Close()
	})
	return bulk, peer
}

func onBoth(t *testing.T, test func(t *testing.T, bulk, peer net.Conn)) {
	t.Helper()
	for _, network := range []string{"tcp", "unix"} {
		t.Run(network, func(t *testing.T) {
			t.Parallel()
			bulk, peer := pair(t, network)
			test(t, bulk, peer)
		})
	}
}

func TestBulkConnReads(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, bulk, peer net.Conn) {
		t.Helper()
		_, err := peer.Write([]byte("abcdef"))
		require.NoError(t, err)
		small := make([]byte, 4)
		n, err := bulk.Read(small)
		require.NoError(t, err)
		assert.Equal(t, "abcd", string(small[:n]))
		large := make([]byte, 1<<20)
		n, err = bulk.Read(large)
		require.NoError(t, err)
		assert.Equal(t, "ef", string(large[:n]), "the rest of a small read comes first")
		require.NoError(t, peer.Close())
		_, err = bulk.Read(large)
		require.ErrorIs(t, err, io.EOF)
	})
}

// TestBulkConnWakes: an idle connection hands over what arrives without a
// pause, and its deadlines and its end wake a reader.
func TestBulkConnWakes(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, bulk, peer net.Conn) {
		t.Helper()
		for range 20 {
			back := make(chan error, 1)
			go func() {
				_, err := bulk.Read(make([]byte, smallRead))
				back <- err
			}()
			_, err := peer.Write([]byte("x"))
			require.NoError(t, err)
			require.NoError(t, <-back)
		}
		require.NoError(t, bulk.SetReadDeadline(time.Now().Add(10*time.Millisecond)))
		_, err := bulk.Read(make([]byte, 1))
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		var timeout net.Error
		require.ErrorAs(t, err, &timeout, "TLS asks for it")

		require.NoError(t, bulk.SetDeadline(time.Time{}))
		interrupted := make(chan error, 1)
		go func() {
			_, err := bulk.Read(make([]byte, 1))
			interrupted <- err
		}()
		require.NoError(t, bulk.SetReadDeadline(longPast))
		require.ErrorIs(t, <-interrupted, os.ErrDeadlineExceeded)

		require.NoError(t, bulk.SetReadDeadline(time.Time{}))
		go func() {
			_, err := bulk.Read(make([]byte, 1))
			interrupted <- err
		}()
		require.NoError(t, bulk.Close())
		require.Error(t, <-interrupted)
		require.ErrorIs(t, bulk.Close(), net.ErrClosed)
		_, err = bulk.Write([]byte("x"))
		require.ErrorIs(t, err, net.ErrClosed)
	})
}

func TestBulkConnWrites(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, bulk, peer net.Conn) {
		t.Helper()
		large := bytes.Repeat([]byte("0123456789"), 1<<20)
		require.NoError(t, bulk.SetWriteDeadline(time.Now().Add(50*time.Millisecond)))
		sent, err := bulk.Write(large)
		require.ErrorIs(t, err, os.ErrDeadlineExceeded, "nothing reads")
		require.NoError(t, bulk.SetWriteDeadline(time.Time{}))
		done := make(chan error, 1)
		go func() {
			_, err := bulk.Write(large[sent:])
			done <- err
		}()
		got := make([]byte, len(large))
		_, err = io.ReadFull(peer, got)
		require.NoError(t, err)
		require.NoError(t, <-done)
		assert.True(t, bytes.Equal(large, got))
		assert.Equal(t, peer.LocalAddr().String(), bulk.RemoteAddr().String())
		assert.Equal(t, peer.RemoteAddr().String(), bulk.LocalAddr().String())
	})
}

// TestBulkConnReadsInBulk: many small messages arrive in few reads.
func TestBulkConnReadsInBulk(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, bulk, peer net.Conn) {
		t.Helper()
		const messages, size = 50_000, 300
		sent := make(chan error, 1)
		go func() {
			message := make([]byte, size)
			for range messages {
				if _, err := peer.Write(message); err != nil {
					sent <- err
					return
				}
			}
			sent <- peer.Close()
		}()
		received, reads := 0, 0
		for buffer := make([]byte, connectionBuffer); ; reads++ {
			n, err := bulk.Read(buffer)
			received += n
			if err != nil {
				require.ErrorIs(t, err, io.EOF)
				break
			}
		}
		require.NoError(t, <-sent)
		assert.Equal(t, messages*size, received)
		assert.Less(t, reads, messages/10, "messages were read in reads")
	})
}

// TestBulkConnPauses: after a read that returned much, the next one waits a
// moment, unless a server that sends in pieces has filled the whole buffer.
func TestBulkConnPauses(t *testing.T) {
	t.Parallel()
	for _, inPieces := range []bool{false, true} {
		bulk, peer := pair(t, "tcp")
		conn, ok := bulk.(*bulkConn)
		require.True(t, ok)
		conn.inPieces = inPieces
		sent := make(chan error, 1)
		go func() {
			_, err := peer.Write(make([]byte, 4<<20))
			sent <- errors.Join(err, peer.Close())
		}()
		full := 0
		for buffer := make([]byte, smallRead); ; {
			n, err := conn.Read(buffer)
			if err != nil {
				require.ErrorIs(t, err, io.EOF)
				break
			}
			if n == len(buffer) {
				full++
				assert.Equal(t, !inPieces, conn.flows)
			} else {
				assert.Equal(t, n >= flowing, conn.flows)
			}
		}
		require.NoError(t, <-sent)
		assert.Positive(t, full)
	}
}
