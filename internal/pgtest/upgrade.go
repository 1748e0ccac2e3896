package pgtest

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/outboxstream/streamer/internal/testserver"
)

// MajorUpgrade is [Server.Upgrade] for a test: the new server ends with the
// test.
func (s *Server) MajorUpgrade(t testing.TB, version string) (*Server, error) {
	t.Helper()
	upgraded, err := s.Upgrade(t.Context(), version)
	if errors.Is(err, testserver.ErrMissing) {
		testserver.Require(t, err)
	}
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("log of the upgraded server ends with:\n%s", upgraded.logTail())
		}
		if err := upgraded.Close(); err != nil {
			t.Error(err)
		}
	})
	return upgraded, nil
}

// Upgrade stops the server, copies its data to a major version by pg_upgrade, and
// starts the new server on the same port. Both need [Options.Complete]. The old
// server keeps its data, and can be started again while the new one is stopped.
// If pg_upgrade refuses, the error ends with what it says, and the old server is
// stopped.
func (s *Server) Upgrade(ctx context.Context, version string) (*Server, error) {
	options := s.options
	options.Version = version
	bin, err := findBinaries(ctx, options)
	if err != nil {
		return nil, fmt.Errorf("find PostgreSQL binaries: %w", err)
	}
	if err := s.Stop(); err != nil {
		return nil, err
	}
	upgraded := &Server{options: options, bin: bin}
	if err := s.upgrade(ctx, upgraded); err != nil {
		return nil, errors.Join(err, upgraded.Close())
	}
	return upgraded, nil
}

func (s *Server) upgrade(ctx context.Context, to *Server) error {
	if err := to.makeFolders(); err != nil {
		return err
	}
	if err := to.initdb(ctx); err != nil {
		return err
	}
	ports, err := testserver.FreePorts(2)
	if err != nil {
		return err
	}
	cmd := to.command(ctx, "pg_upgrade",
		"--old-bindir", s.bin, "--new-bindir", to.bin, "--old-datadir", s.DataDir(), "--new-datadir", to.DataDir(),
		"--username", superuser, "--socketdir", to.SocketDir(), "--no-sync",
		"--old-port", strconv.Itoa(ports[0]), "--new-port", strconv.Itoa(ports[1]))
	if err := to.run(cmd); err != nil {
		return fmt.Errorf("pg_upgrade: %w\n%s%s", err, to.logTail(), to.upgradeReports())
	}
	to.port = s.port
	return to.StartAgain(ctx)
}

// upgradeReports returns what pg_upgrade has written about its refusal.
func (s *Server) upgradeReports() string {
	reports, _ := filepath.Glob(filepath.Join(s.DataDir(), "pg_upgrade_output.d", "*", "*.txt"))
	var text strings.Builder
	for _, report := range reports {
		fmt.Fprintf(&text, "\n%s:\n%s", filepath.Base(report), readText(report))
	}
	return text.String()
}
