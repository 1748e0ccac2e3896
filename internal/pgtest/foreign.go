package pgtest

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"net/url"
	"sync"
	"testing"
)

// Foreign returns the DSN of a server whose errors and notices are in a
// language that nothing understands: it leads through a proxy that replaces
// their texts and keeps all other fields, as lc_messages would, whatever
// languages the server's binaries have. The DSN must not ask for TLS. The proxy
// ends with the test.
func Foreign(t testing.TB, dsn string) string {
	t.Helper()
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal("DSN of the server cannot be parsed")
	}
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("listen for %s: %v", u.Host, err)
	}
	f := &foreign{target: u.Host, listener: listener}
	f.running.Go(f.accept)
	t.Cleanup(f.close)
	u.Host = listener.Addr().String()
	return u.String()
}

type foreign struct {
	target   string
	listener net.Listener
	running  sync.WaitGroup
	mu       sync.Mutex
	conns    []net.Conn
	closed   bool
}

func (f *foreign) accept() {
	for {
		client, err := f.listener.Accept()
		if err != nil {
			return
		}
		server, err := (&net.Dialer{}).DialContext(context.Background(), "tcp", f.target)
		if err != nil {
			_ = client.Close()
			continue
		}
		if !f.keep(client, server) {
			return
		}
		f.running.Go(func() {
			_, _ = io.Copy(server, client) // either end may close
			_ = server.Close()
		})
		f.running.Go(func() {
			translate(client, server)
			_ = client.Close()
		})
	}
}

// keep remembers connections, or closes them if the proxy has ended meanwhile.
func (f *foreign) keep(conns ...net.Conn) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.conns = append(f.conns, conns...)
	for _, conn := range conns {
		if f.closed {
			_ = conn.Close()
		}
	}
	return !f.closed
}

func (f *foreign) close() {
	_ = f.listener.Close()
	f.mu.Lock()
	f.closed = true
	for _, conn := range f.conns {
		_ = conn.Close()
	}
	f.mu.Unlock()
	f.running.Wait()
}

// translate copies a server's messages until either end closes.
func translate(to io.Writer, from io.Reader) {
	for {
		head := make([]byte, 5)
		if _, err := io.ReadFull(from, head); err != nil {
			return
		}
		body := make([]byte, binary.BigEndian.Uint32(head[1:])-4)
		if _, err := io.ReadFull(from, body); err != nil {
			return
		}
		if head[0] == 'E' || head[0] == 'N' {
			body = translated(body)
			binary.BigEndian.PutUint32(head[1:], uint32(len(body)+4))
		}
		if _, err := to.Write(append(head, body...)); err != nil {
			return
		}
	}
}

// translated replaces severity, message, detail and hint.
func translated(fields []byte) (out []byte) {
	for len(fields) > 1 {
		end := 1
		for fields[end] != 0 {
			end++
		}
		switch kind := fields[0]; kind {
		case 'S', 'M', 'D', 'H':
			out = append(out, kind)
			out = append(out, "übersetzt\x00"...)
		default:
			out = append(out, fields[:end+1]...)
		}
		fields = fields[end+1:]
	}
	return append(out, 0)
}
