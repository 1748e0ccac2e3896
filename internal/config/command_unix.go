//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package config

import (
	"os/exec"
	"syscall"
)

// isolate puts a command into a process group of its own, which ends as a whole.
// A signal from the terminal that stops the streamer then does not end a command
// half-way.
func isolate(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
}
