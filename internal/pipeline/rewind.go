package pipeline

import (
	"context"
	"errors"
	"time"

	"github.com/outboxstream/streamer/checkpoint"
	"github.com/outboxstream/streamer/replication"
)

// Rewind configures how much of the past can be replayed from the WAL.
type Rewind struct {
	Keep     time.Duration // 0: no WAL is kept for replays
	MaxBytes int64         // the most WAL kept for replays
}

const (
	// rememberFor is how long past positions of the stream are remembered, unless
	// the rewind slot needs them longer.
	rememberFor = 24 * time.Hour
	// rewindSteps is how often, within the time to keep, the stream's position is
	// noted and the rewind slot checked. The slot is checked less often, because
	// that takes a connection.
	rewindSteps  = 64
	shortestStep = time.Second
	longestStep  = 10 * time.Second
	longestRest  = time.Minute
	// rewindStride is how much WAL the slot is moved over at once: the server has
	// to read that WAL.
	rewindStride = 1 << 30
	// rewindTimeout bounds one move.
	rewindTimeout = time.Minute
)

// step is the time between two notes. rest is the time between two checks of
// the rewind slot.
func (r Rewind) step() time.Duration { return r.part(longestStep) }
func (r Rewind) rest() time.Duration { return r.part(longestRest) }

func (r Rewind) part(longest time.Duration) time.Duration {
	if r.Keep == 0 {
		return longest
	}
	return min(max(r.Keep/rewindSteps, shortestStep), longest)
}

// keepPast periodically notes the stream's position, and moves the rewind slot.
// It logs failures, which do not affect the stream.
func (s *session) keepPast(ctx context.Context, config replication.Config) {
	ticker := time.NewTicker(s.config.Rewind.step())
	defer ticker.Stop()
	var looked time.Time
	for {
		past := s.flow.saver.remember(time.Now(), max(rememberFor, s.config.Rewind.Keep))
		if s.config.Rewind.Keep > 0 && time.Since(looked) >= s.config.Rewind.rest() {
			looked = time.Now()
			if err := s.keepRewindSlot(ctx, config, past); err != nil && ctx.Err() == nil {
				s.log.Warn(
					"rewind slot could not be maintained: less WAL may be available for replays than rewind.keep asks for",
					"slot", replication.RewindSlot(config.Slot), "err", err,
				)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// keepRewindSlot makes sure that the rewind slot exists, and moves it to where
// the stream was at the beginning of the time to keep.
func (g ground) keepRewindSlot(ctx context.Context, config replication.Config, past []checkpoint.Moment) error {
	control, err := replication.Connect(ctx, config)
	if err != nil {
		return err
	}
	defer control.Close()
	rewind := control.Of(replication.RewindSlot(config.Slot))
	slot, err := rewind.Slot(ctx)
	switch {
	case errors.Is(err, replication.ErrSlotMissing):
		return g.makeRewindSlot(ctx, control, rewind)
	case err != nil:
		return err
	case slot.Lost():
		g.log.Error(
			"rewind slot was lost and is created again: the past up to now can only be replayed from the outbox table",
			"slot", slot.Name, "wal_status", slot.WALStatus, "invalidation_reason", slot.InvalidationReason,
		)
		if err := rewind.DropSlot(ctx); err != nil {
			return err
		}
		return g.makeRewindSlot(ctx, control, rewind)
	}
	g.config.Metrics.Rewind(slot)
	return moveSlot(ctx, rewind, slot.Confirmed, g.config.Rewind.target(slot, past))
}

// moveSlot moves a slot in strides, so that completed strides count when the
// next takes too long.
func moveSlot(ctx context.Context, slot *replication.Control, from, to replication.LSN) error {
	for from < to {
		from = min(to, from+rewindStride)
		timed, cancel := context.WithTimeout(ctx, rewindTimeout)
		err := slot.AdvanceSlot(timed, from)
		cancel()
		if err != nil {
			return err
		}
	}
	return nil
}

func (g ground) makeRewindSlot(ctx context.Context, control, rewind *replication.Control) error {
	if err := control.CopySlot(ctx, rewind.SlotName()); err != nil {
		return err
	}
	slot, err := rewind.Slot(ctx)
	if err != nil {
		return err
	}
	g.config.Metrics.Rewind(slot)
	g.log.Info(
		"rewind slot created: WAL from here on can be replayed",
		"slot", slot.Name, "lsn", slot.Confirmed.String(), "keep", g.config.Rewind.Keep.String(),
	)
	return nil
}

// target is where the rewind slot should be: where the stream was at the
// beginning of the time to keep, or later if that would keep too much WAL.
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
