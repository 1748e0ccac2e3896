package takeover

import (
	"fmt"
	"io"
	"time"

	"github.com/outboxstream/streamer/cmd/streamer/internal/console"
	"github.com/outboxstream/streamer/internal/predecessor"
	"github.com/outboxstream/streamer/replication"
)

// report is what the command prints.
type report struct {
	From  string `json:"from,omitempty"`
	Until string `json:"until,omitempty"`
	*predecessor.Plan
	// ArrivedLate are records that arrived while the command waited.
	ArrivedLate int64    `json:"arrived_while_waiting"`
	Remarks     []string `json:"remarks,omitempty"`
	// Continued reports that an earlier run had stored the checkpoint.
	Continued bool               `json:"continued"`
	Late      []predecessor.Late `json:"in_kafka_twice"`
	Result    string             `json:"result"`

	from replication.LSN
}

func (r *report) plan(p predecessor.Plan) {
	r.Plan, r.from, r.From, r.Until = &p, p.From, p.From.String(), p.Until.String()
}

// say prints the report.
func (t *takeOver) say(result string) error {
	t.report.Result = result
	if t.JSON {
		return t.std.JSON(t.report)
	}
	if t.DryRun || result == "" {
		t.report.text(t.std.Out)
	}
	for _, l := range t.report.Late {
		fmt.Fprintf(t.std.Out, "in Kafka twice: event %s, topic %s, partition %d, offset %d\n",
			console.Printable(l.ID), l.Topic, l.Partition, l.Offset)
	}
	if result != "" {
		fmt.Fprintln(t.std.Out, result)
	}
	return nil
}

// text writes the plan for people.
func (r *report) text(w io.Writer) {
	if r.Continued {
		fmt.Fprintln(w, "an earlier take-over has stored its checkpoint: it is continued")
	}
	p := r.Plan
	if p == nil {
		return
	}
	fmt.Fprintf(w, "waiting in the slot, from %s up to %s: %s rows\n", r.From, r.Until, console.Grouped(p.Rows))
	fmt.Fprintf(w, "  published by the former publisher: %s\n", console.Grouped(p.Published))
	fmt.Fprintf(w, "  left for the streamer:             %s\n", console.Grouped(p.Missing()))
	fmt.Fprintf(w, "records read: %s in %s\n", console.Grouped(p.Records), console.Counted(len(p.Topics), "topic"))
	if r.ArrivedLate > 0 {
		fmt.Fprintf(w, "records that arrived while waiting: %s\n", console.Grouped(r.ArrivedLate))
	}
	if p.Repeated > 0 {
		fmt.Fprintf(w, "records that the former publisher has written again: %s\n", console.Grouped(p.Repeated))
	}
	if p.Elsewhere > 0 {
		fmt.Fprintf(w, "in another partition than the streamer would choose now: %s\n", console.Grouped(p.Elsewhere))
	}
	if p.Untold > 0 {
		fmt.Fprintf(w, "rows that cannot be published as they are (see streamer preview): %s\n", console.Grouped(p.Untold))
	}
	if p.HoleCount > 0 {
		fmt.Fprintf(w, "left out by the former publisher, although later ones of their keys are published: %s\n", console.Grouped(p.HoleCount))
	}
	const shown = 20
	for i, h := range p.Holes {
		if i == shown {
			fmt.Fprintf(w, "  … and %s more (--json lists them)\n", console.Grouped(int64(len(p.Holes)-shown)))
			break
		}
		fmt.Fprintf(w, "  event %s, committed %s, topic %s, partition %d\n",
			console.Printable(h.ID), h.Committed.Format(time.RFC3339), h.Topic, h.Partition)
	}
	if p.HoleCount > 0 {
		fmt.Fprintln(w, "  decide with --holes publish (late, and marked) or --holes leave")
	}
	for i, remark := range r.Remarks {
		if i == 0 {
			fmt.Fprintln(w, "different from the connector (streamer import debezium says more):")
		}
		fmt.Fprintf(w, "  %s\n", remark)
	}
}
