package pgtest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/outboxstream/streamer/internal/testserver"
)

// findBinaries returns the folder of initdb and postgres.
func findBinaries(ctx context.Context, options Options) (string, error) {
	version := options.Version
	if options.Complete {
		return completeBinaries(ctx, version, options.Progress)
	}
	if version == "" {
		if bin := os.Getenv("STREAMER_TEST_PG_BIN"); bin != "" {
			if !isBin(bin) {
				return "", fmt.Errorf("no initdb and postgres in STREAMER_TEST_PG_BIN=%q", bin)
			}
			return filepath.Abs(bin)
		}
		version = os.Getenv("STREAMER_TEST_PG_VERSION")
	}
	if version == "" {
		if bin := installedBinaries(ctx); bin != "" {
			return bin, nil
		}
		version = DefaultVersion
	}
	bin, err := downloadedBinaries(ctx, version, options.Progress)
	if err != nil {
		return "", fmt.Errorf("%w: PostgreSQL %s: %w; install PostgreSQL or set STREAMER_TEST_PG_BIN to its bin folder",
			testserver.ErrMissing, version, err)
	}
	return bin, nil
}

// installedBinaries returns the folder of the system's binaries, or "".
func installedBinaries(ctx context.Context) string {
	var candidates []string
	if dir, err := exec.CommandContext(ctx, "pg_config", "--bindir").Output(); err == nil {
		candidates = append(candidates, strings.TrimSpace(string(dir)))
	}
	if path, err := exec.LookPath("postgres"); err == nil {
		candidates = append(candidates, filepath.Dir(path))
	}
	debian, _ := filepath.Glob("/usr/lib/postgresql/*/bin")
	slices.SortFunc(debian, func(a, b string) int { return majorOf(b) - majorOf(a) })
	candidates = append(candidates, debian...)
	if i := slices.IndexFunc(candidates, isBin); i >= 0 {
		return candidates[i]
	}
	return ""
}

// majorOf returns 15 for /usr/lib/postgresql/15/bin.
func majorOf(bin string) int {
	major, err := strconv.Atoi(filepath.Base(filepath.Dir(bin)))
	if err != nil {
		return 0
	}
	return major
}

func isBin(dir string) bool {
	for _, program := range []string{"initdb", "postgres"} {
		if _, err := os.Stat(filepath.Join(dir, program)); err != nil {
			return false
		}
	}
	return true
}
