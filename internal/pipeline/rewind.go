package pipeline

import (
	"context"
	"errors"
	"time"

	"github.com/outboxstream/streamer/checkpoint"
	"github.com/outboxstream/streamer/replication"
)

// Rewind says how much of the past can be replayed from the log.
type Rewind struct {
	Keep     time.Duration // 0: nothing is kept on purpose
	MaxBytes int64         // of log that is kept for it at most
}

const (
	// rememberFor is how long it is remembered where the stream has stood, if not
	// longer for the rewind slot.
	rememberFor = 24 * time.Hour
	// rewindSteps is into how many steps the time to keep is divided.
	rewindSteps  = 64
	shortestStep = time.Second
	longestStep  = 10 * time.Second
	// rewindTimeout bounds one step: the server reads the log that it covers.
	rewindTimeout = time.Minute
)

func (r Rewind) step() time.Duration {
	if r.Keep == 0 {
		return longestStep
	}
	return min(max(r.Keep/rewindSteps, shortestStep), longestStep)
}

// keepPast notes at intervals where the stream stands, and moves the rewind
// slot. Whatever fails with that is said, and does not concern the stream.
func (p *Pipeline) keepPast(ctx context.Context, config replication.Config) {
	ticker := time.NewTicker(p.config.Rewind.step())
	defer ticker.Stop()
	for {
		past := p.flow.saver.remember(time.Now(), max(rememberFor, p.config.Rewind.Keep))
		if p.config.Rewind.Keep > 0 {
			if err := p.keepRewindSlot(ctx, config, past); err != nil && ctx.Err() == nil {
				p.log.Warn("rewind slot is not as it should be: what can be replayed may be less than rewind.keep says", "slot", replication.RewindSlot(config.Slot), "err", err)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// keepRewindSlot makes sure that there is one, and moves it to where the stream
// stood as long ago as is to be kept.
func (p *Pipeline) keepRewindSlot(ctx context.Context, config replication.Config, past []checkpoint.Moment) error {
	ctx, cancel := context.WithTimeout(ctx, rewindTimeout)
	defer cancel()
	control, err := replication.Connect(ctx, config)
	if err != nil {
		return err
	}
	defer control.Close()
	rewind := control.Of(replication.RewindSlot(config.Slot))
	slot, err := rewind.Slot(ctx)
	switch {
	case errors.Is(err, replication.ErrSlotMissing):
		return p.makeRewindSlot(ctx, control, rewind)
	case err != nil:
		return err
	case slot.Lost():
		p.log.Error("rewind slot was lost, the past up to now can be replayed from the outbox table only; it begins anew", "slot", slot.Name, "wal_status", slot.WALStatus, "invalidation_reason", slot.InvalidationReason)
		if err := rewind.DropSlot(ctx); err != nil {
			return err
		}
		return p.makeRewindSlot(ctx, control, rewind)
	}
	p.config.Metrics.Rewind(slot)
	if to := p.config.Rewind.target(slot, past); to > slot.Confirmed {
		return rewind.AdvanceSlot(ctx, to)
	}
	return nil
}

func (p *Pipeline) makeRewindSlot(ctx context.Context, control, rewind *replication.Control) error {
	if err := control.CopySlot(ctx, rewind.SlotName()); err != nil {
		return err
	}
	slot, err := rewind.Slot(ctx)
	if err != nil {
		return err
	}
	p.config.Metrics.Rewind(slot)
	p.log.Info("rewind slot created: the log from here on can be replayed", "slot", slot.Name, "lsn", slot.Confirmed.String(), "keep", p.config.Rewind.Keep.String())
	return nil
}

// target is where the rewind slot is to stand: where the stream stood so long
// ago, or later, where that would keep too much.
func (r Rewind) target(slot replication.Slot, past []checkpoint.Moment) replication.LSN {
	var to replication.LSN
	if m, found := checkpoint.Before(past, slot.At.Add(-r.Keep)); found {
		to = m.LSN
	}
	if slot.RetainedWAL > r.MaxBytes {
		for _, m := range past {
			if to = max(to, m.LSN); int64(slot.Flushed)-int64(to) <= r.MaxBytes {
				break
			}
		}
	}
	return to
}
