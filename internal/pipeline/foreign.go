package pipeline

import (
	"context"
	"time"

	"github.com/outboxstream/streamer/checkpoint"
	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/replication"
	"github.com/outboxstream/streamer/router"
)

// manyForeign events take 2 MiB.
const manyForeign = 1 << 17

// readForeign finds out what the publisher before the streamer has published of
// the rows above the checkpoint. Whatever of it has arrived since the last start
// counts as well.
func (p *Pipeline) readForeign(
	ctx context.Context, h *holding, before *checkpoint.Predecessor, from replication.LSN,
) (*router.Foreign, error) {
	if !before.Above(from) {
		return nil, nil
	}
	began := time.Now()
	foreign, err := h.cluster.ReadForeign(ctx, router.ForeignLog{Topics: before.Topics, Header: before.Header})
	if err != nil {
		return nil, err
	}
	if foreign.Until, err = replication.ParseLSN(before.Until); err != nil {
		return nil, failure.Refuse(err)
	}
	foreign.Holes, foreign.LeaveOut = map[string]struct{}{}, before.LeaveOut
	for _, id := range before.Holes {
		foreign.Holes[id] = struct{}{}
	}
	p.log.Info(
		"events that the former publisher has published will be passed over",
		"events", foreign.Events(), "until", before.Until, "holes", len(before.Holes), "took", time.Since(began).Round(time.Millisecond).String(),
	)
	return foreign, nil
}
