package kafka

import (
	"os"
	"testing"

	"github.com/outboxstream/streamer/internal/kafkatest"
	"github.com/outboxstream/streamer/internal/testserver"
)

func TestMain(m *testing.M) { os.Exit(testserver.Main(m, kafkatest.CloseShared)) }
