package browser

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha512"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
)

// unpack writes one file of a package whose hash, as npm writes it, is known.
func unpack(archive, integrity, name, to string) error {
	content, err := os.ReadFile(archive)
	if err != nil {
		return err
	}
	hash := sha512.Sum512(content)
	if got := "sha512-" + base64.StdEncoding.EncodeToString(hash[:]); got != integrity {
		return fmt.Errorf("hash of %s is %s, not %s", archive, got, integrity)
	}
	compressed, err := gzip.NewReader(bytes.NewReader(content))
	if err != nil {
		return err
	}
	for files := tar.NewReader(compressed); ; {
		header, err := files.Next()
		if errors.Is(err, io.EOF) {
			return fmt.Errorf("%s is not in %s", name, archive)
		}
		if err != nil {
			return err
		}
		if header.Name != name {
			continue
		}
		text, err := io.ReadAll(files)
		if err != nil {
			return err
		}
		return os.WriteFile(to, text, 0o600)
	}
}
