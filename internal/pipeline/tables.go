package pipeline

import (
	"fmt"
	"slices"
	"strings"

	"github.com/outboxstream/streamer/decoder"
	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/replication"
	"github.com/outboxstream/streamer/router"
)

// tables are the names of the outbox tables, and of what stands for one where
// there are messages, sorted; none if there is only one table.
func (c Config) tables() []string {
	if len(c.Replication.Outboxes) == 1 && c.Replication.Outboxes[0].Messages == "" {
		return nil
	}
	var names []string
	for _, o := range c.Replication.Outboxes {
		if o.Messages != "" {
			o.Table = decoder.NamesOfMessages(o.Messages).Name
		}
		names = append(names, o.Table)
	}
	slices.Sort(names)
	return names
}

// countsAsBefore makes sure that the rows of a transaction are counted as they
// were when those above the checkpoint were published. With another set of
// tables a row has another position in its transaction, and would be taken for
// another one.
func (p *Pipeline) countsAsBefore(h *holding, r resumePoint, found router.Found) error {
	if !h.found || len(found.Landmarks) == 0 || slices.Equal(r.Tables, p.config.tables()) {
		return nil
	}
	before := "a single outbox table"
	if len(r.Tables) > 0 {
		before = "the outbox tables " + strings.Join(r.Tables, ", ")
	}
	return failure.Refuse(failure.Advise(
		fmt.Errorf("rows above the checkpoint %s were published with %s, and the configuration has others now", r.LSN, before),
		"start the streamer once more with the former tables, stop it with SIGTERM, and wait for exit code 0: "+
			"then nothing is above the checkpoint",
	))
}

// changed logs which tables have joined the stream, have left it, or match a
// pattern without being published.
func (t *tenure) changed(now []replication.Table) {
	before := map[string]bool{} // whether it was published
	for _, was := range t.seen {
		before[was.Outbox.Table] = was.Published
	}
	for _, is := range now {
		was, known := before[is.Outbox.Table]
		delete(before, is.Outbox.Table)
		switch {
		case is.Published == was && known:
		case is.Published:
			t.log.Info("outbox table has joined the stream", "table", is.Outbox.Table, "pattern", is.Outbox.Pattern)
		case known:
			t.log.Warn("outbox table has left the publication: its rows are no longer published", "table", is.Outbox.Table)
		default:
			t.log.Warn("outbox table is not in the publication: its rows are not published", "table", is.Outbox.Table, "pattern", is.Outbox.Pattern)
		}
	}
	for table := range before {
		t.log.Info("outbox table no longer exists", "table", table)
	}
	t.seen = now
}
