package site

import (
	"math"
	"runtime/debug"

	"github.com/outboxstream/streamer/internal/config"
)

// Configuration loads the configuration of a command.
type Configuration func() (*config.Loaded, error)

// StreamMemory is the limit of the garbage collector for a process that streams:
// the memory that it is documented to need, in bytes. The bytes in flight come on
// top.
const StreamMemory = 31 << 20

// LimitMemory limits the garbage collector to a number of bytes plus the bytes
// that may be in flight. GOMEMLIMIT overrides the limit.
func LimitMemory(cfg config.Config, limit int64) {
	if debug.SetMemoryLimit(-1) == math.MaxInt64 {
		debug.SetMemoryLimit(limit + int64(cfg.Kafka.MaxInFlightBytes))
	}
}
