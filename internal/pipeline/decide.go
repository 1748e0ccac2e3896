package pipeline

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pglogrepl"

	"github.com/outboxstream/streamer/checkpoint"
	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/replication"
	"github.com/outboxstream/streamer/router"
)

// Decision is a stored position that the operator is about to replace.
type Decision struct {
	// Before is the stored record. Unknown says why there is no usable one.
	Before  checkpoint.Record
	Unknown error
	// After is what will be stored.
	After checkpoint.Record
}

// Decide replaces the stored checkpoint by the operator's decision. position is
// the LSN to continue from, or "slot" for the slot's confirmed position, or
// "end" for the end of the WAL. Decide holds the lock meanwhile, so no streamer
// can be running. approve sees the decision before anything is stored. If
// approve returns an error, nothing is stored.
func (p *Pipeline) Decide(ctx context.Context, position string, approve func(Decision) error) error {
	return p.decide(ctx, func(slot replication.Slot) (replication.LSN, error) { return choose(position, slot) }, nil, approve)
}

// TakeOver stores a checkpoint at the slot's confirmed position, for a streamer
// that goes on with what another program has published. Nothing is stored if the
// slot is no longer at from.
func (p *Pipeline) TakeOver(ctx context.Context, from replication.LSN, predecessor checkpoint.Predecessor) error {
	return p.decide(ctx, confirmed, &predecessor, func(d Decision) error {
		if d.After.LSN == from {
			return nil
		}
		return failure.Refuse(failure.Advise(
			fmt.Errorf("slot %q has moved from %s to %s meanwhile", d.After.Slot, from, d.After.LSN),
			"make sure that the former publisher is stopped, and does not start again by itself",
		))
	})
}

// GiveBack leaves the slot to another program. The checkpoint that it stores is
// just below the slot's confirmed position, so that no streamer goes on by
// itself: what the other program publishes, it does not know. before is the
// checkpoint that was stored: what is published is below it.
func (p *Pipeline) GiveBack(ctx context.Context) (before replication.LSN, err error) {
	err = p.decide(ctx, func(slot replication.Slot) (replication.LSN, error) { return slot.Confirmed - 1, nil }, nil,
		func(d Decision) error {
			before = d.Before.LSN
			return d.Unknown
		})
	return before, err
}

// confirmed chooses the slot's confirmed position.
func confirmed(slot replication.Slot) (replication.LSN, error) { return slot.Confirmed, nil }

func (p *Pipeline) decide(
	ctx context.Context, position func(replication.Slot) (replication.LSN, error), predecessor *checkpoint.Predecessor,
	approve func(Decision) error,
) error {
	source, err := p.replication(ctx)
	if err != nil {
		return err
	}
	source.LockTimeout = 0 // the operator takes time
	control, err := p.connectWith(ctx, source)
	if err != nil {
		return err
	}
	defer control.Close()
	t := &tenure{ground: p.ground, pipeline: p, control: control, source: source}
	if err := t.lockSoon(ctx); err != nil {
		return err
	}
	if err := t.check(ctx); err != nil {
		return err
	}
	slot, err := t.slot(ctx)
	if err != nil {
		return err
	}
	lsn, err := position(slot)
	if err != nil {
		return err
	}
	if err := t.fits(ctx, lsn, true); err != nil {
		return err
	}
	h, err := p.takeOver(ctx, Identity(t.server, slot.Name), true)
	if err != nil {
		return err
	}
	after := checkpoint.Record{
		Identity: Identity(t.server, slot.Name), Timeline: t.server.Timeline, LSN: lsn, Routing: p.config.Rules.Fingerprint(),
		Predecessor: predecessor,
	}
	if p.flow, err = p.newFlow(h, resumeAt(after), router.Found{}, nil); err != nil {
		h.close()
		return err
	}
	defer p.discard()
	return t.decide(ctx, h, slot, after, approve)
}

func (t *tenure) decide(
	ctx context.Context, h *holding, slot replication.Slot, after checkpoint.Record, approve func(Decision) error,
) error {
	// Load again, for the reason why there may be no checkpoint.
	before, err := h.store.Load(ctx, after.Identity)
	unusable := errors.Is(err, checkpoint.ErrNone) || failure.ClassOf(err) == failure.Refused
	if err != nil && !unusable {
		return fmt.Errorf("load checkpoint: %w", err)
	}
	producer, epoch := h.owner.ID()
	after.Producer = checkpoint.Producer{Generation: h.generation, ID: producer, Epoch: epoch}
	after.History, after.AtLeastOnce, after.Past = before.History, h.atLeastOnce, before.Past
	after.Publication = t.control.membership(replication.After(before.Publication, t.tables))
	after.Former = formerStreams(ctx, h.store, after.Identity, before, err)
	if err != nil || before.Timeline != after.Timeline || before.Disputed || before.LSN > slot.Flushed {
		after.History++
	} else if after.LSN >= before.LSN && after.Predecessor == nil {
		// Going back means publishing again. Going forward does not, so the marks
		// stay. They are about partitions as rows were routed then.
		after.Topics, after.Routing = before.Topics, before.Routing
	}
	if after.Predecessor != nil && t.config.Snapshot.Initial {
		if err := t.firstSnapshot(ctx, h, slot, &after); err != nil {
			return err
		}
	}
	after.SavedAt = time.Now().UTC()
	if err := approve(Decision{Before: before, Unknown: err, After: after}); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	if err := h.store.Save(ctx, after); err != nil {
		return fmt.Errorf("save checkpoint: %w", err)
	}
	return nil
}

// formerStreams returns the identities under which the outbox was published
// before the decision, other than those of the same cluster and database: the
// stored ones, and those of a record that another cluster or another name of the
// database has left. unusable is why there is no record.
func formerStreams(
	ctx context.Context, store checkpoint.Reader, id checkpoint.Identity, before checkpoint.Record, unusable error,
) []string {
	left := before
	if foreign, ok := errors.AsType[*checkpoint.ForeignError](unusable); ok && foreign.Found.Key() == id.Key() {
		left = foreign.Found
	} else if renamed, err := checkpoint.Former(ctx, store, id); unusable != nil && err == nil {
		left = renamed
	}
	if left.Identity == id || left.Identity == (checkpoint.Identity{}) {
		return left.Former
	}
	return StreamIDs(left.Identity, left)
}

// choose resolves a position and makes sure that the slot can start there.
func choose(position string, slot replication.Slot) (replication.LSN, error) {
	switch position {
	case "slot":
		return confirmed(slot)
	case "end":
		return slot.Flushed, nil
	}
	lsn, err := pglogrepl.ParseLSN(position)
	if err != nil || lsn.String() != position {
		return 0, failure.Misconfigure(fmt.Errorf("%q is not a position: write an LSN such as %s, \"slot\" or \"end\"", position, slot.Confirmed))
	}
	if lsn < slot.Confirmed || lsn > slot.Flushed {
		return 0, failure.Refuse(fmt.Errorf(
			"slot %q can start between %s, its confirmed position, and %s, the end of the WAL, but not at %s: "+
				"what was committed earlier can only be published from the outbox table",
			slot.Name, slot.Confirmed, slot.Flushed, lsn,
		))
	}
	return lsn, nil
}
