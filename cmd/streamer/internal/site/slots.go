package site

import (
	"context"
	"errors"
	"time"

	"github.com/outboxstream/streamer/checkpoint"
	"github.com/outboxstream/streamer/internal/pipeline"
	"github.com/outboxstream/streamer/replication"
)

// SlotIfAny returns the slot of that name, or nil if there is none.
func SlotIfAny(ctx context.Context, control *replication.Control, name string) (*replication.Slot, error) {
	slot, err := control.Of(name).Slot(ctx)
	if errors.Is(err, replication.ErrSlotMissing) {
		return nil, nil //nolint:nilnil // there may be none
	}
	return &slot, err
}

// StreamIDs returns the identities in the header streamer-stream, one for each
// history up to the stored one.
func StreamIDs(server replication.Server, slot string, history int) []string {
	var ids []string
	id := pipeline.Identity(server, slot)
	for h := range history + 1 {
		ids = append(ids, pipeline.StreamID(id, h))
	}
	return ids
}

// KeptSince returns the earliest known time from which every commit is at or
// above an LSN, or zero if no such time is known.
func KeptSince(past []checkpoint.Moment, lsn replication.LSN) time.Time {
	for _, m := range past {
		if m.LSN >= lsn {
			return m.At
		}
	}
	return time.Time{}
}
