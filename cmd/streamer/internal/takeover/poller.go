package takeover

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/outboxstream/streamer/cmd/streamer/internal/console"
	"github.com/outboxstream/streamer/cmd/streamer/internal/site"
	"github.com/outboxstream/streamer/internal/config"
	"github.com/outboxstream/streamer/internal/failure"
)

// Poller is streamer take-over poller.
type Poller struct {
	Options
	Margin time.Duration `default:"1h" help:"How far back topics are searched: more than since the poller has last published anything, if it did not end cleanly."`
	Header string        `name:"id-header" placeholder:"NAME" help:"Header that holds the event ID in the poller's records. Default: ce_id or id."`
}

// Help is shown by streamer take-over poller --help.
func (Poller) Help() string {
	return `Takes over from a program that reads the outbox table itself and marks or deletes what it has
published. snapshot.where is the condition for the rows that it has not published, as in
"processed_at IS NULL". Run it once the poller is stopped and the slot is created (streamer
setup), in this order. It publishes the rows from before the slot, except for those whose IDs
are in the topics already, then what waits in the slot, and ends. streamer run goes on from
there. It may be interrupted at any time, and run again.

Applications may write all the time. Nothing may mark or delete rows meanwhile.

Examples:
  streamer take-over poller --dry-run
  streamer take-over poller --id-header event-id`
}

// Run is the command.
func (command Poller) Run(ctx context.Context, load site.Configuration, std console.Streams) error {
	loaded, err := load()
	if err != nil {
		return err
	}
	if err := checkPoller(loaded.Config); err != nil {
		return err
	}
	t := takeOver{Options: command.Options, margin: command.Margin, header: command.Header, poller: true, cfg: loaded.Config, std: std}
	return t.run(ctx)
}

// checkPoller makes sure that the configuration says which rows the poller has
// not published.
func checkPoller(cfg config.Config) error {
	switch {
	case cfg.Snapshot.Mode != config.SnapshotInitial || cfg.Snapshot.Where == "":
		return failure.Misconfigure(failure.Advise(
			errors.New("the configuration does not say which rows the poller has not published"),
			"set snapshot.mode to initial, snapshot.order_by to a column that grows, snapshot.where to a condition such as processed_at IS NULL"))
	case len(cfg.Tables()) != 1:
		return failure.Misconfigure(failure.Advise(fmt.Errorf("a take-over from a poller takes one table, not %d", len(cfg.Tables())),
			"take over one table after the other, with a slot for each"))
	case cfg.Tables()[0].Columns.Topic != "":
		return failure.Misconfigure(failure.Advise(
			errors.New("with outbox.columns.topic rows can go to any topic, and nothing says in which ones to look for what is published"),
			"leave outbox.columns.topic empty, and route with outbox.routes"))
	}
	return nil
}
