package testserver

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

const (
	folderPrefix = "streamer-test-"
	lockFile     = "lock"
)

// Folder is a temporary folder. If its process is killed before it can remove
// the folder, the next [NewFolder] removes it. A lock on a file in the folder,
// which ends with the process, shows whether the process is still there.
type Folder struct {
	Path string
	lock *os.File
}

// NewFolder creates a folder inside parent, or inside [os.TempDir] if parent is
// empty.
func NewFolder(parent, name string) (*Folder, error) {
	if parent == "" {
		parent = os.TempDir()
	}
	sweep(parent)
	path, err := os.MkdirTemp(parent, folderPrefix+name+"-")
	if err != nil {
		return nil, fmt.Errorf("make a temporary folder: %w", err)
	}
	// The file is locked before it gets its name, so that a sweep never sees it
	// unlocked.
	unnamed := filepath.Join(path, lockFile+".new")
	lock, err := openLocked(unnamed, syscall.LOCK_EX)
	if err == nil {
		err = os.Rename(unnamed, filepath.Join(path, lockFile))
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lock temporary folder: %w", err), os.RemoveAll(path))
	}
	return &Folder{Path: path, lock: lock}, nil
}

// Remove removes the folder with everything in it. It may be called again.
func (f *Folder) Remove() error {
	closed := f.lock.Close()
	if errors.Is(closed, os.ErrClosed) {
		closed = nil
	}
	return errors.Join(os.RemoveAll(f.Path), closed)
}

// sweep removes the folders whose lock is free. It does what it can: folders of
// other users stay.
func sweep(parent string) {
	locks, _ := filepath.Glob(filepath.Join(parent, folderPrefix+"*", lockFile))
	for _, path := range locks {
		lock, err := os.Open(path)
		if err != nil {
			continue
		}
		if syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil {
			_ = os.RemoveAll(filepath.Dir(path))
		}
		_ = lock.Close()
	}
}

// openLocked opens or creates the file and locks it; how is as in flock(2).
// Closing the file releases the lock.
func openLocked(path string, how int) (*os.File, error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(file.Fd()), how); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

// Cached returns the folder name of the cache, which is shared by all processes
// of the user. If the folder does not exist, fill puts the contents into a new
// folder, which gets its name once fill has returned without an error. Other
// processes wait in the meantime. progress may be nil.
func Cached(ctx context.Context, name string, progress func(string), fill func(folder string) error) (string, error) {
	base, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("cache folder of the user: %w", err)
	}
	folder := filepath.Join(base, "streamer-test", name)
	if _, err := os.Stat(folder); err == nil {
		return folder, nil
	}
	if err := os.MkdirAll(filepath.Dir(folder), 0o755); err != nil {
		return "", fmt.Errorf("make cache folder: %w", err)
	}
	lock, err := waitForLock(ctx, folder+".lock", progress)
	if err != nil {
		return "", fmt.Errorf("lock cache folder %q: %w", name, err)
	}
	defer lock.Close()
	if _, err := os.Stat(folder); err == nil {
		return folder, nil // another process filled it in the meantime
	}

	partial := folder + ".partial"
	if err := os.RemoveAll(partial); err != nil {
		return "", fmt.Errorf("remove an unfinished download: %w", err)
	}
	if err := os.Mkdir(partial, 0o755); err != nil {
		return "", fmt.Errorf("make cache folder: %w", err)
	}
	if err := fill(partial); err != nil {
		return "", errors.Join(err, os.RemoveAll(partial))
	}
	if err := os.Rename(partial, folder); err != nil {
		return "", fmt.Errorf("name cache folder: %w", err)
	}
	return folder, nil
}

func waitForLock(ctx context.Context, path string, progress func(string)) (*os.File, error) {
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for announced := false; ; announced = true {
		lock, err := openLocked(path, syscall.LOCK_EX|syscall.LOCK_NB)
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return lock, err
		}
		if !announced {
			Report(progress, "waiting for the download of another process")
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// Report calls progress with a formatted line unless progress is nil.
func Report(progress func(string), format string, args ...any) {
	if progress != nil {
		progress(fmt.Sprintf(format, args...))
	}
}
