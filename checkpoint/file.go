package checkpoint

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/outboxstream/streamer/internal/failure"
)

// FileStore keeps the record of one streamer in a file. The file is replaced as
// a whole, so that a reader, or a restart after a crash, finds either the old
// record or the new one.
//
// The store holds a lock on path.lock until Close. Load may be called while
// Save runs; Save is not for concurrent use with itself.
type FileStore struct {
	root *os.Root // the file's folder
	name string   // of the file, in root
	path string   // as the operator wrote it, for messages
	lock *os.File
}

const (
	lockSuffix      = ".lock"
	temporarySuffix = ".tmp"
	ownerOnly       = 0o600 // file mode
)

var _ Store = (*FileStore)(nil)

// OpenFile locks the file at path. The file need not exist, but its folder
// must. The error is transient when another process has the lock.
func OpenFile(path string) (*FileStore, error) {
	s, err := openFolder(path)
	if err != nil {
		return nil, err
	}
	if err := s.open(); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func openFolder(path string) (*FileStore, error) {
	folder, name := filepath.Split(filepath.Clean(path))
	if folder == "" {
		folder = "."
	}
	root, err := os.OpenRoot(folder)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, failure.Misconfigure(
			failure.Advise(
				fmt.Errorf("checkpoint file %q: its folder does not exist", path),
				"create the folder, or name another file in checkpoint.file.path",
			),
		)
	}
	if err != nil {
		return nil, explainFile(fmt.Errorf("open the folder of checkpoint file %q: %w", path, err))
	}
	return &FileStore{root: root, name: name, path: path}, nil
}

func (s *FileStore) open() error {
	if err := s.regular(s.name); err != nil {
		return err
	}
	if err := s.takeLock(); err != nil {
		return err
	}
	return s.removeTemporary()
}

// FileReader reads the record of a file and takes no lock: another process may be
// writing it.
type FileReader string // the path

// Load reads the file.
func (path FileReader) Load(ctx context.Context, id Identity) (Record, error) {
	s, err := openFolder(string(path))
	if err != nil {
		return Record{}, err
	}
	r, err := s.Load(ctx, id)
	return r, errors.Join(err, s.Close())
}

// Close does nothing.
func (FileReader) Close() error { return nil }

// regular refuses anything that a rename would replace or an open would follow:
// a symbolic link, a folder, a device. A missing file is fine.
func (s *FileStore) regular(name string) error {
	info, err := s.root.Lstat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return explainFile(fmt.Errorf("inspect checkpoint file %q: %w", s.path, err))
	case !info.Mode().IsRegular():
		return failure.Misconfigure(
			failure.Advise(
				fmt.Errorf("checkpoint file %q: %q is a symbolic link, a folder or a device", s.path, name),
				"name a regular file in checkpoint.file.path",
			),
		)
	}
	return nil
}

// takeLock locks the lock file, which Close does not remove. Otherwise two
// processes could lock two different files of that name.
func (s *FileStore) takeLock() error {
	name := s.name + lockSuffix
	if err := s.regular(name); err != nil {
		return err
	}
	lock, err := s.root.OpenFile(name, os.O_CREATE|os.O_RDWR, ownerOnly)
	if err != nil {
		return explainFile(fmt.Errorf("open the lock of checkpoint file %q: %w", s.path, err))
	}
	s.lock = lock
	held, err := lockFile(lock)
	if err != nil {
		return fmt.Errorf("lock checkpoint file %q: %w", s.path, err)
	}
	if held {
		return failure.Advise(
			fmt.Errorf("checkpoint file %q is in use: another process holds the lock %q", s.path, s.path+lockSuffix),
			"stop the other process, or give this streamer a file of its own in checkpoint.file.path",
		)
	}
	return nil
}

// Load reads the file.
func (s *FileStore) Load(ctx context.Context, id Identity) (Record, error) {
	if err := ctx.Err(); err != nil {
		return Record{}, fmt.Errorf("load checkpoint from %s: %w", s.where(), err)
	}
	stored, err := s.read()
	if err != nil {
		return Record{}, err
	}
	return Decode(stored, id, s.where())
}

func (s *FileStore) read() ([]byte, error) {
	if err := s.regular(s.name); err != nil {
		return nil, err
	}
	stored, err := s.root.ReadFile(s.name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w", s.where(), ErrNone)
	}
	if err != nil {
		return nil, explainFile(fmt.Errorf("read checkpoint file %q: %w", s.path, err))
	}
	return stored, nil
}

// Claim does nothing: the file is locked while the store is open.
func (s *FileStore) Claim(context.Context, Identity) error { return nil }

// Save replaces the file. It refuses to replace the record of another database
// or slot, because the file holds only one.
func (s *FileStore) Save(ctx context.Context, r Record) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("save checkpoint to %s: %w", s.where(), err)
	}
	if err := s.ours(r.Identity); err != nil {
		return err
	}
	encoded, err := Encode(r)
	if err != nil {
		return err
	}
	if err := s.replace(encoded); err != nil {
		return explainFile(fmt.Errorf("save checkpoint to %s: %w", s.where(), err))
	}
	return nil
}

// ours refuses only an intact record of another key. A damaged file and the
// record of a replaced cluster may be overwritten: Load refuses both, so only
// an operator's decision leads to a Save.
func (s *FileStore) ours(id Identity) error {
	stored, err := s.read()
	if errors.Is(err, ErrNone) {
		return nil
	}
	if err != nil {
		return err
	}
	if found, err := parse(stored, s.where()); err == nil && found.Key() != id.Key() {
		return foreign(found, id, s.where())
	}
	return nil
}

// replace writes a new file, makes its bytes durable, renames it, and makes the
// name durable. In any other order a crash can leave an empty file.
func (s *FileStore) replace(encoded []byte) error {
	if err := s.removeTemporary(); err != nil {
		return err
	}
	temporary := s.name + temporarySuffix
	file, err := s.root.OpenFile(temporary, os.O_CREATE|os.O_EXCL|os.O_WRONLY, ownerOnly)
	if err != nil {
		return err
	}
	_, err = file.Write(encoded)
	if err == nil {
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err == nil {
		err = s.root.Rename(temporary, s.name)
	}
	if err != nil {
		return errors.Join(err, s.removeTemporary())
	}
	return s.syncFolder()
}

func (s *FileStore) syncFolder() error {
	folder, err := s.root.Open(".")
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}

// removeTemporary removes what a crash left over. The lock makes sure that no
// other process is writing it.
func (s *FileStore) removeTemporary() error {
	err := s.root.Remove(s.name + temporarySuffix)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return explainFile(fmt.Errorf("remove an unfinished checkpoint file: %w", err))
	}
	return nil
}

func (s *FileStore) where() string { return fmt.Sprintf("file %q", s.path) }

// Close releases the lock. A second Close does nothing.
func (s *FileStore) Close() error {
	var err error
	if s.lock != nil {
		err = errors.Join(unlockFile(s.lock), s.lock.Close())
		s.lock = nil
	}
	return errors.Join(err, s.root.Close())
}

// explainFile distinguishes a mistake that stays until the operator repairs it
// from trouble that may pass, such as a full disk.
func explainFile(err error) error {
	if errors.Is(err, fs.ErrPermission) || readOnly(err) {
		return failure.Misconfigure(failure.Advise(
			err, "let the streamer's user write to the folder of the checkpoint file, or name another file in checkpoint.file.path",
		))
	}
	return err
}
