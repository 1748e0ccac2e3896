package main

import (
	"cmp"
	"context"
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

// missing compares the table with Kafka, and publishes the rows that are not
// there. Those that a running streamer has not come to yet are not missing.
func (r *replay) missing(ctx context.Context) error {
	ids, leftOut, err := r.compare(ctx)
	if err != nil {
		return err
	}
	if leftOut > 0 {
		fmt.Fprintf(r.env.stderr, "streamer: %s without a record left out: Kafka may have deleted it, as it has others of that time%s\n", counted(leftOut, "row"), r.undated())
	}
	if r.DryRun || len(ids) == 0 {
		return r.report(replayResult{DryRun: r.DryRun, FromTable: true, Events: int64(len(ids))})
	}
	q := replication.OutboxQuery{
		OrderBy: cmp.Or(r.OrderBy, r.timeColumn()), TimeColumn: r.timeColumn(),
		IDColumn: r.cfg.Outbox.Columns.ID, IDs: slices.Collect(maps.Keys(ids)),
	}
	q.AsWritten = q.OrderBy == ""
	return r.fromTable(ctx, q, ids)
}

// undated is what to do where nothing says of which time rows are.
func (r *replay) undated() string {
	if r.timeColumn() != "" {
		return ""
	}
	return ", or not: name the column that tells when a row was written with --time-column"
}

// compare does what `streamer verify` does, and gives the ids of what is missing,
// and how many rows more may be. --from and --to are those of verify.
func (r *replay) compare(ctx context.Context) (ids map[string]struct{}, leftOut int64, err error) {
	v := &verification{cfg: r.cfg, env: r.env, progress: newProgress(r.env)}
	defer v.close()
	if err := kong.ApplyDefaults(&v.command); err != nil {
		return nil, 0, err
	}
	v.command.Limit = 0 // all
	v.command.From, v.command.To, v.command.TimeColumn = strings.TrimPrefix(r.From, "beginning"), r.To, r.timeColumn()
	if v.span, err = v.command.span(time.Now()); err != nil {
		return nil, 0, failure.Misconfigure(err)
	}
	ids = map[string]struct{}{}
	v.found = func(f verify.Finding) error {
		if f.Kind == verify.Missing {
			ids[f.EventID] = struct{}{}
		}
		return nil
	}
	counts, err := v.run(ctx)
	if err != nil {
		return nil, 0, fmt.Errorf("look for what is missing: %w", err)
	}
	return ids, counts.Expired + counts.Undated, nil
}
