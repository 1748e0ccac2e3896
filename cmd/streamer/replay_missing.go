package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/alecthomas/kong"

	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/internal/verify"
	"github.com/outboxstream/streamer/replication"
)

// absence is what a comparison of the table with Kafka has found.
type absence struct {
	ids    map[string]struct{}
	topics map[string]int64 // where they belong, and how many
	counts verify.Counts
	notes  []string
}

// missing compares the table with Kafka, and publishes the rows that are not
// there. Those that a running streamer has not come to yet are not missing.
func (r *replay) missing(ctx context.Context) error {
	if strings.TrimPrefix(r.From, "beginning")+r.To != "" && r.timeColumn() == "" {
		return failure.Misconfigure(errors.New("--from and --to take a column that says when a row was written: name it with --time-column"))
	}
	found, err := r.compare(ctx)
	if err != nil {
		return err
	}
	for _, note := range found.remarks(r.timeColumn() != "", len(r.FormerSlot) > 0) {
		fmt.Fprintln(r.std.Err, "streamer:", note)
	}
	if len(found.ids) == 0 || !r.Yes {
		err := r.report(replayResult{DryRun: len(found.ids) > 0, FromTable: true, Events: int64(len(found.ids)), Topics: found.topics})
		if len(found.ids) > 0 && !r.DryRun {
			err = errors.Join(err, failure.Refuse(errors.New("nothing was published: add --yes to do it")))
		}
		return err
	}
	q := replication.OutboxQuery{
		OrderBy: cmp.Or(r.OrderBy, r.timeColumn()), TimeColumn: r.timeColumn(),
		IDColumn: r.cfg.Outbox.Columns.ID, IDs: slices.Collect(maps.Keys(found.ids)),
	}
	q.AsWritten = q.OrderBy == ""
	return r.fromTable(ctx, q, found.ids)
}

// remarks are what has to be known before anything is published.
func (a absence) remarks(dated, former bool) []string {
	remarks := a.notes
	if left := a.counts.Expired + a.counts.Undated; left > 0 {
		remark := counted(left, "row") + " without a record left out: Kafka may have deleted it, as it has others of that time"
		if !dated {
			remark += ", or not: name the column that tells when a row was written with --time-column"
		}
		remarks = append(remarks, remark)
	}
	if a.counts.Foreign > 0 && len(a.ids) > 0 && !former {
		remarks = append(remarks, counted(a.counts.Foreign, "record")+" in these topics are of other streams: if this table was published through another slot before, name that with --former-slot, or its rows are published again")
	}
	return remarks
}

// compare does what `streamer verify` does. --from and --to are those of verify.
func (r *replay) compare(ctx context.Context) (found absence, err error) {
	v := &verification{cfg: r.cfg, std: r.std, progress: newProgress(r.std)}
	defer v.close()
	if err := kong.ApplyDefaults(&v.command); err != nil {
		return found, err
	}
	v.command.Limit = 0 // all
	v.command.From, v.command.To, v.command.TimeColumn = strings.TrimPrefix(r.From, "beginning"), r.To, r.timeColumn()
	v.command.FormerSlot = r.FormerSlot
	if v.span, err = v.command.span(time.Now()); err != nil {
		return found, failure.Misconfigure(err)
	}
	found.ids, found.topics = map[string]struct{}{}, map[string]int64{}
	v.found = func(f verify.Finding) error {
		if f.Kind == verify.Missing {
			found.ids[f.EventID] = struct{}{}
			found.topics[f.Topic]++
		}
		return nil
	}
	if found.counts, err = v.run(ctx); err != nil {
		return found, fmt.Errorf("look for what is missing: %w", err)
	}
	found.notes = v.notes
	return found, nil
}
