package languages

import (
	"os"
	"testing"

	"github.com/outboxstream/streamer/internal/pgtest"
	"github.com/outboxstream/streamer/internal/testserver"
)

func TestMain(m *testing.M) {
	os.Exit(testserver.Main(m, pgtest.CloseShared))
}
