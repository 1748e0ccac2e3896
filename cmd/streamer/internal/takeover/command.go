package takeover

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"

	"github.com/outboxstream/streamer/checkpoint"
	"github.com/outboxstream/streamer/cmd/streamer/internal/console"
	"github.com/outboxstream/streamer/cmd/streamer/internal/site"
	"github.com/outboxstream/streamer/internal/config"
	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/internal/ops"
	"github.com/outboxstream/streamer/internal/pipeline"
	"github.com/outboxstream/streamer/internal/predecessor"
	"github.com/outboxstream/streamer/replication"
	"github.com/outboxstream/streamer/router"
)

// Command is streamer take-over.
type Command struct {
	Debezium Debezium `cmd:"" help:"Go on where a Debezium connector has stopped, and repeat nothing."`
	Poller   Poller   `cmd:"" help:"Go on where a program has stopped that reads the outbox table itself."`
}

// Help is shown by streamer take-over --help.
func (Command) Help() string {
	return `Publishes what the former publisher of the outbox has not published, and repeats nothing.

Example:
  streamer take-over debezium --dry-run`
}

// Options are what all publishers have in common.
type Options struct {
	DryRun    bool           `help:"Only show what would happen. Changes nothing, and waits for nothing."`
	Wait      *time.Duration `placeholder:"DURATION" help:"For how long nothing of the former publisher must have arrived. Default: 1m, or 2s with a fence."`
	Holes     string         `enum:"ask,publish,leave" default:"ask" help:"What becomes of events that were left out although later ones of their key were published: publish (late, and marked) or leave."`
	FenceWith string         `name:"fence-transactional-id" placeholder:"ID" help:"Fence the former publisher by its transactional ID, which Connect with exactly.once.source.support=enabled has."`
	FenceWhom string         `name:"fence-principal" placeholder:"PRINCIPAL" help:"Fence the former publisher by denying its principal to write, as in User:connect."`
	JSON      bool           `help:"Print the plan and the result as JSON."`
}

// Debezium is streamer take-over debezium.
type Debezium struct {
	Options
	Margin    time.Duration `default:"5m" help:"How far before the first waiting commit topics are searched: more than the clocks of the database and the publisher are apart."`
	Connector string        `placeholder:"FILE" help:"Configuration of the connector, to be checked as well."`
}

// Help is shown by streamer take-over debezium --help.
func (Debezium) Help() string {
	return `Run it once the connector is stopped. It compares the rows that wait in the connector's slot
with what is in the topics, waits for requests that are still on their way, stores a
checkpoint, publishes what is missing in commit order, and ends. streamer run goes on from
there. It may be interrupted at any time, and run again.

Nothing changes before it says "taking over", apart from a fence, and nothing at all with
--dry-run. Applications may write all the time. Meanwhile no clean-up of the former publisher
may remove rows from the outbox.

Examples:
  streamer take-over debezium --connector connector.json --dry-run
  streamer take-over debezium --fence-principal User:connect`
}

// Run is the command.
func (command Debezium) Run(ctx context.Context, load site.Configuration, std console.Streams) error {
	loaded, err := load()
	if err != nil {
		return err
	}
	remarks, err := command.checkConnector(loaded.Config)
	if err != nil {
		return err
	}
	t := takeOver{Options: command.Options, margin: command.Margin, cfg: loaded.Config, std: std, report: report{Remarks: remarks}}
	return t.run(ctx)
}

// memoryLimit is below that of a stream: more of the program is in use.
const memoryLimit = site.StreamMemory - 5<<20

// takeOver is a take-over under way.
type takeOver struct {
	Options
	margin time.Duration
	header string // that of the event ID
	poller bool   // rows from before the slot are taken over, too
	cfg    config.Config
	std    console.Streams
	report report
}

func (t *takeOver) run(ctx context.Context) error {
	site.LimitMemory(t.cfg, memoryLimit)
	before, err := t.stored(ctx)
	if err != nil {
		return err
	}
	if t.report.Continued = before != nil; !t.report.Continued {
		if before, err = t.plan(ctx); err != nil {
			return err
		}
	}
	if t.DryRun {
		return t.say("nothing was changed")
	}
	if !t.report.Continued {
		fmt.Fprintln(t.std.Err, "taking over")
		if err := t.store(ctx, *before); err != nil {
			return err
		}
	}
	if err := t.publish(ctx, *before); err != nil {
		return err
	}
	return t.finish(ctx, *before)
}

// stored returns what an earlier take-over has stored, or nil if there was none.
func (t *takeOver) stored(ctx context.Context) (*checkpoint.Predecessor, error) {
	slot, record, err := t.look(ctx)
	switch {
	case errors.Is(err, checkpoint.ErrNone):
		return nil, nil
	case err != nil:
		return nil, err
	case slot.Confirmed > record.LSN: // somebody else has read it since
		return nil, nil
	case record.Predecessor == nil:
		return nil, failure.Refuse(failure.Advise(
			fmt.Errorf("slot %q is the streamer's already: its checkpoint is %s", slot.Name, record.LSN), "`streamer run` goes on from there"))
	}
	return record.Predecessor, nil
}

// look returns the slot and the stored checkpoint.
func (t *takeOver) look(ctx context.Context) (slot replication.Slot, record checkpoint.Record, err error) {
	control, _, err := site.ConnectPostgres(ctx, t.cfg)
	if err != nil {
		return slot, record, err
	}
	defer control.Close()
	asking, cancel := context.WithTimeout(ctx, site.AskTimeout)
	defer cancel()
	server, err := control.Identify(asking)
	if err != nil {
		return slot, record, err
	}
	if slot, err = control.Slot(asking); err != nil {
		return slot, record, err
	}
	record, err = site.LoadCheckpoint(ctx, t.cfg, site.IdentityOf(server, t.cfg))
	return slot, record, err
}

// plan finds out what is to be done.
func (t *takeOver) plan(ctx context.Context) (*checkpoint.Predecessor, error) {
	control, _, err := site.ConnectPostgres(ctx, t.cfg)
	if err != nil {
		return nil, err
	}
	defer control.Close()
	client, err := site.ConnectKafka(ctx, t.cfg)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	s := &predecessor.Survey{
		Outbox: predecessor.Outbox{Control: control, Kafka: client, Rules: site.Rules(t.cfg)}, Margin: t.margin, Header: t.header,
		Connect: func(ctx context.Context) (*replication.Control, error) {
			own, _, err := site.ConnectPostgres(ctx, t.cfg)
			return own, err
		},
	}
	if err := t.checkServer(ctx, s); err != nil {
		return nil, err
	}
	if !t.DryRun {
		if err := t.fence(ctx, client); err != nil {
			return nil, err
		}
	}
	if err := s.Rows(ctx); err != nil {
		return nil, err
	}
	if _, err := s.Read(ctx); err != nil {
		return nil, err
	}
	if !t.DryRun {
		if err := t.settle(ctx, s); err != nil {
			return nil, err
		}
	}
	plan, err := s.Plan(ctx)
	if err != nil {
		return nil, err
	}
	t.report.plan(plan)
	if err := t.decided(plan); err != nil {
		return nil, errors.Join(t.say(""), err)
	}
	if !t.DryRun && !t.JSON {
		t.report.text(t.std.Out)
	}
	before := plan.Predecessor(t.header, t.Holes == "leave", time.Now().UTC())
	return &before, nil
}

var errHoles = errors.New("events were left out although later ones of their keys are published")

// decided returns why the take-over must not happen, or nil.
func (t *takeOver) decided(plan predecessor.Plan) error {
	if err := replication.Refusal(plan.Findings); err != nil {
		return err
	}
	switch {
	case plan.HoleCount > predecessor.MostHoles:
		return failure.Refuse(failure.Advise(
			fmt.Errorf("%w: %d, more than a publisher leaves out", errHoles, plan.HoleCount),
			"find out why: the IDs in Kafka may be others than those of the rows"))
	case plan.HoleCount > 0 && t.Holes == "ask" && !t.DryRun:
		return failure.Refuse(failure.Advise(
			fmt.Errorf("%w: %d, and somebody has to decide", errHoles, plan.HoleCount),
			"--holes publish (late, marked with the attribute replay), or --holes leave"))
	}
	return nil
}

// store stores the checkpoint: from here on every start goes on with this
// take-over.
func (t *takeOver) store(ctx context.Context, before checkpoint.Predecessor) error {
	p, err := t.pipeline(replication.LSN(0), slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	return p.TakeOver(ctx, t.report.from, before)
}

func (t *takeOver) pipeline(until replication.LSN, log *slog.Logger) (*pipeline.Pipeline, error) {
	c := site.PipelineConfig(t.cfg, log, ops.NewMetrics(console.Version()))
	c.Until, c.Snapshot.Initial = until, t.poller
	return pipeline.New(c)
}

// publish publishes what is missing.
func (t *takeOver) publish(ctx context.Context, before checkpoint.Predecessor) error {
	until, err := replication.ParseLSN(before.Until)
	if err != nil {
		return err
	}
	_, record, err := t.look(ctx)
	if err != nil || !before.Above(record.LSN) {
		return err // everything is published
	}
	if until == record.LSN+1 {
		until = record.LSN // nothing was in the slot: on an idle server its end would never come
	}
	debug.FreeOSMemory() // what the plan has needed
	fmt.Fprintf(t.std.Err, "publishing what is missing up to %s\n", until)
	p, err := t.pipeline(until, console.NewLogger(t.std.Err, t.cfg.Log))
	if err != nil {
		return err
	}
	return p.Run(ctx)
}

// finish looks for what has come late.
func (t *takeOver) finish(ctx context.Context, before checkpoint.Predecessor) error {
	debug.FreeOSMemory() // what the stream has needed
	client, err := site.ConnectKafka(ctx, t.cfg)
	if err != nil {
		return err
	}
	defer client.Close()
	var ends map[string][]int64
	if t.report.Plan != nil {
		ends = t.report.Ends
	}
	log := router.ForeignLog{Topics: before.Topics, Header: before.Header}
	if t.report.Late, err = predecessor.FindLate(ctx, client, log, ends); err != nil {
		return err
	}
	if n := len(t.report.Late); n > 0 {
		err = failure.Refuse(failure.Advise(
			fmt.Errorf("%d events are in Kafka twice: records of the former publisher arrived after the streamer had published them", n),
			"tell their consumers (the list is above); make sure that the former publisher is stopped; the streamer itself can go on"))
	}
	return errors.Join(t.say("taken over: streamer run goes on from here"), err)
}
