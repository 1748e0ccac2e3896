package checkpoint_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pglogrepl"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/checkpoint"
	"github.com/outboxstream/streamer/internal/failure"
)

func openFile(t *testing.T, path string) *checkpoint.FileStore {
	t.Helper()
	store, err := checkpoint.OpenFile(path)
	require.NoError(t, err)
	return store
}

func filePlace(t *testing.T) place {
	t.Helper()
	path := filepath.Join(t.TempDir(), "streamer.checkpoint")
	return place{
		named:  fmt.Sprintf("file %q", path),
		single: true,
		open:   func(t *testing.T) checkpoint.Store { t.Helper(); return openFile(t, path) },
		plant: func(t *testing.T, _ checkpoint.Identity, stored string) {
			t.Helper()
			require.NoError(t, os.WriteFile(path, []byte(stored), 0o600))
		},
		fail: func(t *testing.T) (repair func()) { // something is in the way
			t.Helper()
			obstacle := filepath.Join(path+".tmp", "obstacle")
			require.NoError(t, os.MkdirAll(obstacle, 0o700))
			return func() { require.NoError(t, os.RemoveAll(filepath.Dir(obstacle))) }
		},
	}
}

func TestFileStore(t *testing.T) {
	t.Parallel()
	conform(t, filePlace, filePlace)
}

func TestFileStoreFolder(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "position")
	require.NoError(t, os.WriteFile(path+".tmp", []byte("left by a crash"), 0o600))
	store := openFile(t, path)
	assert.NoFileExists(t, path+".tmp")
	require.NoError(t, store.Save(t.Context(), record(100)))
	require.NoError(t, os.WriteFile(path+".tmp", []byte("left by a failed removal"), 0o600))
	require.NoError(t, store.Save(t.Context(), record(200)))
	require.NoError(t, store.Close())
	require.NoError(t, store.Close(), "a second time")

	files, err := os.ReadDir(filepath.Dir(path))
	require.NoError(t, err)
	require.Len(t, files, 2, "the file and its lock")
	for _, file := range files {
		info, err := file.Info()
		require.NoError(t, err)
		assert.Equal(t, os.FileMode(0o600), info.Mode(), file.Name())
	}
}

func TestFileStoreLock(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "position")
	first := openFile(t, path)
	_, err := checkpoint.OpenFile(path)
	require.ErrorContains(t, err, fmt.Sprintf("checkpoint file %q is in use: another process holds the lock %q", path, path+".lock"))
	assert.Equal(t, failure.Transient, failure.ClassOf(err))
	require.NoError(t, first.Save(t.Context(), record(100)), "the other one has changed nothing")
	require.NoError(t, first.Close())
	require.NoError(t, openFile(t, path).Close())
}

func TestFileStoreRefusesPaths(t *testing.T) {
	t.Parallel()
	link := func(t *testing.T, path, name string) {
		t.Helper()
		target := filepath.Join(t.TempDir(), "target")
		require.NoError(t, os.WriteFile(target, nil, 0o600))
		require.NoError(t, os.Symlink(target, path+name))
	}
	for name, test := range map[string]struct {
		prepare func(t *testing.T, path string)
		path    string // below the folder; "position" if empty
		message string
	}{
		"a symbolic link": {prepare: func(t *testing.T, path string) { t.Helper(); link(t, path, "") }, message: "symbolic link"},
		"a symbolic link as lock": {
			prepare: func(t *testing.T, path string) { t.Helper(); link(t, path, ".lock") },
			message: `position.lock" is a symbolic link`,
		},
		"a folder": {
			prepare: func(t *testing.T, path string) { t.Helper(); require.NoError(t, os.Mkdir(path, 0o700)) },
			message: "name a regular file",
		},
		"a missing folder": {
			path:    "missing/position",
			message: "its folder does not exist; fix: create the folder, or name another file in checkpoint.file.path",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "position")
			if test.path != "" {
				path = filepath.Join(filepath.Dir(path), test.path)
			}
			if test.prepare != nil {
				test.prepare(t, path)
			}
			_, err := checkpoint.OpenFile(path)
			assert.Contains(t, failure.Describe(err), test.message)
			require.ErrorContains(t, err, path)
			assert.Equal(t, failure.Misconfigured, failure.ClassOf(err))
		})
	}
	t.Run("a link that takes the file's place later", func(t *testing.T) {
		t.Parallel()
		path := filepath.Join(t.TempDir(), "position")
		store := openFile(t, path)
		t.Cleanup(func() { assert.NoError(t, store.Close()) })
		link(t, path, "")
		_, err := store.Load(t.Context(), ours)
		require.ErrorContains(t, err, "symbolic link")
		require.ErrorContains(t, store.Save(t.Context(), record(100)), "symbolic link")
	})
	t.Run("a folder in which we may not write", func(t *testing.T) {
		t.Parallel()
		if os.Geteuid() == 0 {
			t.Skip("root may write everywhere")
		}
		folder := t.TempDir()
		require.NoError(t, os.Chmod(folder, 0o500))
		_, err := checkpoint.OpenFile(filepath.Join(folder, "position"))
		assert.Contains(t, failure.Describe(err), "let the streamer's user write to the folder")
		assert.Equal(t, failure.Misconfigured, failure.ClassOf(err))
	})
}

const saverVariable = "STREAMER_TEST_CHECKPOINT_FILE"

// saveUntilKilled is what the child process of TestFileStoreKilled runs: it
// saves one position after the other and prints each once it is stored.
func saveUntilKilled(path string) int {
	store, err := checkpoint.OpenFile(path)
	for lsn := checkpoint.LSN(1); err == nil; lsn++ {
		if err = store.Save(context.Background(), record(lsn)); err == nil {
			fmt.Println(lsn)
		}
	}
	fmt.Fprintln(os.Stderr, err)
	return 1
}

func TestFileStoreKilled(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "position")
	for range 5 {
		cmd := exec.CommandContext(t.Context(), os.Args[0])
		cmd.Env = append(os.Environ(), saverVariable+"="+path)
		cmd.Stderr = t.Output()
		output, err := cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		lines := bufio.NewScanner(output)
		printed := ""
		for range 20 {
			require.True(t, lines.Scan())
			printed = lines.Text()
		}
		_, err = checkpoint.OpenFile(path)
		require.ErrorContains(t, err, "is in use")
		require.NoError(t, cmd.Process.Kill())
		for lines.Scan() { // what the child has stored until then
			if strings.Contains(lines.Text(), "/") {
				printed = lines.Text()
			}
		}
		require.Error(t, cmd.Wait())

		stored, err := pglogrepl.ParseLSN(printed)
		require.NoError(t, err)
		store := openFile(t, path)
		got, err := store.Load(t.Context(), ours)
		require.NoError(t, err)
		assert.GreaterOrEqual(t, got.LSN, stored)
		require.NoError(t, store.Close())
		assert.NoFileExists(t, path+".tmp")
	}
}
