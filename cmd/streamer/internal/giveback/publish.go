package giveback

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/outboxstream/streamer/cmd/streamer/internal/console"
	"github.com/outboxstream/streamer/cmd/streamer/internal/site"
	"github.com/outboxstream/streamer/decoder"
	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/internal/ops"
	"github.com/outboxstream/streamer/internal/pipeline"
	"github.com/outboxstream/streamer/replication"
)

func (g *giveBack) pipeline(until replication.LSN, log *slog.Logger) (*pipeline.Pipeline, error) {
	c := site.PipelineConfig(g.cfg, log, ops.NewMetrics(console.Version()))
	c.Until, c.Snapshot.Initial, c.Cleanups = until, false, nil
	return pipeline.New(c)
}

var errSlow = errors.New("not everything could be published in time")

// publish publishes what was committed until now. A start reads back what an
// instance that has crashed had published, so that nothing is repeated, and a
// clean end leaves nothing in flight.
func (g *giveBack) publish(ctx context.Context) error {
	slot, err := g.slot(ctx)
	if err != nil {
		return err
	}
	p, err := g.pipeline(slot.Flushed, console.NewLogger(g.std.Err, g.cfg.Log))
	if err != nil {
		return err
	}
	fmt.Fprintf(g.std.Err, "publishing what is left up to %s\n", slot.Flushed)
	ctx, cancel := context.WithTimeoutCause(ctx, g.Timeout, failure.Advise(
		fmt.Errorf("%w (--timeout %s)", errSlow, g.Timeout), "see the log above; once the cause is gone, run the command again"))
	defer cancel()
	ctx, overtaken := context.WithCancelCause(ctx)
	defer overtaken(nil)
	ended := make(chan struct{})
	watching := make(chan struct{})
	go func() {
		defer close(watching)
		g.watch(p, ended, overtaken)
	}()
	err = p.Run(ctx)
	close(ended)
	<-watching
	if ctx.Err() != nil { // it stops cleanly also where nothing could be published
		err = errors.Join(context.Cause(ctx), err)
	}
	return err
}

// watch ends a run that waits for the lock: another instance was faster.
func (g *giveBack) watch(p *pipeline.Pipeline, ended <-chan struct{}, overtaken context.CancelCauseFunc) {
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ended:
			return
		case <-ticker.C:
			if s := p.Status(); s.Phase == pipeline.Standby && time.Since(s.Since) > standbyTime {
				overtaken(inUse(g.cfg.Postgres.Slot, nil))
				return
			}
		}
	}
}

// leave makes sure that nothing published is above the slot's position, and
// leaves a checkpoint from which no streamer goes on by itself.
func (g *giveBack) leave(ctx context.Context) error {
	if err := g.catchUp(ctx); err != nil {
		return g.bounded(ctx, err)
	}
	p, err := g.pipeline(0, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	if g.report.published, err = p.GiveBack(ctx); err != nil {
		return g.bounded(ctx, err)
	}
	return nil
}

// catchUp moves the slot to the checkpoint, if the server did not get the last
// confirmation: what is below the checkpoint is published.
func (g *giveBack) catchUp(ctx context.Context) error {
	control, _, err := site.ConnectPostgres(ctx, g.cfg)
	if err != nil {
		return err
	}
	defer control.Close()
	asking, cancel := context.WithTimeout(ctx, site.AskTimeout)
	defer cancel()
	slot, err := control.Slot(asking)
	if err != nil {
		return err
	}
	record, err := site.LoadCheckpoint(ctx, g.cfg, site.IdentityOf(g.server, g.cfg))
	if err != nil || record.LSN <= slot.Confirmed {
		return err
	}
	return control.AdvanceSlot(ctx, record.LSN)
}

func (g *giveBack) slot(ctx context.Context) (replication.Slot, error) {
	control, _, err := site.ConnectPostgres(ctx, g.cfg)
	if err != nil {
		return replication.Slot{}, err
	}
	defer control.Close()
	asking, cancel := context.WithTimeout(ctx, site.AskTimeout)
	defer cancel()
	return control.Slot(asking)
}

// describe says where the slot is, and what waits in it.
func (g *giveBack) describe(ctx context.Context) (err error) {
	if g.report.slot, err = g.slot(ctx); err != nil {
		return err
	}
	published, err := g.waiting(ctx, g.report.published)
	if err != nil {
		return err
	}
	g.report.Repeats = &published
	waiting, err := g.waiting(ctx, g.report.slot.Flushed)
	if err != nil { // only the number is missing
		g.note("what waits for Debezium was not counted: %s", failure.Describe(err))
		return nil
	}
	waiting.Events -= published.Events
	g.report.Waiting = &waiting.Events
	return nil
}

// bounded adds to an error how many events Debezium would repeat at most, if it
// began at the slot's position nevertheless.
func (g *giveBack) bounded(ctx context.Context, cause error) error {
	counting, cancel := context.WithTimeout(context.WithoutCancel(ctx), site.AskTimeout)
	defer cancel()
	slot, err := g.slot(counting)
	if err != nil {
		return errors.Join(cause, err)
	}
	g.report.slot = slot
	all, err := g.waiting(counting, slot.Flushed)
	if err != nil {
		return errors.Join(cause, fmt.Errorf("count what Debezium would repeat: %w", err))
	}
	all.AtMost = true
	g.report.Repeats = &all
	return cause
}

// errEnd ends the reading of what waits.
var errEnd = errors.New("end")

// waiting counts the rows above the slot's position that were committed before a
// position.
func (g *giveBack) waiting(ctx context.Context, until replication.LSN) (events, error) {
	var found events
	if until <= g.report.slot.Confirmed {
		return found, nil
	}
	control, _, err := site.ConnectPostgres(ctx, g.cfg)
	if err != nil {
		return found, err
	}
	defer control.Close()
	tables, err := control.DescribeTables(ctx)
	if err != nil {
		return found, err
	}
	d := decoder.New(site.LocatedMappings(g.cfg, tables, g.server)...)
	err = control.PeekWaiting(ctx, g.server, func(_ replication.LSN, data []byte) error {
		kind, err := d.Decode(data)
		if _, poison := errors.AsType[*decoder.PoisonError](err); err != nil && !poison {
			return err
		}
		switch e := d.Event(); {
		case kind == decoder.Begin && e.Position.Commit >= until:
			return errEnd
		case kind == decoder.Row:
			found.add(string(e.Attribute(decoder.ID)))
		}
		return nil
	})
	if errors.Is(err, errEnd) {
		err = nil
	}
	return found, err
}
