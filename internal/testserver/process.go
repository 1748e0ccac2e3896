package testserver

import (
	"fmt"
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

// Process is a started server. Its methods may be called from any goroutine.
type Process struct {
	cmd  *exec.Cmd
	done chan struct{}
	err  error // how it ended; read only after done is closed
}

// StartProcess starts cmd in a separate process group, so that a Ctrl-C in the
// terminal reaches this process and not the server. On Linux the kernel sends
// deathSignal to the server when this process ends, however it ends.
func StartProcess(cmd *exec.Cmd, deathSignal syscall.Signal) (*Process, error) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setpgid = true
	setDeathSignal(cmd.SysProcAttr, deathSignal)

	p := &Process{cmd: cmd, done: make(chan struct{})}
	started := make(chan error)
	go func() {
		// Linux sends the death signal when the *thread* that started the child ends,
		// so this goroutine keeps its thread as long as the child lives.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(p.done)
		err := cmd.Start()
		started <- err
		if err == nil {
			p.err = cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", cmd.Path, err)
	}
	return p, nil
}

// RunProcess starts cmd like [StartProcess] and waits until it ends.
func RunProcess(cmd *exec.Cmd) error {
	p, err := StartProcess(cmd, syscall.SIGKILL)
	if err != nil {
		return err
	}
	<-p.done
	return p.err
}

// PID returns the process ID.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Running reports whether the process has not ended yet.
func (p *Process) Running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// Signal sends a signal. It returns [os.ErrProcessDone] if the process has
// ended.
func (p *Process) Signal(signal syscall.Signal) error {
	return p.cmd.Process.Signal(signal)
}

// Stop sends the signals one after the other, waits up to patience after each
// for the process to end, and finally kills it. It returns nil if the first
// signal was enough or if the process had ended before.
func (p *Process) Stop(patience time.Duration, signals ...syscall.Signal) error {
	for i, signal := range signals {
		// The process may end on its own; then done is closed.
		_ = p.Signal(signal)
		select {
		case <-p.done:
			if i == 0 {
				return nil
			}
			return fmt.Errorf("process %d did not end within %v of %v: ended by %v", p.PID(), patience, signals[0], signal)
		case <-time.After(patience):
		}
	}
	p.Kill()
	return fmt.Errorf("process %d did not end within %v of %v: killed", p.PID(), patience, signals)
}

// Kill ends the process with SIGKILL and waits until it has ended.
func (p *Process) Kill() {
	_ = p.Signal(syscall.SIGKILL)
	<-p.done
}
