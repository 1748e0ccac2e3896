package status

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/outboxstream/streamer/checkpoint"
	"github.com/outboxstream/streamer/cmd/streamer/internal/console"
	"github.com/outboxstream/streamer/cmd/streamer/internal/site"
	"github.com/outboxstream/streamer/internal/config"
	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/internal/wait"
	"github.com/outboxstream/streamer/replication"
)

// Command is streamer status.
type Command struct {
	JSON  bool `help:"Print JSON."`
	Watch bool `short:"w" help:"Repeat every two seconds until stopped."`
}

// Help is shown by streamer status --help.
func (Command) Help() string {
	return `Shows the slot, the stored checkpoint and, if a streamer answers at http.listen, what
it is doing. What cannot be determined is listed as unknown; if that is the slot or the
checkpoint, the exit code is not 0.

Examples:
  streamer status --watch
  streamer status --json | jq .slot.lag_bytes`
}

const (
	watchEvery = 2 * time.Second
	// compared is how many looks a rate is computed over.
	compared = 10
)

// Run is the command.
func (command Command) Run(ctx context.Context, load site.Configuration, std console.Streams) error {
	loaded, err := load()
	if err != nil {
		return err
	}
	for looks := []*Report(nil); ; {
		s, err := readStatus(ctx, loaded.Config)
		if len(looks) > 0 {
			s.compare(looks[0])
		} else {
			s.compare(nil)
		}
		looks = append(looks, &s)
		looks = looks[max(0, len(looks)-compared):]
		if err := command.write(s, std); err != nil {
			return err
		}
		if !command.Watch {
			return err
		}
		if !wait.For(ctx, watchEvery) {
			return nil
		}
	}
}

func (command Command) write(s Report, std console.Streams) error {
	switch {
	case command.JSON && command.Watch:
		return std.Line(s)
	case command.JSON:
		return std.JSON(s)
	}
	if command.Watch {
		fmt.Fprintln(std.Out, s.At.Format(time.TimeOnly))
	}
	std.Table(s.rows())
	return nil
}

// Report is what can be known from outside. Parts that are not known are nil.
type Report struct {
	At         time.Time   `json:"at"`
	Shard      string      `json:"shard,omitempty"` // as in 0 of 4
	Server     *Server     `json:"server"`
	Slot       *Slot       `json:"slot"`
	Rewind     *pastSlot   `json:"rewind,omitempty"` // slot that keeps the past
	Replay     *pastSlot   `json:"replay,omitempty"` // slot of a replay that is running or was interrupted
	Checkpoint *Checkpoint `json:"checkpoint"`
	Snapshot   *Snapshot   `json:"snapshot,omitempty"` // of the rows from before the slot
	Resume     *Resume     `json:"resume"`             // according to the checkpoint
	Streamer   *Streamer   `json:"streamer"`
	Unknown    []string    `json:"unknown,omitempty"` // why parts are missing
}

// compare adds what only two looks can show. The argument before is nil at the
// first look.
func (s *Report) compare(before *Report) {
	if s.Slot != nil {
		s.Slot.Outlook = s.outlook(before)
	}
	if s.Streamer != nil {
		s.Streamer.Rate = s.rate(before)
	}
	if s.Snapshot != nil {
		var former *Snapshot
		if before != nil {
			former = before.Snapshot
		}
		s.Snapshot.compare(former)
	}
}

// Server identifies the server that answered.
type Server struct {
	SystemID string `json:"system_identifier"`
	Timeline int32  `json:"timeline"`
	Database string `json:"database"`
	Version  int    `json:"server_version_num"`
}

// readStatus asks all parts. The error is the first one that matters.
func readStatus(ctx context.Context, cfg config.Config) (Report, error) {
	s := Report{At: time.Now().UTC()}
	if cfg.Shard.Count > 1 {
		s.Shard = fmt.Sprintf("%d of %d", cfg.Shard.Index, cfg.Shard.Count)
	}
	var failed []error
	failed = append(failed, s.readPostgres(ctx, cfg))
	streamer, streamerErr := askStreamer(ctx, cfg.HTTP.Listen) // before Kafka, which may be slow to answer
	s.Streamer = streamer
	if s.Server != nil {
		server := replication.Server{SystemID: s.Server.SystemID, Database: s.Server.Database}
		record, err := site.LoadCheckpoint(ctx, cfg, site.IdentityOf(server, cfg))
		if err == nil {
			shown := ShowCheckpoint(record, site.CheckpointPlace(cfg))
			s.Checkpoint, s.Resume = &shown, ResumeOf(record)
			s.Snapshot = snapshotOf(record)
			s.dateRewind(record.Past)
			if s.Slot != nil {
				s.Slot.countTransactions(record)
			}
		}
		if errors.Is(err, checkpoint.ErrNone) { // nothing has been streamed yet
			s.Unknown = append(s.Unknown, "checkpoint: "+failure.Describe(err))
			err = nil
		}
		failed = append(failed, err)
	} else {
		s.Unknown = append(s.Unknown, "checkpoint: cannot be identified without the server")
	}
	failed = slices.DeleteFunc(failed, func(err error) bool { return err == nil })
	for _, err := range failed {
		s.Unknown = append(s.Unknown, failure.Describe(err))
	}
	if streamerErr != nil {
		s.Unknown = append(s.Unknown, "streamer: "+failure.Describe(streamerErr))
	}
	if len(failed) == 0 {
		return s, nil
	}
	return s, failed[0]
}

func (s *Report) readPostgres(ctx context.Context, cfg config.Config) error {
	control, _, err := site.ConnectPostgres(ctx, cfg)
	if err != nil {
		return err
	}
	defer control.Close()
	ctx, cancel := context.WithTimeout(ctx, site.AskTimeout)
	defer cancel()
	server, err := control.Identify(ctx)
	if err != nil {
		return err
	}
	s.Server = &Server{SystemID: server.SystemID, Timeline: server.Timeline, Database: server.Database, Version: server.Version}
	slot, err := control.Slot(ctx)
	if err != nil {
		return err
	}
	shown := ShowSlot(slot)
	s.Slot = &shown
	if err := s.readPast(ctx, control, slot.Name); err != nil || !slot.Lost() {
		return err
	}
	return replication.Refusal(replication.CheckSlot(slot, server))
}

func (s Report) rows() [][2]string {
	var rows [][2]string
	if v := s.Server; v != nil {
		rows = append(rows, [2]string{"server", fmt.Sprintf("PostgreSQL %d.%d, system %s, timeline %d, database %q",
			v.Version/10000, v.Version%10000, v.SystemID, v.Timeline, v.Database)})
	}
	if s.Shard != "" {
		rows = append(rows, [2]string{"shard", s.Shard})
	}
	if s.Slot != nil {
		rows = append(rows, s.Slot.rows()...)
	}
	if s.Rewind != nil {
		rows = append(rows, s.Rewind.row("rewind slot", "for `streamer replay`", "being moved"))
	}
	if s.Replay != nil {
		rows = append(rows, s.Replay.row("replay slot", "interrupted", "replay is running"))
	}
	if s.Checkpoint != nil {
		rows = append(rows, s.Checkpoint.Rows()[:3]...)
	}
	if s.Snapshot != nil {
		rows = append(rows, s.Snapshot.row())
	}
	if s.Resume != nil {
		rows = append(rows, [2]string{"resume", s.Resume.String()})
	}
	if s.Streamer != nil {
		rows = append(rows, s.Streamer.rows()...)
	}
	for _, why := range s.Unknown {
		rows = append(rows, [2]string{"unknown", strings.ReplaceAll(why, "\n", "; ")})
	}
	return rows
}
