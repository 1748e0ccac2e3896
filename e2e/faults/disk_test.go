package faults

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/stretchr/testify/require"
)

var _ = register(
	fault{
		name: "WAL disk full", group: postgresGroup,
		what:     "the disk that holds PostgreSQL's WAL fills up; the server crashes until there is room again",
		postgres: map[string]string{"max_wal_size": "48MB", "min_wal_size": "32MB"},
		prepare:  (*run).walOnDisk,
		strike:   (*run).fillWAL,
		heal: func(r *run) {
			r.disk.free(r)
			if !r.pg.Running() {
				r.startPostgres()
			}
		},
		recover: true,
	},
)

// disk is a small file system in memory.
type disk struct {
	path string
}

// mountDisk mounts a file system of a size such as "64k" on a folder until the
// test ends. It needs root.
func mountDisk(r *run, path, size string) *disk {
	r.t.Helper()
	output, err := exec.CommandContext(r.ctx, "mount", "-t", "tmpfs", "-o", "size="+size+",mode=0777", "tmpfs", path).CombinedOutput()
	if err != nil {
		r.unplayable("needs a file system of its own, which this user may not mount: %s", strings.TrimSpace(string(output)))
	}
	r.t.Cleanup(func() {
		//nolint:noctx // the test's context is cancelled by now
		if output, err := exec.Command("umount", "-l", path).CombinedOutput(); err != nil {
			r.t.Errorf("unmount %s: %v: %s", path, err, output)
		}
	})
	return &disk{path: path}
}

// fill leaves no room.
func (d *disk) fill(r *run) {
	r.t.Helper()
	file, err := os.OpenFile(d.filler(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	require.NoError(r.t, err)
	defer file.Close()
	block := make([]byte, 4096)
	for {
		if _, err = file.Write(block); err != nil {
			break
		}
	}
	require.ErrorIs(r.t, err, syscall.ENOSPC)
}

// free makes room again.
func (d *disk) free(r *run) {
	r.t.Helper()
	if err := os.Remove(d.filler()); !errors.Is(err, os.ErrNotExist) {
		require.NoError(r.t, err)
	}
}

func (d *disk) filler() string { return filepath.Join(d.path, "filler") }

// walOnDisk moves the WAL to a file system of its own.
func (r *run) walOnDisk() {
	r.t.Helper()
	mounted := filepath.Join(r.pg.DataDir(), "wal-disk")
	require.NoError(r.t, os.Mkdir(mounted, 0o700))
	r.disk = mountDisk(r, mounted, "160m")
	r.t.Cleanup(func() { _ = r.pg.StopImmediate() }) // before the disk is unmounted
	require.NoError(r.t, r.pg.MoveWAL(r.ctx, mounted))
}

// fillWAL leaves no room for the WAL and waits until the server notices.
func (r *run) fillWAL() {
	r.t.Helper()
	r.disk.fill(r)
	r.until("the server has no room for its log", func() bool {
		return strings.Contains(r.pg.Log(), "No space left on device")
	})
}
