package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/outboxstream/streamer/checkpoint"
	"github.com/outboxstream/streamer/internal/config"
	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/internal/ops"
	"github.com/outboxstream/streamer/internal/pipeline"
)

type checkpointCommand struct {
	Show checkpointShowCommand `cmd:"" help:"Print the stored position."`
	Set  checkpointSetCommand  `cmd:"" help:"Decide where to go on when a start was refused."`
}

// Help is shown by streamer checkpoint --help.
func (checkpointCommand) Help() string {
	return `Example:
  streamer checkpoint show
  streamer checkpoint set slot --yes`
}

type checkpointShowCommand struct {
	JSON    bool `help:"Print JSON."`
	History bool `help:"Also list where the stream stood in the past, as far as that is known: a position for streamer replay --from."`
}

// Help is shown by streamer checkpoint show --help.
func (checkpointShowCommand) Help() string {
	return `Prints the position up to which everything is published, as it is stored, and whose
it is. It may be asked while a streamer runs.

Examples:
  streamer checkpoint show --json | jq -r .lsn
  streamer checkpoint show --history`
}

// Run is the command.
func (command checkpointShowCommand) Run(ctx context.Context, load configuration, std streams) error {
	loaded, err := load()
	if err != nil {
		return err
	}
	control, _, err := connectPostgres(ctx, loaded.Config)
	if err != nil {
		return err
	}
	defer control.Close()
	timed, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	server, err := control.Identify(timed)
	if err != nil {
		return err
	}
	record, err := loadCheckpoint(ctx, loaded.Config, identityOf(server, loaded.Config))
	if err != nil {
		return err
	}
	shown := showCheckpoint(record, checkpointPlace(loaded.Config))
	if command.History {
		shown.Past = showPast(record.Past)
	}
	if command.JSON {
		return std.writeJSON(shown)
	}
	rows := shown.rows()
	for _, m := range shown.Past {
		rows = append(rows, [2]string{"at " + m.At.Format(time.RFC3339), m.LSN})
	}
	std.table(rows)
	return nil
}

// shownMoment is where the stream stood: what was committed from then on lies at
// or above the LSN.
type shownMoment struct {
	At  time.Time `json:"at"`
	LSN string    `json:"lsn"`
}

func showPast(past []checkpoint.Moment) []shownMoment {
	shown := make([]shownMoment, len(past))
	for i, m := range past {
		shown[i] = shownMoment{m.At.UTC(), m.LSN.String()}
	}
	return shown
}

// shownCheckpoint is a record for people and scripts.
type shownCheckpoint struct {
	LSN      string    `json:"lsn"`
	SavedAt  time.Time `json:"saved_at"`
	Store    string    `json:"store"`
	SystemID string    `json:"system_identifier"`
	Timeline int32     `json:"timeline"`
	Database string    `json:"database"`
	Slot     string    `json:"slot"`
	History  int       `json:"history"`
	Routing  string    `json:"routing"`
	// Last is the last row published below LSN, as far as it is known; Exact tells
	// that it is.
	Last  *checkpoint.Event `json:"last,omitempty"`
	Exact bool              `json:"exact"`

	Past []shownMoment `json:"past,omitempty"` // oldest first
}

func showCheckpoint(r checkpoint.Record, place string) shownCheckpoint {
	return shownCheckpoint{
		LSN: r.LSN.String(), SavedAt: r.SavedAt, Store: place,
		SystemID: r.SystemID, Timeline: r.Timeline, Database: r.Database, Slot: r.Slot,
		History: r.History, Routing: r.Routing, Last: r.Last, Exact: r.Exact,
	}
}

func (s shownCheckpoint) rows() [][2]string {
	rows := [][2]string{
		{"checkpoint", s.LSN},
		{"saved", fmt.Sprintf("%s (%s ago)", s.SavedAt.Format(time.RFC3339), time.Since(s.SavedAt).Round(time.Second))},
		{"kept in", s.Store},
		{"of", fmt.Sprintf("system %s, timeline %d, database %q, slot %q", s.SystemID, s.Timeline, s.Database, s.Slot)},
	}
	if s.Last != nil {
		rows = append(rows, [2]string{"last event", fmt.Sprintf("%s, sequence %s", s.Last.ID, s.Last.Sequence)})
	}
	return rows
}

type checkpointSetCommand struct {
	Position string `arg:"" help:"An LSN, slot (the slot's confirmed position: publishes everything the slot has), or end (the end of the log: skips everything committed so far)."`
	Yes      bool   `help:"Do it. Without this, only what would happen is shown."`
}

// Help is shown by streamer checkpoint set --help.
func (checkpointSetCommand) Help() string {
	return `Replaces the stored position, whatever it is: damaged, of another cluster or timeline,
ahead of or behind the slot. It is for the moment when streamer run has refused to
start (exit code 3) and you have decided what to do about the events in doubt. No
streamer may be running on the slot. Without --yes it only says what would happen.

Example:
  streamer checkpoint set slot --yes`
}

// Run is the command.
func (command checkpointSetCommand) Run(ctx context.Context, load configuration, std streams) error {
	loaded, err := load()
	if err != nil {
		return err
	}
	p, err := pipeline.New(pipelineConfig(loaded.Config, slog.New(slog.DiscardHandler), ops.NewMetrics(version())))
	if err != nil {
		return err
	}
	return p.Decide(ctx, command.Position, func(d pipeline.Decision) error {
		fmt.Fprintln(std.Out, consequence(d))
		if !command.Yes {
			return failure.Refuse(errors.New("nothing was changed: add --yes to do it"))
		}
		if skips := d.Unknown != nil || d.After.LSN > d.Before.LSN; skips && loaded.Config.Outbox.Cleanup.Mode != config.CleanupNone {
			return failure.Refuse(errors.New("nothing was changed: outbox.cleanup would remove what lies in between as published, before `streamer replay --missing` has published it: set outbox.cleanup.mode to none until that is done"))
		}
		return nil
	})
}

// consequence says in a sentence what a decision means for events.
func consequence(d pipeline.Decision) string {
	after := d.After.LSN
	switch before := d.Before.LSN; {
	case d.Unknown != nil:
		return fmt.Sprintf("checkpoint: none that can be used (%s) → %s: everything committed from there on is published, some of it perhaps again; nothing below is", d.Unknown, after)
	case after > before:
		return fmt.Sprintf("checkpoint: %s → %s: what was committed between the two and not yet published will never be published from the log", before, after)
	case after < before:
		return fmt.Sprintf("checkpoint: %s → %s: what was committed between the two is published again, with the same ids", before, after)
	}
	return fmt.Sprintf("checkpoint: stays at %s, now of system %s, timeline %d", after, d.After.SystemID, d.After.Timeline)
}
