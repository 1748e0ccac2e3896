package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/outboxstream/streamer/internal/kafkatest"
	"github.com/outboxstream/streamer/internal/pgtest"
	"github.com/outboxstream/streamer/internal/testserver"
)

// binary is the streamer under test, built once.
var binary string

func TestMain(m *testing.M) {
	folder, err := os.MkdirTemp("", "streamer-e2e-*")
	if err == nil {
		binary = filepath.Join(folder, "streamer")
		var output []byte
		if output, err = exec.CommandContext(context.Background(), "go", "build", "-o", binary, "../cmd/streamer").CombinedOutput(); err != nil {
			err = fmt.Errorf("%w: %s", err, output)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "build the streamer:", err)
		os.Exit(1)
	}
	code := testserver.Main(m, pgtest.CloseShared, kafkatest.CloseShared)
	_ = os.RemoveAll(folder)
	os.Exit(code)
}
