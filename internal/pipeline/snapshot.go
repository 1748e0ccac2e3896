package pipeline

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"runtime/debug"
	"time"

	"github.com/outboxstream/streamer/checkpoint"
	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/replication"
	"github.com/outboxstream/streamer/router"
)

// Snapshot says what becomes of the rows that were in the outbox table before
// the slot began. Without Initial they are not published. With it, the first
// start of a slot publishes them before the stream.
type Snapshot struct {
	Initial bool
	Query   replication.SnapshotQuery
	Rate    int // events per second, 0 for no limit
}

// oldRows reads the rows of the table that the slot does not deliver: a
// *replication.Snapshot.
type oldRows interface {
	Settle(ctx context.Context, waiting func(string)) error
	Estimate(ctx context.Context, after, last replication.Key) (int64, error)
	Highest(ctx context.Context) (replication.Key, bool, error)
	Open(ctx context.Context) error
	Streamed(ctx context.Context, visit func([]byte) error, each func() error) error
	Restart()
	Ask(after, last replication.Key, limit int) error
	Next() (row [][]byte, done bool, err error)
	Types() []uint32
	Wait(until time.Time) error
	Wake()
	Flowing() bool
	Done(ctx context.Context) error
	Close()
}

// snapshotRemedy is how to go on without the rest of the table.
const snapshotRemedy = "or continue without the rest of the table with `streamer checkpoint set slot --yes`, " +
	"and publish what is missing with `streamer replay --missing` (docs/how-to/first-start.md)"

// firstSnapshot decides what becomes of the rows from before the slot, at the
// first start of the slot. It completes the first checkpoint.
func (t *tenure) firstSnapshot(ctx context.Context, h *holding, slot replication.Slot, first *checkpoint.Record) error {
	if !t.config.Snapshot.Initial {
		t.unsaid = true
		return nil
	}
	if others, err := t.control.OtherShards(ctx); err != nil || len(others) > 0 {
		if err == nil {
			t.log.Info("no snapshot, because slots of another number of shards exist", "slots", others)
		}
		return err
	}
	if _, epoch := h.owner.ID(); h.owner.Fences() && epoch > 0 && slot.Decoded > 0 {
		return failure.Refuse(failure.Advise(
			fmt.Errorf(
				"no checkpoint is stored although slot %q was streamed before: a snapshot would publish the whole table again",
				slot.Name,
			),
			"restore the checkpoint, or continue where the slot begins with `streamer checkpoint set slot --yes`",
		))
	}
	if err := t.planSnapshot(ctx, slot, first.LSN); err != nil {
		return err
	}
	first.Snapshot = &checkpoint.Snapshot{
		Table: t.source.Outboxes[0].Table, Begun: time.Now().UTC().Truncate(time.Second), Key: snapshotKey(t.order, t.config.Snapshot.Query),
	}
	t.log.Info("snapshot begins: rows from before the slot are published first", "table", first.Snapshot.Table,
		"key", first.Snapshot.Key, "slot", slot.Name, "lsn", first.LSN.String())
	return nil
}

// furtherSnapshot makes sure that a snapshot can go on as it began.
func (t *tenure) furtherSnapshot(ctx context.Context, slot replication.Slot, r *resumePoint) error {
	s := r.Snapshot
	if s == nil && t.config.Snapshot.Initial && t.config.Replay == nil {
		t.log.Info("no snapshot, because this slot was streamed before snapshot.mode was set to initial", "slot", slot.Name)
	}
	if !s.Pending() {
		return nil
	}
	refuse := func(remedy, format string, arguments ...any) error {
		return failure.Refuse(failure.Advise(
			fmt.Errorf("the snapshot of table %s is not finished, but %s", s.Table, fmt.Sprintf(format, arguments...)),
			"%s, %s", remedy, snapshotRemedy,
		))
	}
	if !t.config.Snapshot.Initial {
		return refuse("set snapshot.mode to initial", "snapshot.mode is none")
	}
	if s.Table != t.source.Outboxes[0].Table {
		return refuse("set outbox.table to "+s.Table, "outbox.table is %s", t.source.Outboxes[0].Table)
	}
	if r.Routing != t.config.Rules.Fingerprint() {
		return refuse("undo the change", "topics, keys or partitions are chosen in another way than when it began")
	}
	if err := t.planSnapshot(ctx, slot, r.LSN); err != nil {
		return err
	}
	if key := snapshotKey(t.order, t.config.Snapshot.Query); s.Key != key {
		return refuse("undo the change", "its rows are selected or ordered in another way: by %q, not by %q", key, s.Key)
	}
	r.order = t.order
	t.log.Info("snapshot continues", "table", s.Table, "rows", s.Rows, "expected", s.Expected)
	return nil
}

// snapshotKey describes which rows are published in which order.
func snapshotKey(o replication.Order, q replication.SnapshotQuery) string {
	if q.Where == "" {
		return o.String()
	}
	return o.String() + " where " + q.Where
}

// planSnapshot makes sure that the table can be read as configured.
func (t *tenure) planSnapshot(ctx context.Context, slot replication.Slot, from replication.LSN) error {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	if err := replication.Refusal(replication.CheckSnapshot(t.server, slot, from)); err != nil {
		return err
	}
	order, found, err := t.control.PlanSnapshot(ctx, t.tables[0], t.config.Snapshot.Query)
	if err == nil {
		err = replication.Refusal(found)
	}
	t.order = order
	return err
}

// countingPatience is after which time no further table is counted. There may be
// one for each tenant, and each may be locked.
const countingPatience = 3 * time.Second

// sayUnpublished logs, once, how many rows will not be published. It is no reason
// to fail if they cannot be counted, and no event waits for it. It is not
// interrupted, because that would end the session that holds the lock.
func (t *tenure) sayUnpublished(ctx context.Context) {
	if !t.unsaid {
		return
	}
	t.unsaid = false
	ctx = context.WithoutCancel(ctx)
	ctx, cancel := context.WithTimeout(ctx, 3*answerTimeout) // the server's own limits are below that
	defer cancel()
	began := time.Now()
	for i, table := range t.tables {
		if time.Since(began) > countingPatience { // a session that times out would lose the lock
			t.log.Info("not counted: rows that were committed before the slot began", "tables", len(t.tables)-i,
				"fix", "see `streamer doctor`")
			return
		}
		if !table.Exists {
			continue
		}
		count, err := t.control.CountRows(ctx, table, replication.SnapshotQuery{})
		if err != nil || count.Rows == 0 {
			continue
		}
		level := slog.LevelInfo // as after a setup that was followed by inserts
		if t.control.SurelyOld(ctx, table) {
			level = slog.LevelWarn
		}
		t.log.Log(
			ctx, level, "rows that were committed before the slot began are not published (snapshot.mode is none)",
			"table", table.Outbox.Table, "rows_in_table", count.Rows, "estimated", !count.Exact, "fix", "see docs/how-to/first-start.md",
		)
	}
}

// snapshot publishes the rows from before the slot, and returns when all of them
// are acknowledged and that is stored.
func (t *tenure) snapshot(ctx context.Context, slot replication.Slot) error {
	flow := t.pipeline.flow
	defer t.pipeline.discard()
	working, abort := context.WithCancelCause(ctx)
	defer abort(nil)
	stop := t.watchSnapshot(working, abort)
	defer stop()
	timed, cancel := context.WithTimeout(working, 2*t.source.ConnectTimeout)
	source, err := t.pipeline.servers.oldRows(timed, t.source, t.server, t.tables[0], t.config.Snapshot.Query, t.order, slot.Confirmed)
	cancel()
	if err != nil {
		return err
	}
	defer source.Close()
	s, err := newSnapshotting(t, flow, source)
	if err != nil {
		return err
	}
	defer s.alarm.Stop()
	wake := source.Wake
	flow.wake.Store(&wake)
	defer flow.wake.Store(nil)
	defer context.AfterFunc(working, s.nudge)()
	t.state.set(Snapshotting, "")
	defer frugal(int64(t.config.Producer.MaxInFlightBytes / 2))()
	err = s.run(working)
	if err != nil && working.Err() != nil {
		err = context.Cause(working)
	}
	t.pipeline.progressed = t.pipeline.progressed || s.saved
	return s.leave(ctx, err)
}

// frugal lowers the limit of the garbage collector, if there is one, by what the
// producer of a snapshot leaves. It returns what restores the limit.
func frugal(bytes int64) (restore func()) {
	limit := debug.SetMemoryLimit(-1)
	if limit == math.MaxInt64 {
		return func() {}
	}
	debug.SetMemoryLimit(limit - bytes)
	return func() { debug.SetMemoryLimit(limit) }
}

// watchSnapshot notices when the lock is lost or the table leaves the
// publication.
func (t *tenure) watchSnapshot(ctx context.Context, abort context.CancelCauseFunc) (stop func()) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	observer := t.control.observe(t.tables)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := t.watch(ctx, observer, func(replication.Slot) {}); err != nil {
			abort(err)
		}
	}()
	return func() {
		cancel()
		<-done
		observer.Close()
		t.tables = observer.Tables()
	}
}

// leave saves what was acknowledged, so that it need not be read again. Only err
// counts, unless everything went well but the end.
func (s *snapshotting) leave(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	stopping := ctx.Err() != nil
	deadline := time.Now().Add(failedDrain)
	if stopping {
		s.state.set(Draining, "stopping")
		s.log.Info("stopping", "in_flight_events", s.flow.producer.Events())
		deadline = s.asked().Add(s.config.DrainTimeout)
	}
	settled := s.flow.settle(deadline, func() {})
	if stored := s.store(deadline.Add(saveGrace)); stored != nil && settled == nil {
		settled = stored
	}
	if drain, ok := errors.AsType[*DrainError](settled); ok && stopping {
		return drain
	}
	return err
}

// store saves the cursor, and waits until it is stored.
func (s *snapshotting) store(deadline time.Time) error {
	s.save()
	for s.flow.saver.busy() {
		if err := s.flow.saver.failed(); !time.Now().Before(deadline) || hopeless(err) {
			return &DrainError{Events: s.flow.producer.Events(), Cause: s.flow.saver.problem().Error()}
		}
		s.flow.await(deadline)
	}
	return nil
}

// finish waits until everything is acknowledged, and stores that the table is
// done. The stream begins where the slot does, as at any first start.
func (s *snapshotting) finish(ctx context.Context) error {
	s.flow.producer.Seal()
	for !s.flow.tracker.Idle() {
		s.flow.await(time.Now().Add(pollInterval))
		if err := s.collect(); err != nil {
			return err
		}
		if err := s.tick(ctx); err != nil {
			return err
		}
	}
	done := s.now()
	done.Finished = time.Now().UTC()
	topics := s.flow.marks(s.from)
	err := s.flow.saver.amend(ctx, func(r *checkpoint.Record) { r.Snapshot, r.Topics = &done, topics })
	if err != nil {
		return err
	}
	s.config.Metrics.Snapshot(done.Rows, done.Rows)
	s.log.Info("snapshot finished: the stream begins", "table", done.Table, "rows", done.Rows,
		"took", done.Finished.Sub(done.Begun).Round(time.Second).String(), "lsn", s.from.String())
	return nil
}

// checkOldLandmark makes sure that what is in Kafka belongs to this snapshot.
func checkOldLandmark(l router.Landmark, below replication.LSN) error {
	if l.Position.Commit == below && l.Key != "" {
		return nil
	}
	return failure.Refuse(failure.Advise(
		fmt.Errorf("%w: the snapshot is not finished according to the checkpoint, but topic %q holds event %q of the stream after it",
			router.ErrOtherHistory, l.Topic, l.EventID),
		"restore the newest checkpoint, %s", snapshotRemedy))
}
