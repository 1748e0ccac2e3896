// Package testserver holds what the real servers of the tests and of the demo
// have in common:
//   - a child process that ends with this process
//   - a temporary folder that does not outlive this process for long
//   - a cache for downloads
//   - free ports
//   - what a test does when a server is not available
package testserver

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"sync"
	"testing"
)

// ErrMissing is wrapped by errors that say that this machine has no such server
// and cannot get one. A server that exists but does not start is another error.
var ErrMissing = errors.New("server not available")

// Require fails or skips the test if err is not nil. Without a server
// ([ErrMissing]) the test is skipped on a developer's machine and fails where
// the environment variable CI is true; every other error fails it.
func Require(t testing.TB, err error) {
	t.Helper()
	if err == nil {
		return
	}
	inCI, _ := strconv.ParseBool(os.Getenv("CI"))
	if errors.Is(err, ErrMissing) && !inCI {
		t.Skip(err)
	}
	t.Fatal(err)
}

// Main runs the tests, then the stop functions in reverse order, and returns
// the exit code. A TestMain that uses several servers passes the CloseShared
// of each.
func Main(m *testing.M, stops ...func()) int {
	code := m.Run()
	for i := range stops {
		stops[len(stops)-1-i]()
	}
	return code
}

// Shared is one server for all tests of the process, started on first use.
type Shared[S any] struct {
	mu      sync.Mutex
	started bool
	server  S
	err     error
}

// Get returns the server. The first call starts it. If that fails, every later
// call returns the same error at once.
func (s *Shared[S]) Get(start func() (S, error)) (S, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.started {
		s.server, s.err = start()
		s.started = true
	}
	return s.server, s.err
}

// Close calls stop with the server if there is one. The next Get starts
// another.
func (s *Shared[S]) Close(stop func(S)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.started && s.err == nil {
		stop(s.server)
	}
	var none S
	s.started, s.server, s.err = false, none, nil
}

// Ports are below the range from which systems take the source ports of
// connections. So a stopped server finds its port still free when it starts
// again.
const lowestPort, highestPort = 20000, 32000

// FreePorts returns n different TCP ports of 127.0.0.1 on which nothing
// listens. They are not reserved: a caller that finds one taken asks again.
func FreePorts(n int) ([]int, error) {
	ports := make([]int, 0, n)
	var last error
	for range 100 {
		port := lowestPort + rand.IntN(highestPort-lowestPort)
		listener, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err != nil {
			last = err
			continue
		}
		// Closed only at the end, so that no port is found twice.
		defer listener.Close()
		if !claim(port) {
			continue
		}
		if ports = append(ports, port); len(ports) == n {
			return ports, nil
		}
	}
	return nil, fmt.Errorf("free port between %d and %d: %w", lowestPort, highestPort, last)
}
