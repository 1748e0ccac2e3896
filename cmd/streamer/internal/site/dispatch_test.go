package site

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/outboxstream/streamer/internal/config"
	"github.com/outboxstream/streamer/replication"
)

func TestDispatching(t *testing.T) {
	t.Parallel()
	columns := func(names ...string) (all []replication.Column) {
		for _, name := range names {
			all = append(all, replication.Column{Name: name})
		}
		return all
	}
	inserted, updated, deleted := replication.Writes{Inserted: 7}, replication.Writes{Updated: 7}, replication.Writes{Deleted: 7}
	for name, c := range map[string]struct {
		preset, cleanup string
		columns         []replication.Column
		writes          replication.Writes
		seen            bool
		says            string
	}{
		"updated status of a preset": {"cap", "none", columns("Id", "StatusName"), updated, true, "7 rows have been updated, and StatusName is"},
		"no preset": {
			"", "none", columns("id", "processed_at"), updated, true,
			"processed_at is there to note what was sent: the program that does so",
		},
		"updates of a table without status": {"", "none", columns("id", "note"), updated, false, ""},
		"updates of other columns":          {"cap", "none", columns("Id", "Note"), updated, false, "no sign of CAP's dispatcher"},
		"nothing written":                   {"cap", "none", columns("StatusName"), inserted, false, "no sign of CAP's dispatcher"},
		"deleted by the framework":          {"masstransit", "none", nil, deleted, true, "7 rows have been deleted"},
		"deleted by the streamer":           {"masstransit", "delete", nil, deleted, false, "no sign of MassTransit's"},
		"deleted by a job":                  {"cap", "none", columns("StatusName"), deleted, false, "no sign of CAP's dispatcher"},
		"no dispatcher":                     {"debezium", "none", columns("id"), deleted, false, ""},
	} {
		got := Dispatching(config.Outbox{Preset: c.preset, Cleanup: config.Cleanup{Mode: c.cleanup}}, c.columns, c.writes)
		assert.Equal(t, c.seen, got.Seen, name)
		assert.Contains(t, got.Meaning, c.says, name)
		assert.Equal(t, c.says == "", got.Meaning == "", name)
		assert.Equal(t, c.seen, got.Remedy != "", name)
	}
}
