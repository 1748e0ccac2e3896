package giveback

import (
	"encoding/json"
	"fmt"
	"io"
	"net/url"

	"github.com/outboxstream/streamer/cmd/streamer/internal/console"
	"github.com/outboxstream/streamer/internal/debezium"
	"github.com/outboxstream/streamer/replication"
)

// What became of the way back.
const (
	resultNothing = "nothing was changed"
	resultNot     = "not given back"
	resultDone    = "given back: Debezium goes on from here"
)

// events are rows that wait in the slot.
type events struct {
	Events int64  `json:"events"`
	AtMost bool   `json:"at_most"`         // some of them may not be published
	First  string `json:"first,omitempty"` // event ID
	Last   string `json:"last,omitempty"`
}

func (e *events) add(id string) {
	if e.Events == 0 {
		e.First = id
	}
	e.Last = id
	e.Events++
}

// offset is where a connector goes on, as Kafka Connect keeps it.
type offset struct {
	Partition map[string]string `json:"partition"`
	Offset    map[string]any    `json:"offset"`
}

// report is what the command prints.
type report struct {
	Slot string `json:"slot"`
	// Position is the slot's confirmed position.
	Position string `json:"position,omitempty"`
	// Again reports that an earlier run has given the slot back.
	Again bool `json:"again"`
	// Holders are the sessions that use the slot.
	Holders []replication.Holder `json:"holders,omitempty"`
	// Repeats are events that Debezium publishes again, if it begins at Position.
	Repeats *events `json:"repeats,omitempty"`
	// Waiting is how many rows waited for Debezium when the command ended.
	Waiting     *int64                 `json:"waiting,omitempty"`
	DeadLetters int                    `json:"dead_letters"`
	Connector   string                 `json:"connector,omitempty"`
	Settings    []debezium.Requirement `json:"settings"`
	// Offset is the record that fits the slot, for a connector whose offsets are
	// replaced.
	Offset *offset  `json:"offset,omitempty"`
	Notes  []string `json:"notes,omitempty"`
	Result string   `json:"result"`

	slot      replication.Slot
	published replication.LSN // everything published is below it
}

// offsetAt is the offset of a connector that has dealt with everything below a
// position.
func offsetAt(prefix string, at replication.LSN) *offset {
	return &offset{map[string]string{"server": prefix}, map[string]any{"lsn": uint64(at)}}
}

// say prints the report.
func (g *giveBack) say(result string) error {
	r := &g.report
	r.Slot, r.Result = g.cfg.Postgres.Slot, result
	if r.slot.Confirmed != 0 {
		r.Position = r.slot.Confirmed.String()
		if g.connector != nil && result == resultDone {
			r.Offset = offsetAt(g.connector.Prefix(), r.slot.Confirmed)
		}
	}
	if g.JSON {
		return g.std.JSON(r)
	}
	r.text(g.std.Out)
	if result == resultDone || g.DryRun {
		g.instruct(g.std.Out)
	}
	fmt.Fprintln(g.std.Out, result)
	return nil
}

// text writes what was found out, for people.
func (r *report) text(w io.Writer) {
	if r.Position != "" {
		fmt.Fprintf(w, "slot %s is at %s\n", r.Slot, r.Position)
	}
	for _, h := range r.Holders {
		fmt.Fprintf(w, "in use by %s\n", h)
	}
	if r.Again {
		fmt.Fprintln(w, "it was given back before, and nobody has read it since")
	}
	if e := r.Repeats; e != nil {
		switch {
		case e.Events == 0:
			fmt.Fprintln(w, "events that Debezium will repeat: 0")
		case e.AtMost:
			fmt.Fprintf(w, "events that Debezium would repeat from here: at most %s, from %s to %s\n",
				console.Grouped(e.Events), console.Printable(e.First), console.Printable(e.Last))
		default:
			fmt.Fprintf(w, "events that Debezium will repeat: %s, from %s to %s\n",
				console.Grouped(e.Events), console.Printable(e.First), console.Printable(e.Last))
		}
	}
	if r.Waiting != nil {
		fmt.Fprintf(w, "events that wait for Debezium: %s\n", console.Grouped(*r.Waiting))
	}
	for _, note := range r.Notes {
		fmt.Fprintf(w, "note: %s\n", note)
	}
}

// instruct writes what is to be done.
func (g *giveBack) instruct(w io.Writer) {
	name := "NAME"
	if g.connector != nil {
		name = url.PathEscape(g.connector.Name)
	}
	fmt.Fprintln(w, "\nDebezium has to start with:")
	for _, q := range g.report.Settings {
		fmt.Fprintf(w, "  %s=%s\n", q.Option, q.Value)
	}
	if g.Offsets == "keep" {
		fmt.Fprintln(w, "and with its old offsets, or none. Before Debezium 3.4: --offsets delete")
		fmt.Fprintln(w)
		return
	}
	fmt.Fprintln(w, "and without its old offsets:")
	switch {
	case g.connector != nil && g.connector.IsServer():
		fmt.Fprintln(w, "  remove the file debezium.source.offset.storage.file.filename, or what else offset.storage names")
	default:
		fmt.Fprintf(w, "  curl -X PUT %s/stop      the connector must exist and be stopped\n", "CONNECT/connectors/"+name)
		fmt.Fprintf(w, "  curl -X DELETE %s/offsets\n", "CONNECT/connectors/"+name)
		fmt.Fprintf(w, "  curl -X PUT %s/resume\n", "CONNECT/connectors/"+name)
		if o := g.report.Offset; o != nil {
			text, err := json.Marshal(map[string]any{"offsets": []*offset{o}})
			if err == nil {
				fmt.Fprintf(w, "or, instead of DELETE: PATCH with %s\n", text)
			}
		}
	}
	fmt.Fprintln(w)
}
