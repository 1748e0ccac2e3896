package replay

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/outboxstream/streamer/cmd/streamer/internal/console"
	"github.com/outboxstream/streamer/cmd/streamer/internal/site"
	"github.com/outboxstream/streamer/internal/config"
	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/internal/wait"
	"github.com/outboxstream/streamer/replication"
)

// settlePatience is how long the stream may take to publish what is in the
// table when a replay of the table begins.
const settlePatience = time.Minute

// tables publishes whole tables, or their missing rows, one after the other. Two
// such replays at the same time would publish everything twice.
func (r *replay) tables(ctx context.Context) error {
	if len(site.WithTables(r.cfg)) == 0 {
		return failure.Misconfigure(failure.Advise(
			errors.New("there is no table to read: all events are messages (outbox.messages)"),
			"replay them from the WAL, as far as rewind.keep reaches: leave out --from-table and --missing",
		))
	}
	if _, err := r.chosen(r.configured()); err != nil {
		return err // without asking a server
	}
	control, _, err := site.ConnectPostgres(ctx, r.cfg)
	if err != nil {
		return err
	}
	defer control.Close()
	if err := r.lock(ctx, control); err != nil {
		return err
	}
	tables, err := control.DescribeTables(ctx)
	if err != nil {
		return err
	}
	var published []replication.Outbox
	for _, t := range tables {
		if t.Published || t.Outbox.Pattern == "" {
			published = append(published, t.Outbox)
		}
	}
	chosen, err := r.chosen(published)
	if err != nil {
		return err
	}
	for _, one := range chosen {
		if r.Missing {
			err = one.missing(ctx)
		} else {
			err = one.fromTable(ctx, one.query, nil)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// configured are the tables, and patterns of tables, of the configuration.
func (r *replay) configured() []replication.Outbox {
	var tables []replication.Outbox
	for i, o := range site.ReplicationConfig(r.cfg).Outboxes {
		if o.Entry = i; o.Messages == "" {
			tables = append(tables, o)
		}
	}
	return tables
}

// tableReplay is a replay of one table.
type tableReplay struct {
	*replay
	outbox config.Outbox
	query  replication.OutboxQuery
}

// chosen returns a replay of each table that --table leaves. A pattern, which
// only stands for tables, leaves none.
func (r *replay) chosen(tables []replication.Outbox) (chosen []*tableReplay, err error) {
	var known []string
	found := r.Table == ""
	for _, table := range tables {
		one := *r
		one.cfg = r.cfg.Only(table.Entry)
		if len(one.cfg.Outboxes) > 0 {
			one.cfg.Outboxes[0].Table = table.Table
		}
		t := &tableReplay{replay: &one, outbox: one.cfg.Tables()[0]}
		known = append(known, table.Table)
		found = found || t.outbox.IsPattern()
		if r.Table != "" && r.Table != table.Table {
			continue
		}
		found = true
		if !r.Missing {
			if t.query, err = t.tableQuery(); err != nil {
				return nil, err
			}
		}
		chosen = append(chosen, t)
	}
	if !found {
		return nil, failure.Misconfigure(failure.Advise(
			fmt.Errorf("--table: %s is not an outbox table of this configuration", r.Table), "name one of "+strings.Join(known, ", "),
		))
	}
	return chosen, nil
}

// lock keeps other replays out as long as the connection lives. A server may
// take a moment to notice that the previous replay has ended.
func (r *replay) lock(ctx context.Context, control *replication.Control) error {
	own := control.Of(replication.ReplaySlot(r.cfg.Postgres.Slot))
	alone, err := wait.Until(ctx, leavePatience, leavePoll, func() (bool, error) { return own.TryLock(ctx) })
	if err == nil && !alone {
		err = failure.Refuse(failure.Advise(errors.New("another replay is running"), "wait until the other replay has ended"))
	}
	return err
}

// fromTable publishes what the outbox table still holds. If ids is not nil,
// only these rows are published.
func (r *tableReplay) fromTable(ctx context.Context, q replication.OutboxQuery, ids map[string]struct{}) error {
	if err := r.look(ctx); err != nil {
		return err
	}
	defer r.control.Close()
	plan, err := r.filters(time.Now())
	if err != nil {
		return err
	}
	plan.IDs = ids
	plan.Since, plan.Before = time.Time{}, time.Time{} // the server selects by time
	site.LimitMemory(r.cfg, replayMemoryLimit)
	progress := newReplayProgress(plan, r.std)
	p, err := r.pipeline(plan, progress.metrics)
	if err != nil {
		return err
	}
	stop := progress.show()
	err = p.ReplayTable(ctx, q, func(ctx context.Context, lsn replication.LSN) error {
		err := r.settled(ctx, lsn)
		if err == nil {
			fmt.Fprintf(r.std.Err, "streamer: replay %s of table %s begins%s\n", plan.ID, r.outbox.Table, r.pace())
		}
		return err
	})
	stop()
	if err != nil {
		return fmt.Errorf("%w: replay %s was interrupted after %d events", err, plan.ID, progress.metrics.events.Load())
	}
	result := progress.result()
	result.From, result.Until, result.FromTable = "", "", true
	return r.report(result)
}

// timeColumn returns the column that says when a row was written. If no other
// is known, that is the column to sort by, to which --from and --to then apply.
func (r *tableReplay) timeColumn() string {
	at := cmp.Or(r.TimeColumn, r.outbox.CleanupColumn())
	if r.From+r.To != "" {
		at = cmp.Or(at, r.OrderBy)
	}
	return at
}

// tableQuery says which rows to read, in which order. Its times are those of
// the column that says when a row was written.
func (r *tableReplay) tableQuery() (q replication.OutboxQuery, err error) {
	at := r.timeColumn()
	q.OrderBy, q.TimeColumn = cmp.Or(r.OrderBy, at), at
	if q.OrderBy == "" {
		return q, failure.Misconfigure(failure.Advise(
			errors.New("the table does not say in which order its rows were committed"),
			"name a column to sort by with --order-by",
		))
	}
	now := time.Now()
	for _, bound := range []struct {
		flag, text string
		into       *time.Time
	}{{"--from", r.From, &q.From}, {"--to", r.To, &q.To}} {
		position, err := console.ParsePosition(bound.flag, bound.text, now, console.AtTime, console.Beginning)
		switch {
		case err != nil:
			return q, fmt.Errorf("%w: the table does not say at which position a row was committed", err)
		case position.Kind == console.AtTime && at == "":
			return q, failure.Misconfigure(failure.Advise(
				fmt.Errorf("%s needs a column that says when a row was written", bound.flag),
				"name the column with --time-column",
			))
		}
		*bound.into = position.Time
	}
	return q, nil
}

// settled waits until the stream has published everything below a position.
func (r *replay) settled(ctx context.Context, lsn replication.LSN) error {
	said := false
	var unread error // why the checkpoint could not be read most recently
	settled, err := wait.Until(ctx, settlePatience, time.Second, func() (bool, error) {
		record, err := site.LoadCheckpoint(ctx, r.cfg, site.IdentityOf(r.server, r.cfg))
		if unread = err; err == nil && record.LSN >= lsn {
			return true, nil
		}
		if err := r.streams(ctx); err != nil {
			return false, err
		}
		if !said {
			said = true
			fmt.Fprintf(r.std.Err, "streamer: waiting for the stream, which is at %s, to publish everything below %s\n", record.LSN, lsn)
		}
		return false, nil
	})
	if err == nil && !settled {
		late := failure.Advise(
			fmt.Errorf("the stream has not published what the table holds: its checkpoint has not reached %s within %s", lsn, settlePatience),
			"make sure that the streamer runs (`streamer status`)",
		)
		err = failure.Refuse(errors.Join(late, unread))
	}
	return err
}

// streams makes sure that waiting for the stream makes sense.
func (r *replay) streams(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, site.AskTimeout)
	defer cancel()
	slot, err := r.control.Slot(ctx)
	if err == nil {
		err = replication.Refusal(replication.CheckSlot(slot, r.server))
	}
	if err == nil && !slot.InUse() {
		err = failure.Refuse(failure.Advise(
			fmt.Errorf("no streamer uses slot %q: what the table holds has to be published first", slot.Name),
			"start `streamer run`",
		))
	}
	return err
}
