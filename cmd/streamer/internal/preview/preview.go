package preview

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/outboxstream/streamer/checkpoint"
	"github.com/outboxstream/streamer/cmd/streamer/internal/console"
	"github.com/outboxstream/streamer/cmd/streamer/internal/site"
	"github.com/outboxstream/streamer/decoder"
	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/replication"
	"github.com/outboxstream/streamer/router"
)

// Command is streamer preview.
type Command struct {
	Limit uint `default:"10" placeholder:"N" help:"Number of rows to show; 0 shows all."`
	JSON  bool `help:"Print JSON lines, which is the only format."`
}

// Help is shown by streamer preview --help.
func (Command) Help() string {
	return `Shows the rows that wait in the slot as they would be published: one line of JSON each,
with the CloudEvent and the topic, key and partition it would get. Nothing is consumed.
Rows that cannot be published are shown with the reason under "poison". A streamer that
uses the slot must be stopped first.

Example:
  streamer preview --limit 3 | jq .event`
}

// Run is the command.
func (command Command) Run(ctx context.Context, load site.Configuration, std console.Streams) error {
	loaded, err := load()
	if err != nil {
		return err
	}
	cfg := loaded.Config
	control, replicationConfig, err := site.ConnectPostgres(ctx, cfg)
	if err != nil {
		return err
	}
	defer control.Close()
	server, tables, err := previewable(ctx, control, replicationConfig)
	if err != nil {
		return err
	}
	// Without a checkpoint, rows are selected as a first start selects them.
	record, err := site.LoadCheckpoint(ctx, cfg, site.IdentityOf(server, cfg))
	if err != nil && !errors.Is(err, checkpoint.ErrNone) {
		fmt.Fprintf(std.Err, "streamer: the checkpoint could not be read, so rows are selected as on a first start: %s\n", failure.Describe(err))
	}
	routes, err := site.NewRouter(cfg, server.Database)
	if err != nil {
		return err
	}
	counts := &partitionCounts{cfg: cfg, std: std}
	defer counts.close()
	w := Rows{
		Mappings: site.LocatedMappings(cfg, replication.After(record.Publication, tables), server),
		Routes:   routes, Partitions: counts.of, Limit: int(min(command.Limit, math.MaxInt)),
		Event:  func(line router.Rendering) error { return std.Line(line) },
		Poison: func(line Poison) error { return std.Line(line) },
	}
	if err := w.Read(ctx, control, server); err != nil {
		return err
	}
	if w.Shown == 0 {
		fmt.Fprintln(std.Err, "streamer: nothing waits in slot", cfg.Postgres.Slot)
	}
	return nil
}

// previewable makes the checks that run makes before it reads.
func previewable(ctx context.Context, control *replication.Control, c replication.Config) (replication.Server, []replication.Table, error) {
	ctx, cancel := context.WithTimeout(ctx, site.AskTimeout)
	defer cancel()
	server, err := control.Identify(ctx)
	if err != nil {
		return server, nil, err
	}
	tables, err := control.DescribeTables(ctx)
	if err != nil {
		return server, tables, err
	}
	found := append(replication.CheckPublication(server, c), replication.CheckTables(tables, c)...)
	if err := replication.Refusal(found); err != nil {
		return server, tables, err
	}
	slot, err := control.Slot(ctx)
	if err != nil {
		return server, tables, err
	}
	return server, tables, replication.Refusal(replication.CheckSlot(slot, server))
}

// Rows reads the rows that wait in the slot, as they would be published.
type Rows struct {
	Mappings   []decoder.Mapping
	Routes     *router.Router
	Partitions func(topic string) (int, error)
	Limit      int // 0: none
	Event      func(router.Rendering) error
	Poison     func(Poison) error
	Shown      int // how many were read
}

// Read hands over the rows one by one. It asks for more and more of the slot
// until it has enough rows. Why: the number of messages of a row is not known
// in advance, and the server prepares everything that it is asked for.
func (w *Rows) Read(ctx context.Context, control *replication.Control, server replication.Server) error {
	const messagesPerRow, atLeast, growth = 4, 100, 8
	const most = math.MaxInt32 // that the server can be asked for; 0 asks for all
	for ask := atLeast + messagesPerRow*w.Limit; ; ask *= growth {
		if w.Limit == 0 || w.Limit > most/messagesPerRow || ask > most {
			ask = 0
		}
		seen, err := w.pass(ctx, control, server, ask)
		switch {
		case errors.Is(err, replication.ErrEnough):
			return nil
		case err != nil:
			return err
		case ask == 0 || seen < ask:
			return nil
		}
	}
}

// pass reads from the beginning of the slot and shows what earlier passes have
// not shown.
func (w *Rows) pass(ctx context.Context, control *replication.Control, server replication.Server, ask int) (int, error) {
	d := decoder.New(w.Mappings...)
	row := 0
	return control.Peek(ctx, server, ask, func(_ replication.LSN, data []byte) error {
		kind, err := d.Decode(data)
		poison, isPoison := errors.AsType[*decoder.PoisonError](err)
		if err != nil && !isPoison {
			return err
		}
		if kind != decoder.Row && !isPoison {
			return nil
		}
		if row++; row <= w.Shown {
			return nil
		}
		if err := w.show(d.Event(), poison); err != nil {
			return err
		}
		if w.Shown++; w.Shown == w.Limit {
			return replication.ErrEnough
		}
		return nil
	})
}

// Poison is a row that cannot be published.
type Poison struct {
	At       replication.Position `json:"-"`
	Position string               `json:"position"`
	ID       string               `json:"id,omitempty"`
	Poison   string               `json:"poison"`
}

func (w *Rows) show(e *decoder.Event, poison *decoder.PoisonError) error {
	if poison != nil {
		return w.Poison(Poison{poison.Position, poison.Position.String(), poison.EventID, poison.Reason})
	}
	line, err := w.Routes.Preview(e, w.Partitions)
	if poison, ok := errors.AsType[*router.PoisonError](err); ok {
		return w.Poison(Poison{poison.Position, poison.Position.String(), poison.EventID, router.Reason(poison)})
	}
	if err != nil {
		return err
	}
	return w.Event(line)
}
