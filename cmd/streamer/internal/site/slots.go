package site

import (
	"context"
	"errors"
	"time"

	"github.com/outboxstream/streamer/checkpoint"
	"github.com/outboxstream/streamer/internal/config"
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

// StreamIDs returns all identities in the header streamer-stream under which the
// configured slot's events were published, as far as its checkpoint knows.
// Without a checkpoint the record is zero.
func StreamIDs(server replication.Server, cfg config.Config, r checkpoint.Record) []string {
	return pipeline.StreamIDs(IdentityOf(server, cfg), r)
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
