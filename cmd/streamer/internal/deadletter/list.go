package deadletter

import (
	"context"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/outboxstream/streamer/cmd/streamer/internal/console"
	"github.com/outboxstream/streamer/cmd/streamer/internal/site"
	"github.com/outboxstream/streamer/router"
)

// Command is streamer dead-letters.
type Command struct {
	List  listCommand  `cmd:"" help:"List rows that could not be published and await a decision."`
	Show  showCommand  `cmd:"" help:"Print one dead letter with its headers, key and payload."`
	Retry retryCommand `cmd:"" help:"Publish dead letters once their cause is gone."`
	Drop  dropCommand  `cmd:"" help:"Mark dead letters as never to be published."`
}

// Help is shown by streamer dead-letters --help.
func (Command) Help() string {
	return `Examples:
  streamer dead-letters list
  streamer dead-letters retry 0:17
  streamer dead-letters drop --all --class invalid_row`
}

type listCommand struct {
	All  bool `help:"Include dead letters that were retried or dropped."`
	JSON bool `help:"Print JSON lines."`
}

// Help is shown by streamer dead-letters list --help.
func (listCommand) Help() string {
	return `Lists the rows in the topic poison.topic that await a decision, in the order of the
stream. The first column, partition and offset, names them for the other commands. Keys
and payloads are not shown.

Example:
  streamer dead-letters list --json | jq -r 'select(.class == "too_large").id'`
}

// Run is the command.
func (command listCommand) Run(ctx context.Context, load site.Configuration, std console.Streams) error {
	box, err := openLetters(ctx, load, std)
	if err != nil {
		return err
	}
	defer box.close()
	shown := box.letters
	if !command.All {
		shown = box.open()
	}
	if command.JSON {
		for _, l := range shown {
			if err := std.Line(Describe(l)); err != nil {
				return err
			}
		}
		return nil
	}
	if len(shown) == 0 {
		fmt.Fprintf(std.Err, "streamer: no dead letters in topic %q\n", box.topic)
		return nil
	}
	return command.table(shown, std)
}

func (command listCommand) table(letters []router.Letter, std console.Streams) error {
	w := tabwriter.NewWriter(std.Out, 0, 0, 2, ' ', 0)
	head := "ID\tAGE\tCLASS\tAGGREGATE TYPE\tEVENT ID\tPOSITION\t"
	if command.All {
		head += "STATE\t"
	}
	fmt.Fprintln(w, head+"REASON")
	for _, l := range letters {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t", letterID(l), console.Age(time.Since(l.CommitTime)),
			l.Class, console.Printable(l.AggregateType), console.Printable(l.EventID), l.Position)
		if command.All {
			fmt.Fprintf(w, "%s\t", letterState(l))
		}
		fmt.Fprintln(w, console.Printable(l.Reason))
	}
	return w.Flush()
}

// Letter is a dead letter for scripts, without the contents of the row.
type Letter struct {
	ID            string      `json:"id"`
	Topic         string      `json:"topic"`
	Partition     int32       `json:"partition"`
	Offset        int64       `json:"offset"`
	State         router.Verb `json:"state"`
	Class         string      `json:"class"`
	Reason        string      `json:"reason"`
	Table         string      `json:"table,omitempty"`
	AggregateType string      `json:"aggregate_type"`
	EventID       string      `json:"event_id"`
	Position      string      `json:"position"`
	Commit        string      `json:"commit_lsn"`
	CommittedAt   time.Time   `json:"committed_at"`
	Stream        string      `json:"stream"`
	Copies        int         `json:"copies"`
	ResolvedBy    string      `json:"resolved_by,omitempty"`
	ResolvedAt    time.Time   `json:"resolved_at,omitzero"`
}

const waiting router.Verb = "open"

// Describe describes a dead letter for scripts.
func Describe(l router.Letter) Letter {
	s := Letter{
		ID: letterID(l), Topic: l.Topic, Partition: l.Partition, Offset: l.Offset, State: waiting,
		Class: string(l.Class), Reason: l.Reason, Table: l.Table, AggregateType: l.AggregateType, EventID: l.EventID,
		Position: l.Position.String(), Commit: l.Position.Commit.String(), CommittedAt: l.CommitTime, Stream: l.StreamID, Copies: l.Copies,
	}
	if r := l.Resolution; r != nil {
		s.State, s.ResolvedBy, s.ResolvedAt = r.Verb, r.By, r.At
	}
	return s
}

// letterID names a dead letter within its topic.
func letterID(l router.Letter) string { return fmt.Sprintf("%d:%d", l.Partition, l.Offset) }

// letterState says what was decided, when and by whom.
func letterState(l router.Letter) string {
	if l.Resolution == nil {
		return string(waiting)
	}
	return fmt.Sprintf("%s by %s at %s", console.Printable(string(l.Resolution.Verb)),
		console.Printable(l.Resolution.By), l.Resolution.At.Format(time.RFC3339))
}
