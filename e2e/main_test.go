package e2e

import (
	"context"
	"fmt"
	"os"
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
		err = testserver.Build(context.Background(), "..", "./cmd/streamer", binary)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := testserver.Main(m, pgtest.CloseShared, kafkatest.CloseShared)
	_ = os.RemoveAll(folder)
	os.Exit(code)
}
