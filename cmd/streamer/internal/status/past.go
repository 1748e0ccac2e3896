package status

import (
	"context"
	"fmt"
	"time"

	"github.com/outboxstream/streamer/checkpoint"
	"github.com/outboxstream/streamer/cmd/streamer/internal/console"
	"github.com/outboxstream/streamer/cmd/streamer/internal/site"
	"github.com/outboxstream/streamer/replication"
)

// pastSlot is a slot that keeps WAL of the past.
type pastSlot struct {
	Name        string     `json:"slot"`
	From        string     `json:"from"` // LSN
	Since       *time.Time `json:"since,omitempty"`
	RetainedWAL int64      `json:"retained_wal_bytes"`
	WALStatus   string     `json:"wal_status"`
	InUse       bool       `json:"in_use"`
	Lost        bool       `json:"lost"`
}

// readPastSlot reads one of the slots that exist in addition to the stream's
// own. It returns nil if there is none.
func readPastSlot(ctx context.Context, control *replication.Control, name string) (*pastSlot, error) {
	slot, err := site.SlotIfAny(ctx, control, name)
	if err != nil || slot == nil {
		return nil, err
	}
	return &pastSlot{
		Name: slot.Name, From: slot.Confirmed.String(), RetainedWAL: slot.RetainedWAL,
		WALStatus: slot.WALStatus, InUse: slot.InUse(), Lost: slot.Lost(),
	}, nil
}

// readPast reads the slots that keep the past.
func (s *Report) readPast(ctx context.Context, control *replication.Control, slot string) (err error) {
	if s.Rewind, err = readPastSlot(ctx, control, replication.RewindSlot(slot)); err != nil {
		return err
	}
	s.Replay, err = readPastSlot(ctx, control, replication.ReplaySlot(slot))
	return err
}

// dateRewind says since when the rewind slot keeps the WAL, as far as is known.
func (s *Report) dateRewind(past []checkpoint.Moment) {
	if s.Rewind == nil {
		return
	}
	if from, err := replication.ParseLSN(s.Rewind.From); err == nil {
		if since := site.KeptSince(past, from).UTC(); !since.IsZero() {
			s.Rewind.Since = &since
		}
	}
}

func (p *pastSlot) row(name, idle, busy string) [2]string {
	state := idle
	switch {
	case p.Lost:
		state = "LOST"
	case p.InUse:
		state = busy
	}
	since := ""
	if p.Since != nil {
		since = ", since " + p.Since.Format(time.RFC3339)
	}
	return [2]string{name, fmt.Sprintf("%s, %s, from %s%s, keeps %s", p.Name, state, p.From, since, console.Size(p.RetainedWAL))}
}
