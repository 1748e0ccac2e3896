package giveback

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/outboxstream/streamer/checkpoint"
	"github.com/outboxstream/streamer/cmd/streamer/internal/console"
	"github.com/outboxstream/streamer/cmd/streamer/internal/site"
	"github.com/outboxstream/streamer/internal/config"
	"github.com/outboxstream/streamer/internal/debezium"
	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/replication"
	"github.com/outboxstream/streamer/router"
)

// readConnector reads the file of the connector that is to go on.
func (g *giveBack) readConnector() error {
	if g.Connector == "" {
		return nil
	}
	content, err := os.ReadFile(g.Connector)
	if err != nil {
		return failure.Misconfigure(failure.Advise(fmt.Errorf("--connector: %w", err), "name the file with the connector's configuration"))
	}
	connectors, err := debezium.Read([]debezium.File{{Name: g.Connector, Content: content}})
	if err != nil {
		return err
	}
	connector, err := debezium.Choose(connectors, "")
	if err != nil {
		return err
	}
	g.connector = &connector
	return nil
}

func (g *giveBack) resumption() debezium.Resumption {
	return debezium.Resumption{Slot: g.cfg.Postgres.Slot, Publication: g.cfg.Postgres.Publication, KeepOffsets: g.Offsets == "keep"}
}

// require notes what any connector needs.
func (g *giveBack) require() {
	for _, q := range g.resumption().Requirements() {
		if q.Option != "slot.drop.on.stop" { // it has this value unless somebody changes it
			g.report.Settings = append(g.report.Settings, q)
		}
	}
}

// checkConnector compares the connector's file with what it needs.
func (g *giveBack) checkConnector() error {
	if g.connector == nil {
		return nil
	}
	var problems []error
	for _, d := range g.connector.Deviations(g.resumption()) {
		if !d.Fatal {
			g.note("%s: %s", g.Connector, d)
			continue
		}
		problems = append(problems, failure.Misconfigure(failure.Advise(
			fmt.Errorf("%s: %s", g.Connector, d), "set %s to %s", d.Option, d.Value)))
	}
	g.report.Connector = g.connector.Name
	return errors.Join(problems...)
}

func (g *giveBack) note(format string, arguments ...any) {
	g.report.Notes = append(g.report.Notes, fmt.Sprintf(format, arguments...))
}

// check makes sure that a connector can go on from the slot. It changes nothing.
func (g *giveBack) check(ctx context.Context) error {
	if err := g.checkConfiguration(); err != nil {
		return err
	}
	control, _, err := site.ConnectPostgres(ctx, g.cfg)
	if err != nil {
		return err
	}
	defer control.Close()
	asking, cancel := context.WithTimeout(ctx, site.AskTimeout)
	defer cancel()
	if err := g.checkServer(asking, control); err != nil {
		return err
	}
	if err := g.pastSlots(asking, control); err != nil {
		return err
	}
	record, err := g.checkRecord(asking)
	if err == nil {
		err = g.deadLetters(ctx, record)
	}
	if err != nil && failure.ClassOf(err) != failure.Refused {
		return g.bounded(ctx, err)
	}
	return err
}

// checkConfiguration refuses what Debezium cannot continue.
func (g *giveBack) checkConfiguration() error {
	if g.cfg.Shard.Count > 1 {
		return failure.Refuse(failure.Advise(
			fmt.Errorf("the outbox is read in %d shards, each with a slot of its own, and a connector reads one slot", g.cfg.Shard.Count),
			"change to one shard first (docs/how-to/shards.md), and give that slot back"))
	}
	tables := g.cfg.Tables()
	if slices.ContainsFunc(tables, func(o config.Outbox) bool { return o.Messages != "" }) {
		return failure.Refuse(failure.Advise(
			errors.New("events come from messages (outbox.messages), which Debezium's outbox event router does not publish: they would be missing"),
			"let applications write them to an outbox table first, and wait until nothing writes messages any more; then leave outbox.messages out"))
	}
	if len(tables) > 1 || tables[0].IsPattern() {
		g.note("several tables: the connector needs all of them in table.include.list, and a router for each layout")
	}
	if slices.ContainsFunc(tables, func(o config.Outbox) bool { return o.Cleanup.Mode != config.CleanupNone }) {
		g.note("the streamer has removed published rows (outbox.cleanup), and Debezium does not: let another job do so")
	}
	return nil
}

func (g *giveBack) checkServer(ctx context.Context, control *replication.Control) (err error) {
	if g.server, err = control.Identify(ctx); err != nil {
		return err
	}
	tables, err := control.DescribeTables(ctx)
	if err != nil {
		return err
	}
	if g.report.slot, err = control.Slot(ctx); err != nil {
		return err
	}
	if g.report.Holders, err = control.Holders(ctx); err != nil {
		return err
	}
	return replication.Refusal(slices.Concat(
		replication.CheckServer(g.server, control.Config()), replication.CheckPublication(g.server, control.Config()),
		replication.CheckTables(tables, control.Config()), replication.CheckSlot(g.report.slot, g.server),
	))
}

// pastSlots says what becomes of the slots that keep the past.
func (g *giveBack) pastSlots(ctx context.Context, control *replication.Control) error {
	replay, err := site.SlotIfAny(ctx, control, replication.ReplaySlot(g.cfg.Postgres.Slot))
	if err != nil {
		return err
	}
	if replay != nil && replay.InUse() {
		return failure.Refuse(failure.Advise(
			errors.New("a replay is in progress: it publishes events again"), "wait for its end, or stop it"))
	}
	rewind, err := site.SlotIfAny(ctx, control, replication.RewindSlot(g.cfg.Postgres.Slot))
	if err != nil {
		return err
	}
	for _, slot := range []*replication.Slot{replay, rewind} {
		if slot != nil {
			g.note("slot %s keeps WAL for replays and is no longer moved: once it is not needed, "+
				"SELECT pg_drop_replication_slot(%s)", slot.Name, replication.QuoteLiteral(slot.Name))
		}
	}
	return nil
}

// checkRecord makes sure that the streamer is where the slot is.
func (g *giveBack) checkRecord(ctx context.Context) (checkpoint.Record, error) {
	record, err := site.LoadCheckpoint(ctx, g.cfg, site.IdentityOf(g.server, g.cfg))
	slot := g.report.slot
	switch {
	case errors.Is(err, checkpoint.ErrNone):
		return record, failure.Refuse(failure.Advise(
			fmt.Errorf("no checkpoint is stored for slot %q: the streamer has published nothing from it", slot.Name),
			"there is nothing to give back; if the checkpoint is lost, decide with `streamer checkpoint set` first"))
	case err != nil:
		return record, err
	case record.Snapshot.Pending():
		return record, failure.Refuse(failure.Advise(
			errors.New("the snapshot of the rows from before the slot is not finished: Debezium would never publish the rest of them"),
			"let `streamer run` finish it, or give it up with `streamer checkpoint set slot --yes`"))
	case record.LSN+1 == slot.Confirmed:
		g.report.Again = true
	case record.LSN < slot.Confirmed:
		return record, failure.Refuse(failure.Advise(
			fmt.Errorf("slot %q is at %s, above the checkpoint %s: another client has read it since", slot.Name, slot.Confirmed, record.LSN),
			"if that was Debezium, it was given back already; otherwise find out who it was, and see docs/how-to/slot-lost.md"))
	}
	if record.AtLeastOnce != "" {
		g.note("if the streamer has crashed, it repeats what it had published after its last checkpoint itself: %s", record.AtLeastOnce)
	}
	return record, nil
}

// deadLetters counts rows about which nobody has decided.
func (g *giveBack) deadLetters(ctx context.Context, record checkpoint.Record) error {
	if !g.cfg.HasDeadLetters() {
		return nil
	}
	client, err := site.ConnectKafka(ctx, g.cfg)
	if err != nil {
		return err
	}
	defer client.Close()
	letters, err := router.Letters(ctx, client, g.cfg.Poison.Topic, site.Rules(g.cfg))
	if err != nil {
		return err
	}
	streams := site.StreamIDs(g.server, g.cfg, record)
	for _, l := range letters {
		if l.Resolution == nil && slices.Contains(streams, l.StreamID) {
			g.report.DeadLetters++
		}
	}
	if n := g.report.DeadLetters; n > 0 {
		g.note("%s without a decision in topic %s: Debezium does not know them; `streamer dead-letters` works as before",
			console.Counted(n, "dead letter"), g.cfg.Poison.Topic)
	}
	return nil
}
