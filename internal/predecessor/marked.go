package predecessor

import (
	"context"
	"fmt"

	"github.com/outboxstream/streamer/decoder"
	"github.com/outboxstream/streamer/replication"
	"github.com/outboxstream/streamer/router"
)

// checkMarked makes sure that the topics know every row that waits and that the
// table says was published: one that is marked, or gone. Only rows from before
// the slot are chosen by what the table says.
func (s *Survey) checkMarked(ctx context.Context, p *Plan) error {
	const atOnce = 1000
	var ids []string
	var marked int64
	ask := func() error {
		selected, err := s.Control.Selected(ctx, *s.Table, s.Query, ids)
		marked += int64(len(ids) - len(selected))
		ids = ids[:0]
		return err
	}
	err := s.visit(ctx, func(n uint32, e *decoder.Event, _ router.Destination) error {
		if !s.rows.isPublished(n) {
			ids = append(ids, string(e.Attribute(decoder.ID)))
		}
		if len(ids) < atOnce {
			return nil
		}
		return ask()
	})
	if err == nil {
		err = ask()
	}
	if err != nil || marked == 0 {
		return err
	}
	p.Findings = append(p.Findings, replication.Finding{
		Fatal: true,
		Problem: fmt.Sprintf(
			"%d rows that wait in slot %q are published (snapshot.where), or gone, but no record has their IDs: they would be published again",
			marked, s.Control.Config().Slot),
		Remedy: "create the slot again now that the former publisher has stopped: pg_drop_replication_slot, `streamer setup`, and this command",
	})
	return nil
}
