package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/outboxstream/streamer/internal/testserver"
)

const (
	readyLimit    = 20 * time.Second
	shutdownLimit = 15 * time.Second // a little more than the streamer's own drain timeout
)

func (d *demo) binary() string        { return filepath.Join(d.folder.Path, "streamer") }
func (d *demo) configuration() string { return filepath.Join(d.folder.Path, "streamer.yaml") }
func (d *demo) logFile() string       { return filepath.Join(d.folder.Path, "streamer.log") }

// build builds the binary as users get it.
func (d *demo) build(ctx context.Context) error {
	d.screen.progress("go build ./cmd/streamer")
	if err := testserver.Build(ctx, "", "github.com/outboxstream/streamer/cmd/streamer", d.binary()); err != nil {
		return err
	}
	info, err := os.Stat(d.binary())
	if err != nil {
		return fmt.Errorf("build the streamer: %w", err)
	}
	d.screen.done("one static binary of %d MB; no database, no JVM, no Connect cluster beside it", info.Size()>>20)
	return nil
}

// command prepares a command of the streamer. It drops environment variables
// for another streamer or another database.
func (d *demo) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, d.binary(), append([]string{"--config", d.configuration()}, args...)...)
	cmd.Dir = d.folder.Path
	cmd.Env = slices.DeleteFunc(os.Environ(), func(variable string) bool {
		return strings.HasPrefix(variable, "PG") || strings.HasPrefix(variable, "STREAMER_")
	})
	return cmd
}

// streamer is a process of the command "streamer run".
type streamer struct {
	cmd     *exec.Cmd
	process *testserver.Process
}

// startStreamer starts the streamer and waits until it streams.
func (d *demo) startStreamer(ctx context.Context) (*streamer, error) {
	log, err := os.OpenFile(d.logFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the log of the streamer: %w", err)
	}
	defer log.Close() // the child has its own descriptor
	// The demo ends the process by a signal, not by a context.
	s := &streamer{cmd: d.command(context.WithoutCancel(ctx), "run")}
	s.cmd.Stdout, s.cmd.Stderr = log, log
	if s.process, err = testserver.StartProcess(s.cmd, syscall.SIGKILL); err != nil {
		return nil, err
	}
	if err := d.awaitReady(ctx, s); err != nil {
		s.process.Kill()
		return nil, err
	}
	return s, nil
}

// awaitReady polls the streamer's endpoint until it says that it is streaming.
func (d *demo) awaitReady(ctx context.Context, s *streamer) error {
	ctx, cancel := context.WithTimeoutCause(ctx, readyLimit, fmt.Errorf("the streamer is not ready after %v", readyLimit))
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !d.ready(ctx) {
		select {
		case <-tick.C:
		case <-s.process.Done():
			return s.ended()
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

func (d *demo) ready(ctx context.Context) bool {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+d.http+"/readyz", http.NoBody)
	if err != nil {
		return false
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return false
	}
	defer response.Body.Close()
	return response.StatusCode == http.StatusOK
}

// ended says how the process ended although it was not told to.
func (s *streamer) ended() error {
	return fmt.Errorf("the streamer ended by itself: %v", s.cmd.ProcessState)
}

// terminate stops the streamer cleanly, which must end with exit code 0.
func (s *streamer) terminate() error {
	if !s.process.Running() {
		return s.ended()
	}
	err := s.process.Stop(shutdownLimit, syscall.SIGTERM)
	if code := s.cmd.ProcessState.ExitCode(); code != 0 {
		err = errors.Join(err, fmt.Errorf("the streamer ended with %v, not with exit code 0", s.cmd.ProcessState))
	}
	return err
}

// withLog adds the end of the streamer's log to an error.
func (d *demo) withLog(err error) error {
	if err == nil {
		return nil
	}
	text, readErr := os.ReadFile(d.logFile())
	if readErr != nil || len(text) == 0 {
		return err // it has not begun to write
	}
	const enough = 20
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return fmt.Errorf("%w\nthe streamer's log ends with:\n%s", err, strings.Join(lines[max(0, len(lines)-enough):], "\n"))
}
