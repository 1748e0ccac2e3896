package pgtest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/outboxstream/streamer/internal/testserver"
)

// Backup is a copy of the data directory of a server that was shut down, with
// its replication slots, like a snapshot of its disk.
type Backup struct {
	folder *testserver.Folder
	owner  *owner
}

// Backup stops the server, copies its data and starts it again. The caller
// removes the copy.
func (s *Server) Backup(ctx context.Context) (*Backup, error) {
	parent, err := s.owner.tempDir()
	if err != nil {
		return nil, err
	}
	folder, err := testserver.NewFolder(parent, "pg-backup")
	if err != nil {
		return nil, err
	}
	b := &Backup{folder: folder, owner: s.owner}
	if err := s.Stop(); err != nil {
		return nil, errors.Join(err, b.Remove())
	}
	err = copyTree(s.DataDir(), b.data(), s.owner)
	if err := errors.Join(err, s.StartAgain(ctx)); err != nil {
		return nil, errors.Join(fmt.Errorf("back up PostgreSQL: %w", err), b.Remove())
	}
	return b, nil
}

func (b *Backup) data() string { return filepath.Join(b.folder.Path, "data") }

// Remove removes the copy.
func (b *Backup) Remove() error { return b.folder.Remove() }

// Restore kills the server, replaces its data by the copy, and starts it: it
// has forgotten everything since the backup.
func (s *Server) Restore(ctx context.Context, b *Backup) error {
	if err := s.StopImmediate(); err != nil {
		return err
	}
	if err := os.RemoveAll(s.DataDir()); err != nil {
		return fmt.Errorf("restore PostgreSQL: %w", err)
	}
	if err := copyTree(b.data(), s.DataDir(), s.owner); err != nil {
		return fmt.Errorf("restore PostgreSQL: %w", err)
	}
	return s.StartAgain(ctx)
}

// copyTree copies a data directory for the same owner. It leaves out files that
// belong to a running server.
func copyTree(from, to string, who *owner) error {
	return filepath.WalkDir(from, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		if strings.HasPrefix(relative, "postmaster.") {
			return nil
		}
		target := filepath.Join(to, relative)
		if entry.IsDir() {
			err = os.Mkdir(target, 0o700)
		} else if entry.Type().IsRegular() {
			err = copyContent(path, target)
		}
		if err != nil {
			return err
		}
		return who.own(target)
	})
}

func copyContent(from, to string) error {
	source, err := os.Open(from)
	if err != nil {
		return err
	}
	defer source.Close()
	target, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(target, source)
	return errors.Join(err, target.Close())
}

// WriteData writes a file, such as a certificate's key, into the data
// directory. Only the server can read it.
func (s *Server) WriteData(name string, content []byte) error {
	path := filepath.Join(s.DataDir(), name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		return fmt.Errorf("write into the data directory: %w", err)
	}
	return s.owner.own(path)
}

// MoveWAL restarts the server with its WAL in a folder below to. That parent
// folder must be on the same machine; it is given to the server's user.
func (s *Server) MoveWAL(ctx context.Context, to string) error {
	if err := s.Stop(); err != nil {
		return err
	}
	if err := s.owner.own(to); err != nil {
		return err
	}
	moved, here := filepath.Join(to, "pg_wal"), filepath.Join(s.DataDir(), "pg_wal")
	if err := copyTree(here, moved, s.owner); err != nil {
		return fmt.Errorf("move log: %w", err)
	}
	if err := os.RemoveAll(here); err != nil {
		return fmt.Errorf("move log: %w", err)
	}
	if err := os.Symlink(moved, here); err != nil {
		return fmt.Errorf("move log: %w", err)
	}
	return s.StartAgain(ctx)
}

// Running reports whether the postmaster is running.
func (s *Server) Running() bool { return s.process != nil && s.process.Running() }
