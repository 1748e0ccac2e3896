package site

import (
	"github.com/outboxstream/streamer/internal/config"
	"github.com/outboxstream/streamer/replication"
)

// Replaying returns the configuration of the streamer that publishes a replay.
// It differs from the stream's in its slot and its checkpoint.
func Replaying(cfg config.Config) config.Config {
	cfg.Postgres.Slot = replication.ReplaySlot(cfg.Postgres.Slot)
	cfg.Checkpoint.File.Path += ".replay"
	cfg.Rewind.Keep = 0
	cfg.OTLP.Endpoint = ""
	return cfg
}
