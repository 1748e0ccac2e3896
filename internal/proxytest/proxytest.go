// Package proxytest is a network that fails on demand: a TCP proxy for tests,
// between the streamer and PostgreSQL or a Kafka broker. It can swallow, slow
// down, hold back, refuse and reset.
package proxytest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Proxy forwards connections to one address. Its methods may be called from
// any goroutine, at any time.
type Proxy struct {
	listener net.Listener
	running  sync.WaitGroup

	mu      sync.Mutex
	changed *sync.Cond // broadcast when the fields below change
	target  string
	weather weather
	conns   map[net.Conn]struct{}
	closed  bool

	accepted atomic.Int64 // connections
	bytes    atomic.Int64 // forwarded, both directions
}

// weather is the state of the network.
type weather struct {
	stalled  bool          // nothing moves, nothing is lost
	hole     bool          // data disappears silently
	refusing bool          // new connections are closed at once
	drip     time.Duration // pause after each byte; 0: none
	reset    int64         // bytes a connection may still carry until it is reset; 0: no limit
}

// Listen starts a proxy to the target ("host:port") on an address of
// 127.0.0.1; "127.0.0.1:0" takes a free port. The caller closes it.
func Listen(address, target string) (*Proxy, error) {
	listener, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listen for %s: %w", target, err)
	}
	p := &Proxy{target: target, listener: listener, conns: map[net.Conn]struct{}{}}
	p.changed = sync.NewCond(&p.mu)
	p.running.Go(p.accept)
	return p, nil
}

// New starts a proxy to the target on a free port; it ends with the test.
func New(t testing.TB, target string) *Proxy {
	t.Helper()
	p, err := Listen("127.0.0.1:0", target)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

// Address is the address to which clients connect.
func (p *Proxy) Address() string { return p.listener.Addr().String() }

// Through returns the URL of a server with the proxy's address in place of the
// server's.
func (p *Proxy) Through(server string) (string, error) {
	u, err := url.Parse(server)
	if err != nil {
		return "", errors.New("URL of the server behind the proxy cannot be parsed")
	}
	u.Host = p.Address()
	return u.String(), nil
}

// Retarget sends new connections to another address, as the address of a
// service does after a failover. Existing connections stay where they are.
func (p *Proxy) Retarget(target string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.target = target
}

func (p *Proxy) forwardsTo() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.target
}

// Accepted is the number of connections so far.
func (p *Proxy) Accepted() int64 { return p.accepted.Load() }

// Connected reports whether any connection is open.
func (p *Proxy) Connected() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.conns) > 0
}

// Bytes is how much was forwarded in both directions together, including what
// is being written at this moment.
func (p *Proxy) Bytes() int64 { return p.bytes.Load() }

func (p *Proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.accepted.Add(1)
		p.running.Go(func() { p.serve(client) })
	}
}

// serve connects to the target and copies until either side ends. In a hole,
// the kernel accepts the connection and nothing answers.
func (p *Proxy) serve(client net.Conn) {
	if !p.adopt(client) {
		return
	}
	defer p.drop(client)
	server, err := (&net.Dialer{Timeout: 10 * time.Second}).DialContext(context.Background(), "tcp", p.forwardsTo())
	if err != nil {
		return
	}
	if !p.adopt(server) {
		return
	}
	defer p.drop(server)
	var both sync.WaitGroup
	carried := &atomic.Int64{}
	both.Go(func() { p.copy(server, client, carried) })
	both.Go(func() { p.copy(client, server, carried) })
	both.Wait()
}

// adopt registers a connection, or closes it if there must be none.
func (p *Proxy) adopt(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.weather.refusing {
		_ = c.Close()
		return false
	}
	p.conns[c] = struct{}{}
	return true
}

func (p *Proxy) drop(c net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, c)
	_ = c.Close()
}

// copy forwards one direction. Its end ends the other direction too.
func (p *Proxy) copy(to, from net.Conn, carried *atomic.Int64) {
	defer to.Close()
	defer from.Close()
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		if p.forward(to, from, buffer[:n], carried) != nil || err != nil {
			return
		}
	}
}

// forward writes data as the weather allows.
func (p *Proxy) forward(to, from net.Conn, data []byte, carried *atomic.Int64) error {
	for len(data) > 0 {
		now, open := p.settled()
		if !open {
			return net.ErrClosed
		}
		if now.hole {
			return nil
		}
		part := data
		if now.drip > 0 {
			part = data[:1]
		}
		if now.reset > 0 {
			left := now.reset - carried.Load()
			if left <= 0 {
				abort(to)
				abort(from)
				return net.ErrClosed
			}
			part = part[:min(int64(len(part)), left)]
		}
		carried.Add(int64(len(part)))
		p.bytes.Add(int64(len(part))) // counted before the write: the receiver may ask at once
		if _, err := to.Write(part); err != nil {
			return err
		}
		data = data[len(part):]
		if now.drip > 0 {
			p.wait(now.drip)
		}
	}
	return nil
}

// settled waits while nothing moves.
func (p *Proxy) settled() (now weather, open bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.weather.stalled && !p.closed {
		p.changed.Wait()
	}
	return p.weather, !p.closed
}

// wait is the pause after a byte. A change of the weather does not cut it
// short, because it is short already.
func (p *Proxy) wait(pause time.Duration) {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	<-timer.C
}

// abort ends a connection with a reset, as a crashed peer or a firewall does.
func abort(c net.Conn) {
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = c.Close()
}

func (p *Proxy) change(change func(*weather)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change(&p.weather)
	p.changed.Broadcast()
}

// Stall holds everything back, in both directions and on new connections too;
// nothing is lost. [Proxy.Clear] lets it continue.
func (p *Proxy) Stall() { p.change(func(w *weather) { w.stalled = true }) }

// Swallow makes connections half open: data disappears silently. A connection
// that lost data is useless afterwards, so [Proxy.Clear] resets it.
func (p *Proxy) Swallow() { p.change(func(w *weather) { w.hole = true }) }

// Refuse resets all connections and closes new ones at once.
func (p *Proxy) Refuse() {
	p.change(func(w *weather) { w.refusing = true })
	p.Reset()
}

// Drip forwards byte by byte, with a pause after each.
func (p *Proxy) Drip(pause time.Duration) { p.change(func(w *weather) { w.drip = pause }) }

// ResetAfter resets each connection once it has carried n bytes; those that
// have carried more are reset at their next byte.
func (p *Proxy) ResetAfter(n int64) { p.change(func(w *weather) { w.reset = n }) }

// Reset resets all connections now.
func (p *Proxy) Reset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		abort(c)
	}
}

// Clear ends all faults.
func (p *Proxy) Clear() {
	p.mu.Lock()
	swallowed := p.weather.hole
	p.weather = weather{}
	p.changed.Broadcast()
	p.mu.Unlock()
	if swallowed {
		p.Reset()
	}
}

// Close ends all connections and waits for them.
func (p *Proxy) Close() {
	_ = p.listener.Close()
	p.mu.Lock()
	p.closed = true
	p.changed.Broadcast()
	p.mu.Unlock()
	p.Reset()
	p.running.Wait()
}
