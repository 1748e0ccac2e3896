package pgtest

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"

	"github.com/outboxstream/streamer/internal/testserver"
)

// owner is the user that owns the data and runs the server when this process
// runs as root, because PostgreSQL refuses to run as root. A nil owner is the
// user of this process.
type owner struct {
	uid, gid int
}

func findOwner() (*owner, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	// initdb insists on a user that has a name.
	account, err := user.Lookup("postgres")
	if err != nil {
		account, err = user.Lookup("nobody")
	}
	if err != nil {
		return nil, fmt.Errorf(
			"PostgreSQL does not run as root and there is no user postgres or nobody: run as another user: %w: %w",
			err, testserver.ErrMissing,
		)
	}
	uid, uidErr := strconv.Atoi(account.Uid)
	gid, gidErr := strconv.Atoi(account.Gid)
	if err := errors.Join(uidErr, gidErr); err != nil {
		return nil, fmt.Errorf("user %q: %w", account.Username, err)
	}
	return &owner{uid: uid, gid: gid}, nil
}

func (o *owner) credential() *syscall.Credential {
	if o == nil {
		return nil
	}
	return &syscall.Credential{Uid: uint32(o.uid), Gid: uint32(o.gid)}
}

// own gives a file or folder, but not its contents, to the owner.
func (o *owner) own(path string) error {
	if o == nil {
		return nil
	}
	if err := os.Chown(path, o.uid, o.gid); err != nil {
		return fmt.Errorf("give folder to the user of the server: %w", err)
	}
	return nil
}

// tempDir returns a folder for temporary files that the owner can reach.
func (o *owner) tempDir() (string, error) {
	for _, dir := range []string{os.TempDir(), "/tmp", "/var/tmp"} {
		if o.canReach(dir) {
			return dir, nil
		}
	}
	return "", fmt.Errorf(
		"no temporary folder that another user can enter: make %s and its parents accessible (chmod o+x) or run as another user than root: %w",
		os.TempDir(), testserver.ErrMissing,
	)
}

// canReach reports whether every user may enter the folder and its parents.
func (o *owner) canReach(dir string) bool {
	if o == nil {
		return true
	}
	for {
		info, err := os.Stat(dir)
		if err != nil || info.Mode().Perm()&0o001 == 0 {
			return false
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return true
		}
		dir = parent
	}
}

// reachable returns bin if the owner can reach it. Otherwise (a cache in the
// home of root) it links the distribution to which bin belongs into the folder
// dist, or copies it if linking fails.
func (o *owner) reachable(bin, dist string) (string, error) {
	if o.canReach(bin) {
		return bin, nil
	}
	if err := linkTree(filepath.Dir(bin), dist); err != nil {
		return "", fmt.Errorf("copy PostgreSQL binaries to where user %d can read them: %w", o.uid, err)
	}
	return filepath.Join(dist, filepath.Base(bin)), nil
}

func linkTree(from, to string) error {
	return filepath.WalkDir(from, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		target := filepath.Join(to, relative)
		switch {
		case entry.IsDir():
			return os.Mkdir(target, 0o755)
		case entry.Type()&fs.ModeSymlink != 0:
			link, err := os.Readlink(path)
			if err != nil {
				return err
			}
			return os.Symlink(link, target)
		}
		if os.Link(path, target) == nil {
			return nil
		}
		return copyFile(path, target)
	})
}

func copyFile(from, to string) error {
	info, err := os.Stat(from)
	if err != nil {
		return err
	}
	content, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, content, info.Mode().Perm())
}
