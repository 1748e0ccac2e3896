package faults

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/internal/testserver"
)

// Exit codes, as documented.
const (
	exitFine     = 0
	exitFailed   = 1
	exitRefused  = 3
	exitInFlight = 4
	exitSignal   = -1 // killed
)

// streamer is the built binary under a supervisor. When it ends with exit code
// 1 or is killed, it is started again. Exit codes 0, 2, 3 and 4 are final. Its
// methods may be called from any goroutine.
type streamer struct {
	t         *testing.T
	arguments func() []string // called at each start
	logFile   string
	address   string // of its HTTP endpoint

	mu       sync.Mutex
	cmd      *exec.Cmd
	alive    chan struct{} // closed when the process has ended
	stopping bool          // do not start it again
	program  string        // the binary, if it is not the one under test
	wrapper  []string      // a program that starts it
	logFrom  int           // start of the running process's part of the log
	codes    []int         // of all processes so far
	peak     int           // KiB: the largest VmHWM seen
	ended    chan struct{}
}

// newStreamer prepares a streamer without starting it.
func (r *run) newStreamer(name string) *streamer {
	r.t.Helper()
	ports, err := testserver.FreePorts(1)
	require.NoError(r.t, err)
	s := &streamer{t: r.t, logFile: filepath.Join(r.folder, "streamer-"+name+".log"), address: fmt.Sprintf("127.0.0.1:%d", ports[0])}
	s.arguments = func() []string {
		return append(r.arguments("run"), "--set", "http.listen="+s.address)
	}
	r.t.Cleanup(func() {
		s.end(syscall.SIGKILL)
		if r.t.Failed() {
			r.t.Logf("log of streamer %s ends with:\n%s", name, tail(s.log(), 20_000))
		}
	})
	return s
}

// start starts the supervisor. It may be called again after the supervisor has
// ended.
func (s *streamer) start() {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopping, s.ended = false, make(chan struct{})
	require.NoError(s.t, s.launchLocked())
	go s.supervise(s.ended)
}

// launchLocked starts a process.
func (s *streamer) launchLocked() error {
	log, err := os.OpenFile(s.logFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("open log of streamer: %w", err)
	}
	defer log.Close() // the child has its own descriptor
	info, err := log.Stat()
	if err != nil {
		return fmt.Errorf("open log of streamer: %w", err)
	}
	s.logFrom = int(info.Size())
	line := slices.Concat(s.wrapper, []string{cmp.Or(s.program, binary)}, s.arguments())
	cmd := exec.CommandContext(context.WithoutCancel(s.t.Context()), line[0], line[1:]...)
	cmd.Stdout, cmd.Stderr, cmd.Dir = log, log, filepath.Dir(s.logFile)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Env = append(environment(), "GOTRACEBACK=all")
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start streamer: %w", err)
	}
	s.cmd, s.alive = cmd, make(chan struct{})
	return nil
}

// environment returns the environment of the test, without variables that a
// streamer would take for its configuration.
func environment() []string {
	return slices.DeleteFunc(os.Environ(), func(v string) bool {
		return strings.HasPrefix(v, "STREAMER_") || strings.HasPrefix(v, "PG")
	})
}

// wrap makes another program start the streamer from now on. With exec that
// program must become the streamer itself.
func (s *streamer) wrap(program ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wrapper = program
}

// replace makes another build of the streamer start from now on.
func (s *streamer) replace(program string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.program = program
}

// supervise waits for each process and starts the next one until it must not.
func (s *streamer) supervise(ended chan struct{}) {
	defer close(ended)
	for {
		began := time.Now()
		_ = s.cmd.Wait() // the exit code says how it ended
		code := s.cmd.ProcessState.ExitCode()
		close(s.alive)
		if code == exitFailed && time.Since(began) < time.Second {
			pause(s.t.Context(), 200*time.Millisecond) // a supervisor's back-off
		}
		if !s.again(code) {
			return
		}
	}
}

// again records an exit code and starts the next process if there must be one.
func (s *streamer) again(code int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.codes = append(s.codes, code)
	if s.stopping || code != exitFailed && code != exitSignal {
		return false
	}
	return s.launchLocked() == nil
}

// signal sends a signal to the running process.
func (s *streamer) signal(signal syscall.Signal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd != nil {
		s.noteMemoryLocked()
		_ = s.cmd.Process.Signal(signal) // it may have ended on its own
	}
}

// kill ends the process with SIGKILL and waits for its end. The supervisor
// starts the next one.
func (s *streamer) kill() {
	s.mu.Lock()
	alive := s.alive
	s.mu.Unlock()
	s.signal(syscall.SIGKILL)
	<-alive
}

// end sends a signal, does not start the process again, and waits. It returns
// the last exit code.
func (s *streamer) end(signal syscall.Signal) int {
	s.mu.Lock()
	s.stopping = true
	ended := s.ended
	s.mu.Unlock()
	if ended == nil {
		return exitFine // never started
	}
	if signal == syscall.SIGTERM {
		s.awaitBegun(ended)
	}
	s.signal(signal)
	select {
	case <-ended:
	case <-time.After(90 * time.Second):
		s.signal(syscall.SIGQUIT) // writes the stacks to its log
		s.t.Errorf("the streamer did not end within 90 s of %v", signal)
		select {
		case <-ended:
		case <-time.After(5 * time.Second):
			s.signal(syscall.SIGKILL)
			<-ended
		}
	}
	return s.code()
}

// awaitBegun waits until the process handles signals. In its first milliseconds
// a SIGTERM ends it as it ends every program. A process that does not get that
// far has ended.
func (s *streamer) awaitBegun(ended chan struct{}) {
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); pause(s.t.Context(), 10*time.Millisecond) {
		s.mu.Lock()
		from := s.logFrom
		s.mu.Unlock()
		if strings.Contains(s.log()[from:], "msg=starting") {
			return
		}
		select {
		case <-ended:
			return
		default:
		}
	}
}

// running reports whether there is a process, or will be one soon.
func (s *streamer) running() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.ended:
		return false
	default:
		return s.ended != nil
	}
}

// code returns the last exit code.
func (s *streamer) code() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.codes) == 0 {
		return exitFine
	}
	return s.codes[len(s.codes)-1]
}

// pid returns the process ID of the running process.
func (s *streamer) pid() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cmd.Process.Pid
}

// noteMemoryLocked remembers the peak of the process's resident memory.
func (s *streamer) noteMemoryLocked() {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	if err != nil {
		return // no such file system, or the process is gone
	}
	_, after, _ := strings.Cut(string(status), "VmHWM:")
	var kib int
	if _, err := fmt.Sscan(after, &kib); err == nil {
		s.peak = max(s.peak, kib)
	}
}

// peakMemory returns the largest resident memory of any process so far, in
// bytes.
func (s *streamer) peakMemory() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.noteMemoryLocked()
	return s.peak << 10
}

// log returns what all processes have written.
func (s *streamer) log() string {
	text, err := os.ReadFile(s.logFile)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// get queries the HTTP endpoint. Code 0 means no answer.
func (s *streamer) get(path string) (code int, body string) {
	ctx, cancel := context.WithTimeout(s.t.Context(), 2*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.address+path, http.NoBody)
	if err != nil {
		return 0, ""
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, ""
	}
	defer response.Body.Close()
	text, _ := io.ReadAll(response.Body)
	return response.StatusCode, string(text)
}

// streams reports whether the streamer says that it is streaming.
func (s *streamer) streams() bool {
	code, body := s.get("/readyz")
	return code == http.StatusOK && !strings.Contains(body, "standby")
}

// tail returns the end of a text.
func tail(text string, n int) string { return text[max(0, len(text)-n):] }
