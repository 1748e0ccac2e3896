package replay

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/outboxstream/streamer/cmd/streamer/internal/verification"
	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/replication"
)

// missing compares the table with Kafka and publishes the rows that are not
// there. Rows that a running streamer has not reached yet are not missing.
func (r *tableReplay) missing(ctx context.Context) error {
	if strings.TrimPrefix(r.From, "beginning")+r.To != "" && r.timeColumn() == "" {
		return failure.Misconfigure(failure.Advise(
			errors.New("--from and --to need a column that says when a row was written"),
			"name the column with --time-column",
		))
	}
	found, err := verification.Missing(ctx, r.cfg, r.std, verification.Command{
		From: strings.TrimPrefix(r.From, "beginning"), To: r.To, TimeColumn: r.timeColumn(), FormerSlot: r.FormerSlot,
	})
	if err != nil {
		return fmt.Errorf("find missing rows: %w", err)
	}
	for _, note := range found.Remarks(r.timeColumn() != "", len(r.FormerSlot) > 0) {
		fmt.Fprintln(r.std.Err, "streamer:", note)
	}
	if len(found.IDs) == 0 || !r.Yes {
		err := r.report(replayResult{DryRun: len(found.IDs) > 0, FromTable: true, Events: int64(len(found.IDs)), Topics: found.Topics})
		if len(found.IDs) > 0 && !r.DryRun {
			err = errors.Join(err, failure.Refuse(failure.Advise(errors.New("nothing was published"), "add --yes to publish the rows")))
		}
		return err
	}
	q := replication.OutboxQuery{
		OrderBy: cmp.Or(r.OrderBy, r.timeColumn()), TimeColumn: r.timeColumn(),
		IDColumn: r.outbox.IDColumn(), IDs: slices.Collect(maps.Keys(found.IDs)),
	}
	q.AsWritten = q.OrderBy == ""
	return r.fromTable(ctx, q, found.IDs)
}
