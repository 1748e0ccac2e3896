package e2e

import (
	"fmt"
	"os"
	"testing"

	"github.com/outboxstream/streamer/internal/kafkatest"
	"github.com/outboxstream/streamer/internal/pgtest"
	"github.com/outboxstream/streamer/internal/testserver"
)

// TestMain runs the tests, or, in a process that a test has started, one instance
// of a service.
func TestMain(m *testing.M) {
	if os.Getenv(serviceSettings) != "" {
		if err := serve(); err != nil {
			fmt.Fprintln(os.Stderr, "service:", err)
			os.Exit(1)
		}
		return
	}
	os.Exit(testserver.Main(m, pgtest.CloseShared, kafkatest.CloseShared))
}
