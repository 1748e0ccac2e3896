package replication

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// pauseTCP is how long the receive window is left to fill while data flows. A
	// Unix socket holds only a few hundred messages, so its sender would stall
	// sooner.
	pauseTCP  = time.Millisecond
	pauseUnix = 200 * time.Microsecond
	// smallRead is the size below which a read goes through bulkConn's own buffer.
	// Readers with a buffer of their own ask for more; TLS and the handshake ask
	// for less.
	smallRead = 32 << 10
)

// bulkConn reads in bulk.
//
// A walsender sends every message separately, and every send wakes the process
// that waits for the socket. Go's poller is woken even while no goroutine
// reads. That costs both sides more than decoding does. So the socket is not
// registered with the poller. Instead it is behind a gate, an epoll instance
// that is armed for one event when there is nothing to read. While data flows,
// the reader sleeps a moment before each read instead of being woken. An idle
// connection wakes its reader at once.
//
// One goroutine reads. Deadlines, Write and Close may come from others.
type bulkConn struct {
	socket        int
	gate          *os.File // readable when the socket is, once armed
	armed         unix.EpollEvent
	await         syscall.RawConn // of the gate
	local, remote net.Addr

	inPieces bool          // the server sends large pieces, not one message at a time
	pause    time.Duration // while data flows
	flows    bool          // the last read returned much, and a pause lets more accumulate
	buffer   []byte        // for small reads
	unread   []byte        // part of buffer

	using         sync.RWMutex // held for reading while the descriptors are in use
	closed        atomic.Bool
	writeDeadline atomic.Int64 // Unix nanoseconds, 0 for none
}

// readInBulk takes over a new connection. Where that is impossible it returns
// the connection unchanged. With a server that sends in pieces there is no
// pause after a read that filled the buffer. More data is already there, and
// unlike a walsender that server saves nothing by sending later.
func readInBulk(conn net.Conn, inPieces bool) (net.Conn, error) {
	raw, ok := conn.(syscall.Conn)
	if !ok {
		return conn, nil
	}
	c := &bulkConn{local: conn.LocalAddr(), remote: conn.RemoteAddr(), inPieces: inPieces, pause: pauseTCP, socket: -1}
	if c.local.Network() == "unix" {
		c.pause = pauseUnix
	}
	control, err := raw.SyscallConn()
	if err == nil {
		var inner error
		err = control.Control(func(fd uintptr) { c.socket, inner = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0) })
		err = errors.Join(err, inner)
	}
	if err == nil {
		err = c.openGate()
	}
	// The copy is the same socket. Only closing the original takes it out of
	// Go's poller.
	if err := errors.Join(err, conn.Close()); err != nil {
		if c.socket >= 0 {
			_ = unix.Close(c.socket)
		}
		return nil, fmt.Errorf("prepare connection for bulk reads: %w", err)
	}
	return c, nil
}

func (c *bulkConn) openGate() error {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return err
	}
	c.armed = unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLRDHUP | unix.EPOLLONESHOT}
	disarmed := unix.EpollEvent{Events: unix.EPOLLONESHOT}
	if err := errors.Join(unix.SetNonblock(fd, true), unix.EpollCtl(fd, unix.EPOLL_CTL_ADD, c.socket, &disarmed)); err != nil {
		return errors.Join(err, unix.Close(fd))
	}
	c.gate = os.NewFile(uintptr(fd), "gate")
	c.await, err = c.gate.SyscallConn()
	if err == nil {
		err = c.gate.SetReadDeadline(time.Time{}) // fails unless Go's poller has taken it
	}
	if err != nil {
		return errors.Join(err, c.gate.Close())
	}
	return nil
}

// Read returns what has arrived. It waits only if nothing has.
func (c *bulkConn) Read(p []byte) (int, error) {
	if len(c.unread) == 0 && len(p) >= smallRead {
		return c.receive(p)
	}
	if len(c.unread) == 0 {
		if c.buffer == nil {
			c.buffer = make([]byte, connectionBuffer)
		}
		n, err := c.receive(c.buffer)
		if err != nil {
			return 0, err
		}
		c.unread = c.buffer[:n]
	}
	n := copy(p, c.unread)
	c.unread = c.unread[n:]
	return n, nil
}

func (c *bulkConn) receive(p []byte) (int, error) {
	if c.flows {
		time.Sleep(c.pause) //nolint:forbidigo // not to be woken is the point
	}
	c.using.RLock()
	defer c.using.RUnlock()
	for {
		if c.closed.Load() {
			return 0, net.ErrClosed
		}
		n, err := unix.Read(c.socket, p)
		switch {
		case n > 0:
			c.flows = n >= flowing && (n < len(p) || !c.inPieces)
			return n, nil
		case err == nil:
			return 0, io.EOF
		case errors.Is(err, unix.EINTR):
			continue
		case !errors.Is(err, unix.EAGAIN):
			return 0, os.NewSyscallError("read", err)
		}
		c.flows = false
		if err := c.waitForData(); err != nil {
			return 0, err
		}
	}
}

// waitForData arms the gate and sleeps in Go's poller until it opens or the
// read deadline has come.
func (c *bulkConn) waitForData() error {
	var failed error
	armed := false
	err := c.await.Read(func(gate uintptr) bool {
		if !armed {
			armed = true
			event := c.armed
			failed = os.NewSyscallError("epoll_ctl", unix.EpollCtl(int(gate), unix.EPOLL_CTL_MOD, c.socket, &event))
		}
		var events [1]unix.EpollEvent
		n, _ := unix.EpollWait(int(gate), events[:], 0) // an interruption counts as nothing yet
		return failed != nil || n > 0
	})
	if failed != nil {
		return failed
	}
	return err // unwrapped: TLS must see that it is a timeout
}

// Write sends all of p. The streamer's messages are short and rare, so waiting
// for room may hold a thread.
func (c *bulkConn) Write(p []byte) (int, error) {
	c.using.RLock()
	defer c.using.RUnlock()
	sent := 0
	for sent < len(p) {
		if c.closed.Load() {
			return sent, net.ErrClosed
		}
		n, err := unix.SendmsgN(c.socket, p[sent:], nil, nil, unix.MSG_NOSIGNAL)
		switch {
		case err == nil:
			sent += n
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EAGAIN):
			if err := c.waitForRoom(); err != nil {
				return sent, err
			}
		default:
			return sent, os.NewSyscallError("write", err)
		}
	}
	return sent, nil
}

// waitForRoom sleeps until the socket accepts more data, or for a moment:
// meanwhile a deadline may be set or the connection closed.
func (c *bulkConn) waitForRoom() error {
	const moment = 10 // milliseconds
	if at := c.writeDeadline.Load(); at != 0 && time.Now().UnixNano() >= at {
		return os.ErrDeadlineExceeded
	}
	_, err := unix.Poll([]unix.PollFd{{Fd: int32(c.socket), Events: unix.POLLOUT}}, moment)
	if err != nil && !errors.Is(err, unix.EINTR) {
		return os.NewSyscallError("poll", err)
	}
	return nil
}

// Close ends the connection and any Read or Write that is waiting on it.
func (c *bulkConn) Close() error {
	if c.closed.Swap(true) {
		return net.ErrClosed
	}
	_ = unix.Shutdown(c.socket, unix.SHUT_RDWR) // wakes a reader; fails if the peer closed first
	c.using.Lock()
	defer c.using.Unlock()
	return errors.Join(c.gate.Close(), unix.Close(c.socket))
}

func (c *bulkConn) SetReadDeadline(t time.Time) error { return c.gate.SetReadDeadline(t) }

func (c *bulkConn) SetWriteDeadline(t time.Time) error {
	nanoseconds := int64(0)
	if !t.IsZero() {
		nanoseconds = t.UnixNano()
	}
	c.writeDeadline.Store(nanoseconds)
	return nil
}

func (c *bulkConn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

func (c *bulkConn) LocalAddr() net.Addr  { return c.local }
func (c *bulkConn) RemoteAddr() net.Addr { return c.remote }
