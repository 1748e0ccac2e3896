package site

import (
	"math"
	"runtime/debug"

	"github.com/outboxstream/streamer/internal/config"
)

// Configuration loads the configuration of a command.
type Configuration func() (*config.Loaded, error)

// LimitMemory limits the garbage collector to a number of bytes plus the bytes
// that may be in flight. GOMEMLIMIT overrides the limit.
func LimitMemory(cfg config.Config, limit int64) {
	if debug.SetMemoryLimit(-1) == math.MaxInt64 {
		debug.SetMemoryLimit(limit + int64(cfg.Kafka.MaxInFlightBytes))
	}
}
