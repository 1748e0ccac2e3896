package site

import (
	"maps"
	"strconv"

	"github.com/outboxstream/streamer/internal/config"
)

const (
	// letterRoom is what a dead letter holds in addition to its row, in bytes.
	letterRoom = 1 << 20
	// largestLetter is the default limit of a broker for one request, in bytes.
	largestLetter = 100 << 20
)

// DeadLetterSettings returns the settings of a dead letter topic that the
// streamer creates. They are those of output topics with two differences. The
// topic keeps every record until a decision, and it accepts the largest row.
func DeadLetterSettings(cfg config.Config) map[string]string {
	settings := maps.Clone(cfg.Kafka.Topics.Configs)
	if settings == nil {
		settings = map[string]string{}
	}
	settings["cleanup.policy"], settings["retention.ms"], settings["retention.bytes"] = "delete", "-1", "-1"
	room := min(int64(ReplicationConfig(cfg).MaxRow)+letterRoom, largestLetter)
	if configured, err := strconv.ParseInt(settings["max.message.bytes"], 10, 64); err != nil || configured < room {
		settings["max.message.bytes"] = strconv.FormatInt(room, 10)
	}
	return settings
}
