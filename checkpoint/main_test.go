package checkpoint_test

import (
	"os"
	"testing"

	"github.com/outboxstream/streamer/internal/kafkatest"
	"github.com/outboxstream/streamer/internal/pgtest"
	"github.com/outboxstream/streamer/internal/testserver"
)

func TestMain(m *testing.M) {
	if path := os.Getenv(saverVariable); path != "" {
		os.Exit(saveUntilKilled(path))
	}
	os.Exit(testserver.Main(m, pgtest.CloseShared, kafkatest.CloseShared))
}
