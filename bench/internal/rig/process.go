package rig

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/IBM/sarama"

	"github.com/outboxstream/streamer/bench/internal/contender"
	"github.com/outboxstream/streamer/internal/testserver"
)

const stopPatience = 30 * time.Second

// running is the process of a contender.
type running struct {
	cmd     *exec.Cmd
	process *testserver.Process
	log     string // file
	began   time.Time
}

// isolation is how consumers of a contender's topics have to read.
func isolation(c contender.Contender) sarama.IsolationLevel {
	if t, ok := c.(contender.Transactor); ok && t.Transactional() {
		return sarama.ReadCommitted
	}
	return sarama.ReadUncommitted
}

// start starts the contender, and gives it its task if it waits for one. The
// caller must stop or kill it.
func start(ctx context.Context, c contender.Contender, t contender.Task) (*running, error) {
	cmd, err := c.Command(ctx, t)
	if err != nil {
		return nil, err
	}
	log, err := os.OpenFile(t.LogFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the log of %s: %w", c.Name(), err)
	}
	defer log.Close() // the child has its own descriptor
	cmd.Stdout, cmd.Stderr = log, log
	p := &running{cmd: cmd, log: t.LogFile(), began: time.Now()}
	if p.process, err = testserver.StartProcess(cmd, syscall.SIGKILL); err != nil {
		return nil, err
	}
	if s, ok := c.(contender.Submitter); ok {
		if err := s.Submit(ctx, t, p.process.Done()); err != nil {
			p.process.Kill()
			return nil, err
		}
	}
	return p, nil
}

// stop ends the process cleanly, and reports if that was not possible.
func (p *running) stop() error {
	if err := p.process.Stop(stopPatience, syscall.SIGTERM); err != nil {
		return err
	}
	// A JVM reports the signal although it has ended cleanly.
	const jvm = 128 + int(syscall.SIGTERM)
	if code := p.cmd.ProcessState.ExitCode(); code != 0 && code != jvm {
		return fmt.Errorf("ended with %v", p.cmd.ProcessState)
	}
	return nil
}

// wait returns when the process has ended on its own, and kills it if it does
// not.
func (p *running) wait(ctx context.Context) error {
	select {
	case <-p.process.Done():
	case <-ctx.Done():
		p.process.Kill()
		return context.Cause(ctx)
	}
	if !p.cmd.ProcessState.Success() {
		return fmt.Errorf("ended with %v", p.cmd.ProcessState)
	}
	return nil
}

// cpu is the CPU time of the process from its start to its end.
func (p *running) cpu() time.Duration {
	if p.process.Running() {
		return 0
	}
	return p.cmd.ProcessState.UserTime() + p.cmd.ProcessState.SystemTime()
}

// withLog adds the end of a contender's log to an error.
func withLog(err error, t contender.Task) error {
	text, readErr := os.ReadFile(t.LogFile())
	if readErr != nil || len(text) == 0 {
		return err // it has not begun to write
	}
	const enough = 15
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return fmt.Errorf("%w\nits log ends with:\n%s", err, strings.Join(lines[max(0, len(lines)-enough):], "\n"))
}
