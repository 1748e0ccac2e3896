package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// write makes a folder as goreleaser leaves it.
func write(t *testing.T, platforms ...string) string {
	t.Helper()
	dist := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dist, "metadata.json"), []byte(`{"version":"0.1.0"}`), 0o600))
	sums := "00  streamer_0.1.0_amd64.deb\n11  streamer_0.1.0_windows_amd64.zip\n22  streamer_0.0.9_linux_amd64.tar.gz\n"
	for i, platform := range platforms {
		sums += strings.Repeat(string(rune('a'+i)), 64) + "  streamer_0.1.0_" + platform + ".tar.gz\n"
	}
	require.NoError(t, os.WriteFile(filepath.Join(dist, "checksums.txt"), []byte(sums), 0o600))
	return dist
}

func TestFormula(t *testing.T) {
	t.Parallel()
	var text strings.Builder
	require.NoError(t, run([]string{write(t, "darwin_amd64", "darwin_arm64", "linux_amd64", "linux_arm64")}, &text))
	assert.Contains(t, text.String(), `
  on_macos do
    on_arm do
      url "https://github.com/outboxstream/streamer/releases/download/v0.1.0/streamer_0.1.0_darwin_arm64.tar.gz"
      sha256 "`+strings.Repeat("b", 64)+`"
    end
    on_intel do
      url "https://github.com/outboxstream/streamer/releases/download/v0.1.0/streamer_0.1.0_darwin_amd64.tar.gz"
      sha256 "`+strings.Repeat("a", 64)+`"
    end
  end
`)
	assert.Equal(t, strings.Count(text.String(), " do\n"), strings.Count(text.String(), "  end\n")-1, "each block ends, and so does install")
}

func TestFormulaNeedsEveryArchive(t *testing.T) {
	t.Parallel()
	err := run([]string{write(t, "darwin_amd64", "linux_amd64", "linux_arm64")}, &strings.Builder{})
	assert.EqualError(t, err, "no archive for darwin_arm64 in checksums.txt")
}
