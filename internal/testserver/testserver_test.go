package testserver_test

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/internal/testserver"
)

// recorder is a test that only records how it would end.
type recorder struct {
	testing.TB
	skipped, failed bool
}

func (r *recorder) Helper() {}

// Skip and Fatal end the test, like those of a real test.
func (r *recorder) Skip(...any)  { r.skipped = true; runtime.Goexit() }
func (r *recorder) Fatal(...any) { r.failed = true; runtime.Goexit() }

func TestRequire(t *testing.T) {
	missing := fmt.Errorf("find it: %w", testserver.ErrMissing)
	for _, test := range []struct {
		name, ci        string
		err             error
		skipped, failed bool
	}{
		{name: "a server", ci: "true"},
		{name: "no server", err: missing, skipped: true},
		{name: "no server in CI", ci: "true", err: missing, failed: true},
		{name: "a server that does not start", err: errors.New("broken"), failed: true},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Setenv("CI", test.ci)
			got := &recorder{}
			var ended sync.WaitGroup
			ended.Go(func() { testserver.Require(got, test.err) })
			ended.Wait()
			assert.Equal(t, test.skipped, got.skipped, "skipped")
			assert.Equal(t, test.failed, got.failed, "failed")
		})
	}
}

func TestShared(t *testing.T) {
	t.Parallel()
	var shared testserver.Shared[int]
	starts, stopped := 0, 0
	start := func() (int, error) { starts++; return starts, nil }
	stop := func(server int) { stopped = server }

	shared.Close(stop)
	assert.Zero(t, stopped, "never started")
	for range 2 {
		server, err := shared.Get(start)
		require.NoError(t, err)
		assert.Equal(t, 1, server)
	}
	shared.Close(stop)
	assert.Equal(t, 1, stopped)
	server, err := shared.Get(start)
	require.NoError(t, err)
	assert.Equal(t, 2, server)

	var broken testserver.Shared[int]
	_, err = broken.Get(func() (int, error) { return 0, errors.New("broken") })
	require.Error(t, err)
	_, err = broken.Get(start)
	require.ErrorContains(t, err, "broken", "not tried again")
	assert.Equal(t, 2, starts)
}

func TestFreePorts(t *testing.T) {
	t.Parallel()
	ports, err := testserver.FreePorts(5)
	require.NoError(t, err)
	require.Len(t, ports, 5)
	seen := map[int]bool{}
	for _, port := range ports {
		assert.False(t, seen[port])
		seen[port] = true
		listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		require.NoError(t, err)
		require.NoError(t, listener.Close())
	}
}

func TestCached(t *testing.T) {
	cache := t.TempDir()
	t.Setenv("XDG_CACHE_HOME", cache)
	t.Setenv("HOME", cache)
	cached := func(fill func(string) error) (string, error) {
		return testserver.Cached(t.Context(), "thing-1", nil, fill)
	}
	write := func(folder string) error {
		return os.WriteFile(filepath.Join(folder, "file"), []byte("content"), 0o600)
	}

	_, err := cached(func(folder string) error { return errors.Join(write(folder), errors.New("no network")) })
	require.ErrorContains(t, err, "no network")

	var fills atomic.Int32
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			folder, err := cached(func(folder string) error {
				fills.Add(1)
				return write(folder)
			})
			assert.NoError(t, err) //nolint:testifylint // require belongs to the goroutine of the test
			assert.FileExists(t, filepath.Join(folder, "file"))
		})
	}
	all.Wait()
	assert.EqualValues(t, 1, fills.Load())
	partial, err := filepath.Glob(filepath.Join(cache, "*", "*.partial"))
	require.NoError(t, err)
	assert.Empty(t, partial)
}

func TestFolder(t *testing.T) {
	t.Parallel()
	parent := t.TempDir()
	left := filepath.Join(parent, "streamer-test-left")
	require.NoError(t, os.Mkdir(left, 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(left, "lock"), nil, 0o600))
	foreign := filepath.Join(parent, "foreign")
	require.NoError(t, os.Mkdir(foreign, 0o700))

	first, err := testserver.NewFolder(parent, "a")
	require.NoError(t, err)
	second, err := testserver.NewFolder(parent, "b")
	require.NoError(t, err)
	assert.NoDirExists(t, left, "its process is gone")
	assert.DirExists(t, foreign)
	assert.DirExists(t, first.Path, "still used")
	require.NoError(t, first.Remove())
	require.NoError(t, first.Remove(), "a second time")
	require.NoError(t, second.Remove())
	entries, err := os.ReadDir(parent)
	require.NoError(t, err)
	assert.Len(t, entries, 1)
}

// started starts a shell script that reports when it is ready.
func started(t *testing.T, script string) *testserver.Process {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "sh", "-c", script)
	output, err := cmd.StdoutPipe()
	require.NoError(t, err)
	process, err := testserver.StartProcess(cmd, syscall.SIGKILL)
	require.NoError(t, err)
	t.Cleanup(process.Kill)
	_, err = bufio.NewReader(output).ReadString('\n')
	require.NoError(t, err)
	return process
}

func TestProcess(t *testing.T) {
	t.Parallel()
	t.Run("ends by the first signal", func(t *testing.T) {
		t.Parallel()
		process := started(t, "echo ready; exec sleep 60")
		assert.True(t, process.Running())
		require.NoError(t, process.Stop(time.Minute, syscall.SIGINT, syscall.SIGTERM))
		assert.False(t, process.Running())
		require.NoError(t, process.Stop(time.Minute, syscall.SIGINT), "ended before")
	})
	t.Run("ends by the second signal", func(t *testing.T) {
		t.Parallel()
		process := started(t, "trap '' INT; echo ready; exec sleep 60")
		// Long enough for a busy machine to deliver the second signal.
		err := process.Stop(3*time.Second, syscall.SIGINT, syscall.SIGTERM)
		require.ErrorContains(t, err, "ended by terminated")
	})
	t.Run("is killed at last", func(t *testing.T) {
		t.Parallel()
		process := started(t, "trap '' INT; echo ready; exec sleep 60")
		require.ErrorContains(t, process.Stop(100*time.Millisecond, syscall.SIGINT), "killed")
		assert.False(t, process.Running())
	})
	t.Run("does not start", func(t *testing.T) {
		t.Parallel()
		_, err := testserver.StartProcess(exec.CommandContext(t.Context(), "/does/not/exist"), syscall.SIGKILL)
		require.ErrorIs(t, err, os.ErrNotExist)
	})
}
