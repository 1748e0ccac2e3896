package pipeline

import (
	"bytes"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/checkpoint"
	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/replication"
	"github.com/outboxstream/streamer/router"
)

func outboxes(names ...string) []replication.Outbox {
	var list []replication.Outbox
	for _, name := range names {
		list = append(list, replication.Outbox{Table: name})
	}
	return list
}

// With another set of tables the rows of a transaction have other positions. So
// the set may change only where nothing above the checkpoint was published.
func TestAnotherSetOfTables(t *testing.T) {
	t.Parallel()
	published := router.Found{Landmarks: []router.Landmark{{Position: replication.Position{Commit: 200, Ordinal: 2}}}}
	for name, c := range map[string]struct {
		before []string
		now    []replication.Outbox
		first  bool
		found  router.Found
		says   string
	}{
		"one table":              {nil, outboxes("a"), false, published, ""},
		"another name":           {nil, outboxes("b"), false, published, ""},
		"the same":               {[]string{"a", "b"}, outboxes("b", "a"), false, published, ""},
		"one more":               {nil, outboxes("a", "b"), false, published, "with a single outbox table"},
		"one less":               {[]string{"a", "b"}, outboxes("a"), false, published, "with the outbox tables a, b"},
		"another one":            {[]string{"a", "b"}, outboxes("a", "c"), false, published, "with the outbox tables a, b"},
		"another, nothing above": {[]string{"a", "b"}, outboxes("a", "c"), false, router.Found{}, ""},
		"no checkpoint":          {nil, outboxes("a", "c"), true, published, ""},
	} {
		p := &Pipeline{ground: ground{config: &Config{Replication: replication.Config{Outboxes: c.now}}}}
		r := resumeAt(checkpoint.Record{LSN: 100, Tables: c.before})
		err := p.countsAsBefore(&holding{found: !c.first}, r, c.found)
		if c.says == "" {
			require.NoError(t, err, name)
			continue
		}
		require.ErrorContains(t, err, c.says, name)
		assert.Equal(t, failure.Refused, failure.ClassOf(err), name)
		assert.Contains(t, failure.Fix(err), "once more with the former tables", name)
	}
}

// Whatever joins, leaves or is passed over is said once.
func TestChangedTables(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	tenure := &tenure{ground: ground{log: slog.New(slog.NewTextHandler(&log, nil))}}
	table := func(name string, published bool) replication.Table {
		return replication.Table{Outbox: replication.Outbox{Table: name, Pattern: "*.outbox"}, Exists: true, Published: published}
	}
	tenure.seen = []replication.Table{table("a.outbox", true)}
	look := func(tables ...replication.Table) string {
		log.Reset()
		tenure.changed(tables)
		return log.String()
	}
	assert.Empty(t, look(table("a.outbox", true)))
	assert.Contains(t, look(table("a.outbox", true), table("b.outbox", false)), "is not in the publication")
	assert.Empty(t, look(table("a.outbox", true), table("b.outbox", false)))
	assert.Contains(t, look(table("a.outbox", true), table("b.outbox", true)), "has joined the stream")
	assert.Contains(t, look(table("a.outbox", false), table("b.outbox", true)), "has left the publication")
	assert.Contains(t, look(table("b.outbox", true)), "no longer exists")
	assert.Contains(t, look(table("b.outbox", true), table("c.outbox", true)), `has joined the stream" table=c.outbox`)
}
