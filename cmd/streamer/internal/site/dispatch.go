package site

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/outboxstream/streamer/internal/config"
	"github.com/outboxstream/streamer/replication"
)

// Dispatch is what is known about another program that sends the rows of the
// outbox table as well.
type Dispatch struct {
	Seen    bool   // the statistics of the table show it at work
	Meaning string // empty: nothing points to one
	Remedy  string
}

// statusColumns are columns in which programs that send rows themselves note
// what they have sent, without underscores and in lower case.
var statusColumns = []string{
	"processedat", "processedon", "processedonutc", "processed", "isprocessed", "publishedat", "published", "ispublished", "dispatchedat",
	"dispatched", "sentat", "sent", "issent", "deliveredat", "delivered", "completiondate", "completedat", "status", "statusname", "state",
	"retrycount", "retries", "attempts", "lockeduntil", "lockedat",
}

// Dispatching looks for signs that another program sends the rows: they are
// updated in a column that is for that, or deleted by a framework that does so.
func Dispatching(o config.Outbox, columns []replication.Column, w replication.Writes) Dispatch {
	p, _ := config.FindPreset(o.Preset)
	who := cmp.Or(p.Dispatcher, "the program that does so")
	remedy := cmp.Or(p.TurnOff, "find the program, and let only one of the two publish; if it does something else with the rows, leave it") +
		"; until then consumers get each event twice, in two orders"
	marks := present(columns, p.Status)
	switch since := sinceText(w.Since); {
	case w.Updated > 0 && len(marks) > 0:
		return Dispatch{true, fmt.Sprintf("%d rows have been updated%s, and %s is there to note what was sent: %s may be publishing them as well",
			w.Updated, since, strings.Join(marks, ", "), who), remedy}
	case p.Deletes && w.Deleted > 0 && o.Cleanup.Mode == config.CleanupNone:
		return Dispatch{true, fmt.Sprintf("%d rows have been deleted%s: %s may be publishing them as well", w.Deleted, since, who), remedy}
	case p.Dispatcher != "":
		return Dispatch{false, fmt.Sprintf("no sign of %s in what was updated and deleted%s", who, since), ""}
	}
	return Dispatch{}
}

// present are the status columns that the table has: those of the preset, or
// those whose names say so.
func present(columns []replication.Column, status []string) []string {
	var found []string
	for _, c := range columns {
		plain := strings.ToLower(strings.ReplaceAll(c.Name, "_", ""))
		if slices.Contains(status, c.Name) || len(status) == 0 && slices.Contains(statusColumns, plain) {
			found = append(found, c.Name)
		}
	}
	return found
}

func sinceText(since time.Time) string {
	if since.IsZero() {
		return ""
	}
	return " since " + since.Format(time.RFC3339)
}
