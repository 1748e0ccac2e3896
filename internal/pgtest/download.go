package pgtest

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/xi2/xz"

	"github.com/outboxstream/streamer/internal/testserver"
)

// DefaultVersion is downloaded where no PostgreSQL is installed.
const DefaultVersion = "17"

// repository holds the artifacts of github.com/zonkyio/embedded-postgres-binaries.
const repository = "https://repo1.maven.org/maven2/io/zonky/test/postgres"

// The exact version for each major version; fixed, so that two runs test the
// same thing.
var exactVersions = map[string]string{
	"14": "14.18.0",
	"15": "15.13.0",
	"16": "16.9.0",
	"17": "17.5.0",
	"18": "18.3.0",
}

// downloadedBinaries returns the bin folder of a downloaded version, which is
// kept in the user's cache folder.
func downloadedBinaries(ctx context.Context, version string, progress func(string)) (string, error) {
	if exact, ok := exactVersions[version]; ok {
		version = exact
	} else if strings.Count(version, ".") != 2 {
		return "", fmt.Errorf("unknown version: give one of %v or an exact one like 17.5.0", slices.Sorted(maps.Keys(exactVersions)))
	}
	artifact := "embedded-postgres-binaries-" + platform()
	folder, err := testserver.Cached(ctx, artifact+"-"+version, progress, func(folder string) error {
		file := artifact + "-" + version + ".jar"
		testserver.Report(progress, "downloading %s", file)
		jar, err := fetchChecked(ctx, fmt.Sprintf("%s/%s/%s/%s", repository, artifact, version, file))
		if err != nil {
			return fmt.Errorf("download %s: %w", file, err)
		}
		testserver.Report(progress, "unpacking %s (%d MB)", file, len(jar)>>20)
		if err := unpack(jar, folder); err != nil {
			return fmt.Errorf("unpack %s: %w", file, err)
		}
		return nil
	})
	return filepath.Join(folder, "bin"), err
}

// platform is the name of this system in artifact names.
func platform() string {
	arch := runtime.GOARCH
	if arch == "arm64" {
		arch = "arm64v8"
	}
	if _, err := os.Stat("/etc/alpine-release"); err == nil {
		arch += "-alpine" // musl instead of glibc
	}
	return runtime.GOOS + "-" + arch
}

// fetchChecked downloads a file and compares it with its published SHA-256.
func fetchChecked(ctx context.Context, url string) ([]byte, error) {
	content, err := fetch(ctx, url)
	if err != nil {
		return nil, err
	}
	published, err := fetch(ctx, url+".sha256")
	if err != nil {
		return nil, fmt.Errorf("checksum: %w", err)
	}
	sum := sha256.Sum256(content)
	if got, want := hex.EncodeToString(sum[:]), strings.TrimSpace(string(published)); got != want {
		return nil, fmt.Errorf("checksum is %s, published is %s", got, want)
	}
	return content, nil
}

func fetch(ctx context.Context, url string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return nil, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("GET %s: %s", url, response.Status)
	}
	return io.ReadAll(response.Body)
}

// unpack unpacks the .txz file inside the jar into the folder.
func unpack(jar []byte, folder string) error {
	archive, err := zip.NewReader(bytes.NewReader(jar), int64(len(jar)))
	if err != nil {
		return err
	}
	i := slices.IndexFunc(archive.File, func(f *zip.File) bool { return strings.HasSuffix(f.Name, ".txz") })
	if i < 0 {
		return errors.New("no .txz file in it")
	}
	compressed, err := archive.File[i].Open()
	if err != nil {
		return err
	}
	defer compressed.Close()
	content, err := xz.NewReader(compressed, 0)
	if err != nil {
		return err
	}
	root, err := os.OpenRoot(folder)
	if err != nil {
		return err
	}
	defer root.Close()
	return untar(tar.NewReader(content), root)
}

func untar(archive *tar.Reader, root *os.Root) error {
	for {
		entry, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		name := filepath.Clean(entry.Name)
		if err := root.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			return err
		}
		switch entry.Typeflag {
		case tar.TypeDir:
			err = root.MkdirAll(name, 0o755)
		case tar.TypeSymlink:
			err = root.Symlink(entry.Linkname, name)
		case tar.TypeReg:
			err = writeFile(root, name, entry.FileInfo().Mode().Perm(), archive)
		}
		if err != nil {
			return err
		}
	}
}

func writeFile(root *os.Root, name string, mode os.FileMode, content io.Reader) error {
	file, err := root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode)
	if err != nil {
		return err
	}
	_, err = io.Copy(file, content)
	return errors.Join(err, file.Close())
}
