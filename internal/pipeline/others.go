package pipeline

import (
	"context"
	"errors"
	"time"

	"github.com/outboxstream/streamer/decoder"
	"github.com/outboxstream/streamer/internal/predecessor"
	"github.com/outboxstream/streamer/internal/wait"
	"github.com/outboxstream/streamer/replication"
)

// othersTimeout bounds the look for events of another publisher. The server
// prepares a whole transaction before it shows its first row.
const othersTimeout = 30 * time.Second

// nothingOfOthers makes sure, at the first start of a slot, that no other program
// has published what waits in it. Where that cannot be found out, the start goes
// on: it is a precaution, and most slots have never had another reader.
func (t *tenure) nothingOfOthers(ctx context.Context, h *holding, slot replication.Slot) error {
	ctx, cancel := context.WithTimeout(ctx, othersTimeout)
	defer cancel()
	outbox := predecessor.Outbox{
		Server: t.server, Rules: t.config.Rules, Mappings: decoder.Located(t.config.Mappings, t.tables, t.server.Encoding),
	}
	if t.config.Snapshot.Initial {
		outbox.Table, outbox.Query = &t.tables[0], t.config.Snapshot.Query
	}
	found, err := wait.TalkWhile(
		ctx, pingEvery, t.control.Ping,
		func(ctx context.Context) (*predecessor.Published, error) {
			return t.pipeline.servers.others(ctx, h.cluster, t.source, outbox)
		}, nil,
	)
	switch {
	case err == nil:
		return found.Refusal(slot.Name)
	case errors.Is(err, replication.ErrSlotActive):
		return err // as the stream would say
	}
	t.log.Warn("not found out whether another program has published what waits in the slot", "err", err, "see", predecessor.Guide)
	return nil
}
