package pgtest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/outboxstream/streamer/internal/testserver"
)

// command prepares a program of PostgreSQL to run as the owner of the data.
func (s *Server) command(ctx context.Context, program string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(s.bin, program), args...)
	// The current folder may be closed to the owner.
	cmd.Dir = s.folder.Path
	// PGDATA, PGPORT, PGOPTIONS and so on concern another server.
	cmd.Env = slices.DeleteFunc(os.Environ(), func(variable string) bool {
		return strings.HasPrefix(variable, "PG")
	})
	if s.options.Complete {
		// The libraries of a Python package are where its own loader looks for them.
		cmd.Env = append(cmd.Env, "LD_LIBRARY_PATH="+filepath.Join(filepath.Dir(s.bin), "lib"))
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.owner.credential()}
	return cmd
}

// start starts the server; its output goes to the log.
func (s *Server) start(cmd *exec.Cmd) (err error) {
	return s.withLog(cmd, func() error {
		// SIGQUIT lets the postmaster end its children before itself.
		s.process, err = testserver.StartProcess(cmd, syscall.SIGQUIT)
		return err
	})
}

// run runs a program to its end; its output goes to the log.
func (s *Server) run(cmd *exec.Cmd) error {
	return s.withLog(cmd, func() error { return testserver.RunProcess(cmd) })
}

func (s *Server) withLog(cmd *exec.Cmd, run func() error) error {
	log, err := os.OpenFile(s.logFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("open server log: %w", err)
	}
	defer log.Close() // the child has its own descriptor
	cmd.Stdout, cmd.Stderr = log, log
	return run()
}
