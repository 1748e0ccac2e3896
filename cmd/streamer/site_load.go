package main

import (
	"math"
	"runtime/debug"

	"github.com/outboxstream/streamer/internal/config"
)

// configuration loads what applies to a command.
type configuration func() (*config.Loaded, error)

func limitMemory(cfg config.Config, limit int64) {
	if debug.SetMemoryLimit(-1) == math.MaxInt64 {
		debug.SetMemoryLimit(limit + int64(cfg.Kafka.MaxInFlightBytes))
	}
}
