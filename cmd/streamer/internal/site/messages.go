package site

import "github.com/outboxstream/streamer/internal/config"

// OnlyInWAL is what is given up where events are messages.
const OnlyInWAL = "they are only in the WAL, so nothing can be verified against them, " +
	"and nothing can be published again once the WAL is gone (docs/how-to/messages.md)"

// HasTables reports whether there is any outbox table.
func HasTables(c config.Config) bool { return len(TableEntries(c)) > 0 }

// TableEntries are the indexes of the entries that have a table, or a pattern of
// tables.
func TableEntries(c config.Config) (entries []int) {
	for i, o := range c.Tables() {
		if o.Messages == "" {
			entries = append(entries, i)
		}
	}
	return entries
}
