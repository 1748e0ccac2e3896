package site

import (
	"slices"

	"github.com/outboxstream/streamer/internal/config"
)

// OnlyInWAL is what is given up where events are messages.
const OnlyInWAL = "they are only in the WAL, so nothing can be verified against them, " +
	"and nothing can be published again once the WAL is gone (docs/how-to/messages.md)"

// WithTables are the outboxes that are in a table, or in those of a pattern. The
// others are messages.
func WithTables(c config.Config) []config.Outbox {
	return slices.DeleteFunc(c.Tables(), func(o config.Outbox) bool { return o.Messages != "" })
}
