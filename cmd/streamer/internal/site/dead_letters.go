package site

import (
	"maps"
	"strconv"

	"github.com/outboxstream/streamer/internal/config"
)

const (
	// letterRoom is what a dead letter has beside its row, in bytes.
	letterRoom = 1 << 20
	// largestLetter is what brokers take in one request, by default.
	largestLetter = 100 << 20
)

// DeadLetterSettings are those of the dead letter topic where we create it: like
// those of output topics, but it forgets nothing that was not decided about, and
// takes the largest row.
func DeadLetterSettings(cfg config.Config) map[string]string {
	settings := maps.Clone(cfg.Kafka.Topics.Configs)
	if settings == nil {
		settings = map[string]string{}
	}
	settings["cleanup.policy"], settings["retention.ms"], settings["retention.bytes"] = "delete", "-1", "-1"
	room := min(int64(cfg.Outbox.MaxRowBytes)+letterRoom, largestLetter)
	if configured, err := strconv.ParseInt(settings["max.message.bytes"], 10, 64); err != nil || configured < room {
		settings["max.message.bytes"] = strconv.FormatInt(room, 10)
	}
	return settings
}
