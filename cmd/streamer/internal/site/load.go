package site

import (
	"math"
	"runtime/debug"

	"github.com/outboxstream/streamer/internal/config"
)

// Configuration loads what applies to a command.
type Configuration func() (*config.Loaded, error)

// LimitMemory keeps the garbage collector within a number of bytes, and what may be
// in flight on top, unless GOMEMLIMIT says otherwise.
func LimitMemory(cfg config.Config, limit int64) {
	if debug.SetMemoryLimit(-1) == math.MaxInt64 {
		debug.SetMemoryLimit(limit + int64(cfg.Kafka.MaxInFlightBytes))
	}
}
