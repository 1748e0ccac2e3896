package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/outboxstream/streamer/cmd/streamer/internal/console"
	"github.com/outboxstream/streamer/cmd/streamer/internal/site"
	"github.com/outboxstream/streamer/cmd/streamer/internal/status"
	"github.com/outboxstream/streamer/internal/config"
	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/internal/ops"
	"github.com/outboxstream/streamer/internal/pipeline"
)

type checkpointCommand struct {
	Show checkpointShowCommand `cmd:"" help:"Print the stored position."`
	Set  checkpointSetCommand  `cmd:"" help:"Replace the stored position after a start was refused."`
}

// Help is shown by streamer checkpoint --help.
func (checkpointCommand) Help() string {
	return `Example:
  streamer checkpoint show
  streamer checkpoint set slot --yes`
}

type checkpointShowCommand struct {
	JSON    bool `help:"Print JSON."`
	History bool `help:"Also list known past positions of the stream, for streamer replay --from."`
}

// Help is shown by streamer checkpoint show --help.
func (checkpointShowCommand) Help() string {
	return `Prints the stored position, up to which everything is published, and the stream that
it belongs to. A streamer may be running.

Examples:
  streamer checkpoint show --json | jq -r .lsn
  streamer checkpoint show --history`
}

// Run is the command.
func (command checkpointShowCommand) Run(ctx context.Context, load site.Configuration, std console.Streams) error {
	loaded, err := load()
	if err != nil {
		return err
	}
	control, _, err := site.ConnectPostgres(ctx, loaded.Config)
	if err != nil {
		return err
	}
	defer control.Close()
	timed, cancel := context.WithTimeout(ctx, site.AskTimeout)
	defer cancel()
	server, err := control.Identify(timed)
	if err != nil {
		return err
	}
	record, err := site.LoadCheckpoint(ctx, loaded.Config, site.IdentityOf(server, loaded.Config))
	if err != nil {
		return err
	}
	shown := status.ShowCheckpoint(record, site.CheckpointPlace(loaded.Config))
	if command.History {
		shown.Past = status.ShowPast(record.Past)
	}
	if command.JSON {
		return std.JSON(shown)
	}
	rows := shown.Rows()
	for _, m := range shown.Past {
		rows = append(rows, [2]string{"at " + m.At.Format(time.RFC3339), m.LSN})
	}
	std.Table(rows)
	return nil
}

type checkpointSetCommand struct {
	Position string `arg:"" help:"An LSN, slot (the slot's confirmed position: publishes everything the slot has), or end (the end of the WAL: skips everything committed so far)."`
	Yes      bool   `help:"Do it. Without this flag, only show what would happen."`
}

// Help is shown by streamer checkpoint set --help.
func (checkpointSetCommand) Help() string {
	return `Replaces the stored position, whatever its state: damaged, of another cluster or
timeline, ahead of or behind the slot. Use it when streamer run has refused to start
(exit code 3) and you have decided what to do about the events in doubt. No streamer
may be running on the slot. Without --yes it only says what would happen.

Example:
  streamer checkpoint set slot --yes`
}

// Run is the command.
func (command checkpointSetCommand) Run(ctx context.Context, load site.Configuration, std console.Streams) error {
	loaded, err := load()
	if err != nil {
		return err
	}
	p, err := pipeline.New(site.PipelineConfig(loaded.Config, slog.New(slog.DiscardHandler), ops.NewMetrics(console.Version())))
	if err != nil {
		return err
	}
	return p.Decide(ctx, command.Position, func(d pipeline.Decision) error {
		fmt.Fprintln(std.Out, consequence(d))
		if s := d.Before.Snapshot; d.Unknown == nil && s.Pending() {
			fmt.Fprintf(std.Out, "snapshot: given up; of the rows from before the slot, %s of about %s are published and the others will not be\n",
				console.Grouped(s.Rows), console.Grouped(s.Expected))
		}
		if !command.Yes {
			return failure.Refuse(failure.Advise(errors.New("nothing was changed"), "add --yes to replace the position"))
		}
		if skips := d.Unknown != nil || d.After.LSN > d.Before.LSN; skips && cleansUp(loaded.Config) {
			return failure.Refuse(failure.Advise(
				errors.New("nothing was changed: outbox.cleanup would take the rows in between for published and remove them before "+
					"`streamer replay --missing` has published them"),
				"set outbox.cleanup.mode to none until that is done",
			))
		}
		return nil
	})
}

// consequence says in one sentence what a decision means for events.
func consequence(d pipeline.Decision) string {
	after := d.After.LSN
	switch before := d.Before.LSN; {
	case d.Unknown != nil:
		return fmt.Sprintf("checkpoint: none that can be used (%s) → %s: "+
			"everything committed from there on is published, some of it perhaps again; nothing committed earlier is", d.Unknown, after)
	case after > before:
		return fmt.Sprintf("checkpoint: %s → %s: "+
			"what was committed between the two and not yet published will never be published from the WAL", before, after)
	case after < before:
		return fmt.Sprintf("checkpoint: %s → %s: what was committed between the two is published again, with the same IDs", before, after)
	}
	return fmt.Sprintf("checkpoint: stays at %s, now for system %s, timeline %d", after, d.After.SystemID, d.After.Timeline)
}

// cleansUp reports whether rows of any table are removed.
func cleansUp(cfg config.Config) bool {
	return slices.ContainsFunc(cfg.Tables(), func(o config.Outbox) bool { return o.Cleanup.Mode != config.CleanupNone })
}
