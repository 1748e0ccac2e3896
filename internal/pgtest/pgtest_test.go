package pgtest_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/internal/pgtest"
)

func TestMain(m *testing.M) {
	if os.Getenv("PGTEST_HELPER") == "1" {
		startAndWait()
		return
	}
	os.Exit(pgtest.Main(m))
}

// startAndWait is the process that TestServerEndsWithItsParent kills.
func startAndWait() {
	server, err := pgtest.Start(context.Background(), pgtest.Options{})
	if err != nil {
		fmt.Println("error:", err)
		return
	}
	fmt.Println(server.PID(), filepath.Dir(server.DataDir()))
	select {}
}

func query[T any](t *testing.T, dsn, sql string) (value T) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	require.NoError(t, err)
	defer func() { assert.NoError(t, conn.Close(context.WithoutCancel(t.Context()))) }()
	require.NoError(t, conn.QueryRow(t.Context(), sql).Scan(&value))
	return value
}

func execute(t *testing.T, dsn, sql string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	require.NoError(t, err)
	defer func() { assert.NoError(t, conn.Close(context.WithoutCancel(t.Context()))) }()
	_, err = conn.Exec(t.Context(), sql)
	require.NoError(t, err)
}

func alive(pid int) bool { return syscall.Kill(pid, 0) == nil }

func TestShared(t *testing.T) {
	t.Parallel()
	server := pgtest.Shared(t)
	assert.Same(t, server, pgtest.Shared(t))
	assert.GreaterOrEqual(t, server.Version(), 140000)
	assert.FileExists(t, filepath.Join(server.BinDir(), "postgres"))
	assert.Contains(t, server.Log(), "ready to accept connections")
	assert.Equal(t, "logical", query[string](t, server.DSN("postgres"), "SHOW wal_level"))
	assert.Equal(t, "UTF8", query[string](t, server.DSN("postgres"), "SHOW server_encoding"))
	assert.Equal(t, strconv.Itoa(server.Port()), query[string](t, server.SocketDSN("postgres"), "SHOW port"))
}

func TestCreateDatabase(t *testing.T) { //nolint:tparallel // the second looks at what the first has left
	t.Parallel()
	server := pgtest.Shared(t)
	var dsn string
	var busy *pgx.Conn
	t.Run("gives each test its own", func(t *testing.T) {
		dsn = server.CreateDatabase(t)
		assert.NotEqual(t, dsn, server.CreateDatabase(t))
		execute(t, dsn, "SELECT pg_create_logical_replication_slot('pgtest_idle', 'pgoutput')")
		var err error
		busy, err = pgx.Connect(t.Context(), dsn)
		require.NoError(t, err)
		_, err = busy.Exec(t.Context(), "SELECT pg_create_logical_replication_slot('pgtest_temporary', 'pgoutput', true)")
		require.NoError(t, err)
	})
	t.Run("drops it with slots and connections", func(t *testing.T) {
		require.Error(t, busy.Ping(t.Context()))
		_, err := pgx.Connect(t.Context(), dsn)
		require.ErrorContains(t, err, "does not exist")
		assert.Zero(t, query[int](t, server.DSN("postgres"), "SELECT count(*)::int FROM pg_replication_slots WHERE slot_name LIKE 'pgtest%'"))
	})
}

func TestStopAndStart(t *testing.T) {
	t.Parallel()
	server := pgtest.New(t, pgtest.Options{Settings: map[string]string{"wal_level": "replica", "cluster_name": "it's"}})
	dsn, port := server.DSN("postgres"), server.Port()
	assert.Equal(t, "replica", query[string](t, dsn, "SHOW wal_level"))
	assert.Equal(t, "it's", query[string](t, dsn, "SHOW cluster_name"))
	execute(t, dsn, "CREATE TABLE kept (n int)")
	require.NoError(t, server.AlterSystem(t.Context(), "wal_level", "logical"))

	require.NoError(t, server.Stop())
	_, err := pgx.Connect(t.Context(), dsn)
	require.Error(t, err)
	assert.Contains(t, server.Log(), "fast shutdown")

	require.NoError(t, server.StartAgain(t.Context()))
	assert.Equal(t, port, server.Port())
	assert.Equal(t, "logical", query[string](t, dsn, "SHOW wal_level"))
	require.ErrorContains(t, server.StartAgain(t.Context()), "it is running")

	require.NoError(t, server.StopImmediate())
	require.NoError(t, server.StartAgain(t.Context()))
	assert.Contains(t, server.Log(), "not properly shut down")
	require.NoError(t, server.Restart(t.Context()))
	assert.Zero(t, query[int](t, dsn, "SELECT count(*)::int FROM kept"))
}

func TestOptions(t *testing.T) {
	t.Parallel()
	t.Run("password and encoding", func(t *testing.T) {
		t.Parallel()
		server := pgtest.New(t, pgtest.Options{Auth: "scram-sha-256", Password: "s3cret/%", Encoding: "SQL_ASCII"})
		assert.Equal(t, "SQL_ASCII", query[string](t, server.DSN("postgres"), "SHOW server_encoding"))
		assert.Equal(t, 1, query[int](t, server.SocketDSN("postgres"), "SELECT 1"))
		_, err := pgx.Connect(t.Context(), fmt.Sprintf("postgres://postgres:wrong@127.0.0.1:%d/postgres", server.Port()))
		require.ErrorContains(t, err, "password authentication failed")
	})
	t.Run("a setting the server refuses", func(t *testing.T) {
		t.Parallel()
		pgtest.Shared(t)
		_, err := pgtest.Start(t.Context(), pgtest.Options{Settings: map[string]string{"wal_level": "nonsense"}})
		require.ErrorContains(t, err, "nonsense")
	})
}

func TestDownloadedVersion(t *testing.T) {
	t.Parallel()
	server := pgtest.New(t, pgtest.Options{Version: "17"})
	assert.Equal(t, 170005, server.Version())

	t.Run("the second start uses the cache", func(t *testing.T) {
		t.Parallel()
		again := pgtest.New(t, pgtest.Options{Version: "17.5.0", Progress: func(line string) { t.Errorf("progress: %s", line) }})
		assert.Equal(t, 170005, again.Version())
	})
	t.Run("an unknown version", func(t *testing.T) {
		t.Parallel()
		_, err := pgtest.Start(t.Context(), pgtest.Options{Version: "99"})
		require.ErrorContains(t, err, "unknown version")
	})
}

func TestClose(t *testing.T) {
	t.Parallel()
	pgtest.Shared(t)
	server, err := pgtest.Start(t.Context(), pgtest.Options{})
	require.NoError(t, err)
	pid, folder := server.PID(), filepath.Dir(server.DataDir())
	require.True(t, alive(pid))
	require.NoError(t, server.Close())
	assert.False(t, alive(pid))
	assert.NoDirExists(t, folder)
	assert.NoError(t, server.Close(), "a second time")
}

func TestServerEndsWithItsParent(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("only Linux ends the server with a killed parent")
	}
	pgtest.Shared(t)
	parent := exec.CommandContext(t.Context(), os.Args[0])
	parent.Env = append(os.Environ(), "PGTEST_HELPER=1")
	output, err := parent.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, parent.Start())
	line, err := bufio.NewReader(output).ReadString('\n')
	require.NoError(t, err)
	var pid int
	var folder string
	_, err = fmt.Sscan(line, &pid, &folder)
	require.NoError(t, err, line)
	require.True(t, alive(pid))

	require.NoError(t, parent.Process.Kill())
	require.Error(t, parent.Wait())
	assert.Eventually(t, func() bool { return !runs(pid) }, 10*time.Second, 20*time.Millisecond)

	// The next server removes the leftovers of the killed one.
	server, err := pgtest.Start(t.Context(), pgtest.Options{})
	require.NoError(t, err)
	require.NoError(t, server.Close())
	assert.NoDirExists(t, folder)
}

// runs reports whether a process is alive. Zombies do not count: in a container
// nothing may collect them.
func runs(pid int) bool {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !strings.Contains(string(status), ") Z ")
}
