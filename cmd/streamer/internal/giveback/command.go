package giveback

import (
	"context"
	"errors"
	"time"

	"github.com/outboxstream/streamer/cmd/streamer/internal/console"
	"github.com/outboxstream/streamer/cmd/streamer/internal/site"
	"github.com/outboxstream/streamer/internal/config"
	"github.com/outboxstream/streamer/internal/debezium"
	"github.com/outboxstream/streamer/replication"
)

// Command is streamer give-back.
type Command struct {
	Debezium Debezium `cmd:"" help:"Let a Debezium connector go on where the streamer has stopped."`
}

// Help is shown by streamer give-back --help.
func (Command) Help() string {
	return `Brings the slot to where nothing above it is published, and leaves it to another publisher
of the outbox.

Example:
  streamer give-back debezium --connector connector.json --dry-run`
}

// Debezium is streamer give-back debezium.
type Debezium struct {
	Connector string        `placeholder:"FILE" help:"Configuration of the connector that is to go on, to be checked as well."`
	Offsets   string        `enum:"keep,delete" default:"keep" help:"What becomes of the connector's old offsets: keep (Debezium 3.4 or later) or delete."`
	Wait      time.Duration `default:"30s" help:"For how long to wait until the streamer has stopped."`
	Timeout   time.Duration `default:"5m" help:"For how long what is committed and not published yet may take."`
	DryRun    bool          `help:"Only check. Changes nothing, and waits for nothing; a streamer may be running."`
	JSON      bool          `help:"Print JSON."`
}

// Help is shown by streamer give-back debezium --help.
func (Debezium) Help() string {
	return `Stop the streamer first, and disable it where it would be started again. The command waits
for its end, publishes what was committed until then and is not published yet, confirms the
slot, and leaves a checkpoint from which no streamer goes on by itself. Then nothing that is
published is above the slot's position, also after a crash: Debezium loses nothing and
repeats nothing. Where this cannot be done, the command says how many events Debezium would
repeat at most. It prints the settings with which Debezium has to start. Applications may
write all the time.

Examples:
  streamer give-back debezium --connector connector.json --dry-run
  streamer give-back debezium --connector connector.json
  streamer give-back debezium --offsets delete`
}

// giveBack is a way back under way.
type giveBack struct {
	Debezium
	cfg       config.Config
	std       console.Streams
	connector *debezium.Connector // nil: not given
	server    replication.Server
	report    report
}

// Run is the command.
func (command Debezium) Run(ctx context.Context, load site.Configuration, std console.Streams) error {
	loaded, err := load()
	if err != nil {
		return err
	}
	g := giveBack{Debezium: command, cfg: loaded.Config, std: std}
	if err := g.readConnector(); err != nil {
		return err
	}
	g.require()
	if err := g.checkConnector(); err != nil {
		return errors.Join(g.say(resultNothing), err)
	}
	return g.run(ctx)
}

func (g *giveBack) run(ctx context.Context) error {
	if err := g.check(ctx); err != nil {
		return errors.Join(g.say(resultNothing), err)
	}
	if g.DryRun {
		return g.say(resultNothing)
	}
	if err := g.idle(ctx, g.Wait); err != nil {
		return errors.Join(g.say(resultNothing), err)
	}
	err := g.finish(ctx)
	if err == nil {
		err = g.remain(ctx)
	}
	if err != nil {
		return errors.Join(g.say(resultNot), err)
	}
	return g.say(resultDone)
}

// finish publishes the rest, and leaves the slot.
func (g *giveBack) finish(ctx context.Context) error {
	if !g.report.Again {
		if err := g.publish(ctx); err != nil {
			return g.bounded(ctx, err)
		}
		if err := g.leave(ctx); err != nil {
			return err
		}
	}
	return g.describe(ctx)
}
