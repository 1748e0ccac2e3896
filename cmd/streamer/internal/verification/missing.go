package verification

import (
	"context"
	"time"

	"github.com/alecthomas/kong"

	"github.com/outboxstream/streamer/cmd/streamer/internal/console"
	"github.com/outboxstream/streamer/internal/config"
	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/internal/verify"
)

// Absence is what a comparison of the table with Kafka has found.
type Absence struct {
	IDs    map[string]struct{}
	Topics map[string]int64 // topics in which records are missing, and how many
	counts verify.Counts
	notes  []string
}

// Missing does what the command does and collects the rows without a record.
// Options that are left open get their defaults. Missing prints progress only.
func Missing(ctx context.Context, cfg config.Config, std console.Streams, command Command) (found Absence, err error) {
	v := &verification{cfg: cfg, std: std, progress: newProgress(std)}
	defer v.close()
	if err := kong.ApplyDefaults(&v.command); err != nil {
		return found, err
	}
	v.command.Limit = 0 // all
	v.command.From, v.command.To, v.command.TimeColumn, v.command.FormerSlot = command.From, command.To, command.TimeColumn, command.FormerSlot
	if v.span, err = v.command.span(time.Now()); err != nil {
		return found, failure.Misconfigure(err)
	}
	found.IDs, found.Topics = map[string]struct{}{}, map[string]int64{}
	v.found = func(f verify.Finding) error {
		if f.Kind == verify.Missing {
			found.IDs[f.EventID] = struct{}{}
			found.Topics[f.Topic]++
		}
		return nil
	}
	if found.counts, err = v.run(ctx); err != nil {
		return found, err
	}
	found.notes = v.notes
	return found, nil
}

// Remarks are what the operator should know before anything is published.
func (a Absence) Remarks(dated, former bool) []string {
	remarks := a.notes
	if left := a.counts.Expired + a.counts.Undated; left > 0 {
		remark := console.Counted(left, "row") + " without a record left out: " +
			"Kafka may have deleted the record, as it has deleted others of that time"
		if !dated {
			remark += "; to find out, name the column that says when a row was written with --time-column"
		}
		remarks = append(remarks, remark)
	}
	if a.counts.Foreign > 0 && len(a.IDs) > 0 && !former {
		remarks = append(remarks, console.Counted(a.counts.Foreign, "record")+" in these topics are of other streams: "+
			"if this table was published through another slot before, "+
			"name that slot with --former-slot, or its rows are published again")
	}
	return remarks
}
