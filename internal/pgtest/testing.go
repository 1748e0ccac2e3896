package pgtest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/outboxstream/streamer/internal/testserver"
)

var (
	shared    testserver.Shared[*Server]
	databases atomic.Int64 // number of databases created, for their names
)

// Main runs the tests of a package that uses [Shared], stops the shared server
// and returns the exit code. A package that uses other servers as well calls
// [testserver.Main] with the CloseShared of each.
func Main(m *testing.M) int {
	return testserver.Main(m, CloseShared)
}

// CloseShared ends the server of [Shared] if it was started.
func CloseShared() {
	shared.Close(func(s *Server) {
		if err := s.Close(); err != nil {
			fmt.Println(err)
		}
	})
}

// Shared returns the single server that all tests of this process share.
// Without PostgreSQL the test is skipped, or fails where CI is true.
func Shared(t testing.TB) *Server {
	t.Helper()
	server, err := shared.Get(func() (*Server, error) {
		return Start(t.Context(), Options{Progress: printProgress})
	})
	testserver.Require(t, err)
	return server
}

// New starts a server for this test and closes it at the end of the test. The
// server's log is shown if the test fails.
func New(t testing.TB, options Options) *Server {
	t.Helper()
	if options.Progress == nil {
		options.Progress = printProgress
	}
	server, err := Start(t.Context(), options)
	testserver.Require(t, err)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("log of PostgreSQL ends with:\n%s", server.logTail())
		}
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	return server
}

// printProgress shows a download at once; the log of a test would show it only
// at the end.
func printProgress(line string) { fmt.Println("pgtest:", line) }

// CreateDatabase creates a database for this test and returns its DSN over TCP.
// The database is dropped at the end of the test, with its replication slots
// and open connections.
func (s *Server) CreateDatabase(t testing.TB) (dsn string) {
	t.Helper()
	name := s.databaseName(t)
	err := s.execute(t.Context(), "CREATE DATABASE "+pgx.Identifier{name}.Sanitize()+" TEMPLATE template0")
	if err != nil {
		t.Fatalf("create database %q: %v", name, err)
	}
	t.Cleanup(func() {
		if s.process == nil || !s.process.Running() {
			return // the test has stopped its server for good
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 30*time.Second)
		defer cancel()
		if err := s.dropDatabase(ctx, name); err != nil {
			t.Errorf("drop database %q: %v", name, err)
		}
	})
	return s.DSN(name)
}

// databaseName is the test's name and a number, within the 63 bytes of an
// identifier.
func (s *Server) databaseName(t testing.TB) string {
	t.Helper()
	name := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return '_'
	}, strings.ToLower(t.Name()))
	return fmt.Sprintf("%.50s_%d", name, databases.Add(1))
}

func (s *Server) execute(ctx context.Context, statement string) error {
	conn, err := pgx.Connect(ctx, s.DSN(superuser))
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, statement)
	return err
}

// dropDatabase drops the slots first, because a database with a logical slot
// cannot be dropped, not even by force.
func (s *Server) dropDatabase(ctx context.Context, name string) error {
	conn, err := pgx.Connect(ctx, s.DSN(superuser))
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	// No client can take a slot again after this.
	if _, err := conn.Exec(ctx, "ALTER DATABASE "+pgx.Identifier{name}.Sanitize()+" ALLOW_CONNECTIONS false"); err != nil {
		return err
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		left, err := dropSlots(ctx, conn, name)
		if err != nil {
			return err
		}
		if left == 0 {
			break
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("%d slots still in use: %w", left, ctx.Err())
		}
	}
	_, err = conn.Exec(ctx, "DROP DATABASE "+pgx.Identifier{name}.Sanitize()+" WITH (FORCE)")
	return err
}

// dropSlots drops the unused slots of the database, ends the users of the other
// slots and of temporary ones, and returns how many slots are left.
func dropSlots(ctx context.Context, conn *pgx.Conn, database string) (left int, err error) {
	_, err = conn.Exec(ctx, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", database)
	if err != nil {
		return 0, fmt.Errorf("end connections: %w", err)
	}
	_, err = conn.Exec(
		ctx,
		"SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = $1 AND NOT active",
		database,
	)
	// A temporary slot goes away with its connection, perhaps at this moment.
	if failed, ok := errors.AsType[*pgconn.PgError](err); err != nil && (!ok || failed.Code != "42704" && failed.Code != "55006") {
		return 0, fmt.Errorf("drop replication slots: %w", err)
	}
	err = conn.QueryRow(ctx, "SELECT count(*) FROM pg_replication_slots WHERE database = $1", database).Scan(&left)
	return left, err
}
