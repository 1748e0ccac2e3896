package find

import (
	"context"
	"errors"
	"time"

	"github.com/outboxstream/streamer/cmd/streamer/internal/console"
	"github.com/outboxstream/streamer/cmd/streamer/internal/site"
	"github.com/outboxstream/streamer/internal/failure"
)

// Command is streamer find.
type Command struct {
	ID      string        `arg:"" optional:"" help:"ID of the event: the attribute id, the header ce_id."`
	Key     *string       `help:"Key of its record, usually the aggregate ID. It says which partition to read. Without an ID: the latest events of the key."`
	LSN     string        `name:"lsn" placeholder:"POSITION" help:"Where it was committed: an LSN (0/DA08CE68), a position (0/DA08CE68+1), or the attribute sequence."`
	Since   string        `placeholder:"TIME" help:"Where nothing else narrows the search, read only records from this time on: 2026-11-21T14:30:00Z, or a duration before now (90m)."`
	Until   string        `placeholder:"TIME" help:"The same, up to this time."`
	Topic   []string      `placeholder:"NAME" help:"Read only this topic; may be repeated. Default: all topics that the configuration can route to."`
	Limit   uint          `default:"10" placeholder:"N" help:"Number of events to show, the latest ones (default 10)."`
	Timeout time.Duration `default:"1s" help:"How long to read where nothing narrows the search: a table without an index, a slot, a partition (default 1s)."`
	Scan    bool          `help:"Read all of it, however long it takes."`
	JSON    bool          `help:"Print JSON."`
}

// Help is shown by streamer find --help.
func (Command) Help() string {
	return `Says where an event is: whether its row is in the table, whether it waits in the slot,
where it was published and how often, whether it is a dead letter, and which consumer
groups have passed it. It only reads, also while a streamer runs. Payloads are not shown.

It does not read whole topics. A row says which partition and about when; without it, give
the key, and the position or the time. What it could not look at, and why, is in the last
lines. The exit code is 1 if there is no trace of the event in what was looked at.

Examples:
  streamer find 1f8c0c95-814c-46ff-a761-be1075d4b2da
  streamer find --key order-4711
  streamer find 1f8c0c95-814c-46ff-a761-be1075d4b2da --key order-4711 --since 2h
  streamer find --lsn 0/DA08CE68 --json | jq '.events[].records'`
}

// Validate is called by kong.
func (command Command) Validate() error {
	switch {
	case command.ID == "" && command.Key == nil && command.LSN == "":
		return errors.New("name an event by its ID, by --key or by --lsn")
	case command.Limit == 0:
		return errors.New("--limit must be at least 1")
	case command.Timeout <= 0:
		return errors.New("--timeout must be positive")
	}
	return nil
}

// errNotFound ends a search that has met no trace of the event.
var errNotFound = errors.New("find: no trace of the event in what was looked at")

// Run is the command.
func (command Command) Run(ctx context.Context, load site.Configuration, std console.Streams) error {
	asked, err := command.asked(time.Now())
	if err != nil {
		return failure.Misconfigure(err)
	}
	loaded, err := load()
	if err != nil {
		return err
	}
	s := &search{command: command, asked: asked, cfg: loaded.Config, began: time.Now()}
	defer s.close()
	if err := s.run(ctx); err != nil {
		return err
	}
	if err := s.report(std); err != nil {
		return err
	}
	if len(s.events) == 0 {
		return errNotFound
	}
	return nil
}
