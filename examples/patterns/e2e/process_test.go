package e2e

import (
	"context"
	"fmt"
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

// binaries are built once for all tests.
var binaries = sync.OnceValues(func() (folder string, err error) {
	folder, err = os.MkdirTemp("", "streamer-patterns-")
	if err != nil {
		return "", err
	}
	for target, at := range map[string]string{"./cmd/streamer": "../../..", "./cmd/patterns": ".."} {
		if err := testserver.Build(context.Background(), at, target, folder); err != nil {
			return "", err
		}
	}
	return folder, nil
})

// process is a program that is started again whenever it is killed.
type process struct {
	t           *testing.T
	name        string
	log         string
	prepare     func() *exec.Cmd
	running     *testserver.Process
	cmd         *exec.Cmd
	kills       int
	mayComplete bool // it is no fault if it ends by itself
	retired     bool // it is not needed any more
}

func (p *process) start() {
	p.t.Helper()
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	require.NoError(p.t, err)
	defer log.Close() // the child has its own descriptor
	p.cmd = p.prepare()
	p.cmd.Stdout, p.cmd.Stderr = log, log
	p.running, err = testserver.StartProcess(p.cmd, syscall.SIGKILL)
	require.NoError(p.t, err)
}

// kill ends the process with SIGKILL.
func (p *process) kill() {
	p.check()
	if p.running.Running() {
		p.running.Kill()
		p.kills++
	}
}

// complete reports whether the process has done what it was started for.
func (p *process) complete() bool {
	p.check()
	return !p.running.Running()
}

// retire ends the process for good.
func (p *process) retire() {
	p.t.Helper()
	p.check()
	p.retired = true
	require.NoError(p.t, p.running.Stop(20*time.Second, syscall.SIGTERM))
	require.Zero(p.t, p.cmd.ProcessState.ExitCode(), "%s", p.tail())
}

// check fails the test if the process has ended by itself and should not have.
func (p *process) check() {
	p.t.Helper()
	if p.retired || p.running.Running() || p.cmd.ProcessState.ExitCode() == 0 && p.mayComplete {
		return
	}
	if status, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return // by us
	}
	p.t.Fatalf("%s ended by itself: %v\n%s", p.name, p.cmd.ProcessState, p.tail())
}

// tail returns the end of what the process has logged.
func (p *process) tail() string {
	text, _ := os.ReadFile(p.log)
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	const enough = 25
	return strings.Join(lines[max(0, len(lines)-enough):], "\n")
}

// said returns how often a process has logged something.
func (s *stage) said(name, what string) (times int) {
	for _, p := range s.processes {
		if p.name == name {
			text, _ := os.ReadFile(p.log)
			times += strings.Count(string(text), what)
		}
	}
	return times
}

// run adds a process to the stage and starts it.
func (s *stage) run(name string, prepare func() *exec.Cmd) *process {
	s.Helper()
	p := &process{t: s.T, name: name, log: filepath.Join(s.folder, fmt.Sprintf("%s-%d.log", name, len(s.processes))), prepare: prepare}
	p.start()
	s.processes = append(s.processes, p)
	s.Cleanup(func() {
		_ = p.running.Stop(10*time.Second, syscall.SIGTERM)
		if s.Failed() {
			s.Logf("%s, killed %d times, says at last:\n%s", p.name, p.kills, p.tail())
		}
	})
	return p
}

// command prepares a program with nothing of this process's environment that is
// meant for another streamer or another database.
func (s *stage) command(program string, environment []string, arguments ...string) *exec.Cmd {
	// The process ends by a signal, not with the test's context.
	cmd := exec.CommandContext(context.WithoutCancel(s.Context()), filepath.Join(s.binaries, program), arguments...)
	cmd.Dir = s.folder
	cmd.Env = append(slices.DeleteFunc(os.Environ(), func(variable string) bool {
		return strings.HasPrefix(variable, "PG") || strings.HasPrefix(variable, "STREAMER_")
	}), environment...)
	return cmd
}
