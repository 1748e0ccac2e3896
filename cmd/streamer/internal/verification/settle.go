package verification

import (
	"context"
	"errors"
	"time"

	"github.com/outboxstream/streamer/cmd/streamer/internal/site"
	"github.com/outboxstream/streamer/decoder"
	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/internal/verify"
	"github.com/outboxstream/streamer/replication"
)

// settleEvery is how often settle asks whether the rows read are confirmed.
const settleEvery = 250 * time.Millisecond

// settle makes sure that rows which are not published yet do not count as
// missing. It waits until everything that was read is confirmed. If that takes
// too long or no streamer reads the slot, it asks the server which rows wait.
func (v *verification) settle(ctx context.Context, m *member) error {
	v.progress.step("waiting until everything that was read is confirmed")
	ticker := time.NewTicker(settleEvery)
	defer ticker.Stop()
	for deadline := time.Now().Add(v.command.Wait); ; {
		slot, err := m.control.Slot(ctx)
		switch {
		case lost(slot, err) && v.server.InStandby:
			return standbyError(m.control.SlotName())
		case lost(slot, err):
			v.note("slot %q is missing or lost: nothing will publish the remaining rows, so every row counts as due", m.control.SlotName())
			return nil
		case err != nil:
			return err
		}
		confirmed := slot.Confirmed
		if m.stored <= slot.Flushed { // otherwise it is of another history than this server's
			confirmed = max(confirmed, m.stored)
		}
		switch {
		case confirmed >= v.settled:
			return nil
		case !slot.InUse(), time.Now().After(deadline):
			return v.excuseWaiting(ctx, m, confirmed)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-ticker.C:
		}
	}
}

// excuseWaiting excuses the rows that the slot still holds.
func (v *verification) excuseWaiting(ctx context.Context, m *member, confirmed replication.LSN) error {
	v.progress.step("reading the rows that wait in the slot")
	routes, err := site.NewRouter(v.cfg, v.server.Database)
	if err != nil {
		return err
	}
	d := decoder.New(site.LocatedMappings(v.cfg, nil, v.server)...)
	err = m.control.PeekWaiting(ctx, v.server, func(_ replication.LSN, data []byte) error {
		kind, err := d.Decode(data)
		if poison, ok := errors.AsType[*decoder.PoisonError](err); ok {
			return v.excuse([]byte(poison.EventID), routes.Source(d.Event()))
		}
		// Everything below the checkpoint is acknowledged, whatever the slot
		// says.
		if err != nil || kind != decoder.Row || d.Event().Position.Commit < confirmed {
			return err
		}
		v.progress.one()
		return v.excuse(d.Event().Attribute(decoder.ID), routes.Source(d.Event()))
	})
	if err != nil && ctx.Err() == nil {
		v.comparison.Undecided()
		v.note("the rows that wait in slot %q could not be read, so rows without a record count as in flight: %s",
			m.control.SlotName(), failure.Describe(err))
		return nil
	}
	return err
}

func (v *verification) excuse(id, source []byte) error {
	return v.comparison.Excuse(id, source, verify.InFlight)
}
