package pipeline

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/outboxstream/streamer/checkpoint"
	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/internal/mutation"
	"github.com/outboxstream/streamer/internal/wait"
	"github.com/outboxstream/streamer/replication"
)

const (
	lockPoll      = 500 * time.Millisecond // how often a standby tries the lock
	answerTimeout = 10 * time.Second       // for questions to the server
	pingEvery     = 3 * time.Second
	tableEvery    = 5 * time.Second
	pingTimeout   = 5 * time.Second
)

// tenure is the time for which this instance holds the lock, on one SQL
// connection. It first makes sure that server, publication, slot and checkpoint
// belong together. Then it runs sessions until something ends it.
type tenure struct {
	ground
	pipeline *Pipeline // whose flow may outlive it
	control  database
	source   replication.Config
	server   replication.Server
	tables   []replication.Table
	seen     []replication.Table // by the watching goroutine, when it last looked
	// inspected is the end of the WAL when the table was last found to be
	// correctly published.
	inspected replication.LSN
	timeline  int32             // of the checkpoint taken over; 0 without one
	order     replication.Order // of a snapshot
	unsaid    bool              // it is the first start, and sayUnpublished is due
}

// tenure holds the lock and streams, session after session, until something
// ends it. streamed reports whether a stream was ever opened.
func (p *Pipeline) tenure(ctx context.Context) (streamed bool, err error) {
	control, source, err := p.connect(ctx)
	if err != nil {
		return false, err
	}
	defer control.Close()
	t := &tenure{ground: p.ground, pipeline: p, control: control, source: source}
	streamed, err = t.serve(ctx)
	return streamed, t.nameTimelines(ctx, err)
}

func (t *tenure) serve(ctx context.Context) (streamed bool, err error) {
	if err := t.purpose.lock(ctx, t); err != nil {
		return false, err
	}
	if err := t.check(ctx); err != nil {
		return false, err
	}
	start, err := t.prepare(ctx)
	if err != nil {
		return false, err
	}
	for {
		session, err := t.stream(ctx, start)
		if session == nil {
			return streamed, err
		}
		streamed = true
		switch {
		case errors.Is(err, errBlocked):
			if err := t.unblock(ctx); err != nil {
				return streamed, err
			}
			start, err = t.resume(ctx)
		case errors.Is(err, errSwitch):
			start, err = session.confirmer.read, nil
		case t.pipeline.noCatchUp(err):
			start, err = t.resume(ctx)
		}
		if err != nil {
			return streamed, err
		}
	}
}

// stream opens a reader and runs a session on it. The session is nil only if
// the reader could not be opened.
func (t *tenure) stream(ctx context.Context, start replication.LSN) (*session, error) {
	r, start, err := t.open(ctx, start)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	t.log.Info(
		"streaming", "reader", readerName(r), "slot", t.source.Slot, "publication", t.source.Publication,
		"lsn", start.String(), "system", t.server.SystemID, "timeline", t.server.Timeline,
	)
	t.config.Metrics.CatchingUp(readerName(r) == string(ReadCatchUp))
	s := newSession(t, r, start)
	return s, t.watched(ctx, s)
}

// unblock holds the lock and waits until the broker accepts events again.
func (t *tenure) unblock(ctx context.Context) error {
	flow := t.pipeline.flow
	t.log.Warn(
		"broker does not acknowledge, replication connection closed until it does",
		"waiting_for", flow.waiting(), "in_flight_bytes", flow.producer.InFlight(),
	)
	ticker := time.NewTicker(pingEvery)
	defer ticker.Stop()
	for {
		if err := flow.collect(); err != nil {
			return err
		}
		if err := flow.saver.ended(); err != nil {
			return err
		}
		if flow.producer.Accepts() {
			t.log.Info("broker acknowledges again")
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-flow.notified:
		case <-ticker.C:
			if err := t.glance(ctx); err != nil && ctx.Err() == nil {
				return err
			}
		}
	}
}

// glance makes sure that the lock is still held, and reports what becomes of the
// slot while nobody reads it. What is wrong with the slot matters once it is to
// be read again.
func (t *tenure) glance(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	if err := t.control.Ping(ctx); err != nil {
		return err
	}
	if slot, err := t.control.Slot(ctx); err == nil {
		t.config.Metrics.Slot(slot)
	}
	return nil
}

// lock takes the instance lock, or stands by until it is free.
func (t *tenure) lock(ctx context.Context) error {
	ticker := time.NewTicker(lockPoll)
	defer ticker.Stop()
	const lookEvery = int(pingEvery / lockPoll)
	for attempt := 0; ; attempt++ {
		locked, err := t.control.TryLock(ctx)
		if err != nil || locked {
			return err
		}
		t.standBy("another instance holds the lock of slot " + t.source.Slot)
		if attempt == 1 { // a predecessor that is just ending is not waited for
			_ = t.control.StandBy(ctx) // only shows; whether the connection works, the next attempt tells
		}
		if attempt%lookEvery == 0 {
			t.lookForHolders(ctx)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-ticker.C:
		}
	}
}

// lockSoon takes the lock, and retries briefly: a server needs a moment to
// notice that a streamer has just stopped.
func (t *tenure) lockSoon(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, 4*lockPoll, failure.Refuse(
		fmt.Errorf("a streamer holds the lock of slot %q: stop it first", t.source.Slot)))
	defer cancel()
	err := t.lock(ctx)
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// standBy logs once what the instance is waiting for.
func (t *tenure) standBy(reason string) {
	if t.state.now().Phase != Standby {
		t.log.Info("standing by", "reason", reason)
	}
	t.lag.forget()
	t.state.set(Standby, reason)
}

// check makes sure that server, publication and table are what the streamer
// needs.
func (t *tenure) check(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	var err error
	if t.server, err = t.control.Identify(ctx); err != nil {
		return err
	}
	t.pipeline.server = t.server
	if t.tables, err = t.control.DescribeTables(ctx); err != nil {
		return err
	}
	t.inspected, t.seen = t.server.Flushed, t.tables
	findings := slices.Concat(
		replication.CheckServer(t.server, t.source), replication.CheckPublication(t.server, t.source),
		replication.CheckTables(t.tables, t.source),
	)
	for _, f := range findings {
		if !f.Fatal {
			t.log.Warn("server setup could be improved", "problem", f.Problem, "remedy", f.Remedy)
		}
	}
	return replication.Refusal(findings)
}

// prepare prepares producer and checkpoint, in the order that keeps two
// instances apart, and returns the LSN to start from.
func (t *tenure) prepare(ctx context.Context) (replication.LSN, error) {
	slot, err := t.slot(ctx)
	if err != nil {
		return 0, err
	}
	if t.continues() {
		flow := t.pipeline.flow
		stored, err := flow.load(ctx, t.control.Ping, Identity(t.server, slot.Name))
		if err != nil && !errors.Is(err, checkpoint.ErrNone) {
			return 0, err
		}
		if saved := flow.saver.lastSaved(); err == nil && saved.follows(stored) && stored.LSN <= slot.Flushed {
			t.noteTimeline(saved)
			if err := flow.moveTo(ctx, t.history(flow.history.number)); err != nil {
				return 0, err
			}
			return flow.resume(slot), t.usable(ctx, slot, flow.saver.lastKnown())
		}
	}
	return t.startOver(ctx, slot)
}

// continues reports whether the flow can continue here because it belongs to
// this server's history.
func (t *tenure) continues() bool {
	flow := t.pipeline.flow
	if flow == nil || flow.failed() || flow.outdated {
		return false
	}
	if mutation.Active(mutation.OutliveHistory) || mutation.Active(mutation.KeepTimeline) {
		return true
	}
	return flow.history.goesOn(t.history(flow.history.number))
}

// history is the history that this server is in.
func (t *tenure) history(number int) history { return historyOf(t.server, t.source.Slot, number) }

// replayed returns a transient error while a restarted standby has not replayed
// WAL up to lsn. The standby still has what it received, but does not show it
// yet.
func replayed(slot replication.Slot, lsn replication.LSN) error {
	if !slot.InStandby || lsn <= slot.Flushed {
		return nil
	}
	return fmt.Errorf("standby has replayed WAL up to %s, but not yet up to %s", slot.Flushed, lsn)
}

// resume continues from the checkpoint on the same connection.
func (t *tenure) resume(ctx context.Context) (replication.LSN, error) {
	slot, err := t.slot(ctx)
	if err != nil {
		return 0, err
	}
	return t.pipeline.flow.resume(slot), nil
}

// usable returns an error unless the stream can continue from a checkpoint.
func (t *tenure) usable(ctx context.Context, slot replication.Slot, r resumePoint) error {
	t.tables = replication.After(r.Publication, t.tables)
	if _, err := t.sameHistory(ctx, slot, r); err != nil {
		return err
	}
	if err := replayed(slot, r.LSN); err != nil {
		return err
	}
	if until := t.config.Until; until != 0 && r.LSN > until {
		return failure.Refuse(fmt.Errorf(
			"the checkpoint %s is after --until %s: what was committed between the two is published, and a streamer that begins at %s repeats it",
			r.LSN, until, until,
		))
	}
	if err := replication.Refusal(replication.CheckPosition(r.LSN, slot)); err != nil {
		return err
	}
	err := replication.Refusal(t.control.gap(r.Publication, t.tables))
	if err != nil { // the stream continued while the table was out of the publication
		err = &locatedError{err, fmt.Sprintf(
			"rows committed while it was out are in question, also below the checkpoint: to continue from there, "+
				"run `streamer checkpoint set %s --yes`",
			r.LSN,
		)}
	}
	return err
}

// startOver gets a new producer and, with it, the stored checkpoint.
func (t *tenure) startOver(ctx context.Context, slot replication.Slot) (replication.LSN, error) {
	p := t.pipeline
	p.retire()
	id := Identity(t.server, slot.Name)
	h, err := wait.TalkWhile(
		ctx, pingEvery, t.control.Ping,
		func(ctx context.Context) (*holding, error) { return p.takeOver(ctx, id, false) }, (*holding).close,
	)
	if err != nil {
		return 0, err
	}
	if slot, err = t.slot(ctx); err != nil { // a predecessor may have moved it until now
		h.close()
		return 0, err
	}
	t.timeline = h.stored.Timeline
	r, err := t.resumePoint(ctx, h, slot)
	if err != nil {
		h.close()
		return 0, err
	}
	in := t.history(r.History)
	left := p.left
	if left != nil && (!left.history.goesOn(in) || !left.saved.follows(h.stored)) {
		left, p.condemned = nil, nil // positions mean something else now
	}
	if left != nil {
		r.point = left.saved.point
	}
	if !h.found {
		r.Timeline, r.Started = t.server.Timeline, t.server.Started
	}
	t.noteTimeline(r)
	r.Disputed = false // until it is refused again
	r.Publication = t.control.membership(t.tables)
	flow, err := wait.TalkWhile(
		ctx, pingEvery, t.control.Ping,
		func(ctx context.Context) (*flow, error) { return p.begin(ctx, h, in, r, left) }, (*flow).close,
	)
	if err != nil {
		return 0, err
	}
	p.flow, p.left = flow, nil
	if r.Snapshot.Pending() {
		if err := t.snapshot(ctx, slot); err != nil {
			return 0, err
		}
		return t.startOver(ctx, slot)
	}
	return flow.resume(slot), nil
}

// resumePoint returns where to continue with what was taken over.
func (t *tenure) resumePoint(ctx context.Context, h *holding, slot replication.Slot) (resumePoint, error) {
	if h.found = h.found && t.purpose.owns(h.stored); !h.found {
		r := checkpoint.Record{Identity: Identity(t.server, slot.Name), LSN: slot.Confirmed}
		if err := t.purpose.begin(ctx, t, h, slot, &r); err != nil {
			return resumePoint{}, err
		}
		t.log.Info("first start of this slot", "slot", slot.Name, "lsn", slot.Confirmed.String())
		first := resumeAt(r)
		first.order = t.order
		return first, nil
	}
	t.lag.published(h.stored.SavedAt, false)
	r := resumeAt(h.stored)
	trusted, err := t.sameHistory(ctx, slot, r)
	if err != nil {
		return r, err
	}
	if r.Exact && slot.Confirmed < r.LSN && (trusted || r.LSN <= slot.Flushed) && !r.publishedBeyond(slot.Flushed) {
		// Only rows that reappear count as published: the LSN may belong to a history
		// that this server does not have.
		if r.LSN > slot.Flushed {
			t.log.Warn(
				"WAL of this server ends before the checkpoint, but nothing was published from the WAL that it lacks",
				"checkpoint", r.LSN.String(), "wal_end", slot.Flushed.String(), "lsn", slot.Confirmed.String(),
			)
			r.LSN = slot.Confirmed
		}
		r.low = slot.Confirmed
	}
	if err := t.usable(ctx, slot, r); err != nil {
		return r, err
	}
	if err := t.furtherSnapshot(ctx, slot, &r); err != nil {
		return r, err
	}
	return r, t.fits(ctx, r.LSN, false)
}

// succeeds makes sure that a new slot fits the slots of another number of
// shards. It also makes sure that the slot was not read under another name of
// its database.
func (t *tenure) succeeds(ctx context.Context, store checkpoint.Store, slot replication.Slot) error {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	if err := CheckRenamed(ctx, t.control, store, Identity(t.server, slot.Name)); err != nil {
		return err
	}
	return t.fits(ctx, slot.Confirmed, true)
}

// fits makes sure that the slots of another number of shards are where they
// must be for a slot that continues from an LSN.
func (t *tenure) fits(ctx context.Context, from replication.LSN, first bool) error {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	found, err := t.control.CheckFormerSlots(ctx, replication.Succession{From: from, First: first, Until: t.config.Until})
	if err != nil {
		return err
	}
	return replication.Refusal(found)
}

// errStandby means that the server is still a standby, on which the slot cannot
// be read. Waiting for its promotion helps.
var errStandby = errors.New("server is a standby, where the slot cannot be read before it is promoted")

// slot reads and checks the slot.
func (t *tenure) slot(ctx context.Context) (replication.Slot, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	slot, err := t.control.Slot(ctx)
	if t.server.InStandby && (errors.Is(err, replication.ErrSlotMissing) || slot.Synced) {
		return slot, failure.Retry(failure.Advise(
			fmt.Errorf("%w: slot %q", errStandby, t.source.Slot),
			"if the server stays a standby, name the primary in postgres.dsn, or add target_session_attrs=read-write",
		))
	}
	if err != nil {
		return slot, err
	}
	return slot, replication.Refusal(replication.CheckSlot(slot, t.server))
}

// noteTimeline logs that the server is on another timeline than the checkpoint.
func (t *tenure) noteTimeline(r resumePoint) {
	if r.Timeline != t.server.Timeline {
		t.log.Warn("server has changed its timeline", "timeline_before", r.Timeline, "timeline", t.server.Timeline, "lsn", r.LSN.String())
	}
}

// nameTimelines adds to a refusal that the server is on another timeline than
// the checkpoint, because that is the most likely cause.
func (t *tenure) nameTimelines(ctx context.Context, err error) error {
	if failure.ClassOf(err) != failure.Refused || t.timeline == 0 || t.timeline == t.server.Timeline || !aboutHistory(err) {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	where := fmt.Sprintf(
		"the server is on timeline %d, which does not descend from timeline %d, where the checkpoint was made",
		t.server.Timeline, t.timeline,
	)
	if at, known, askErr := t.control.SwitchPoint(ctx, t.server, t.timeline); askErr == nil && known {
		where = fmt.Sprintf(
			"the server is on timeline %d, which left timeline %d, where the checkpoint was made, at %s",
			t.server.Timeline, t.timeline, at,
		)
	}
	return &locatedError{err, where}
}

// sameHistory compares timelines where reading will not show whether a promoted
// server has everything. Then only the position can show it. trusted reports
// whether reading will show it.
func (t *tenure) sameHistory(ctx context.Context, slot replication.Slot, r resumePoint) (trusted bool, err error) {
	if r.provable(slot) && !mutation.Active(mutation.KeepTimeline) {
		return true, nil
	}
	if historyIn(r.Record).goesOn(t.history(r.History)) {
		return false, nil
	}
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	at, known, err := t.control.SwitchPoint(ctx, t.server, r.Timeline)
	switch {
	case err != nil:
		return false, err
	case !known:
		return false, failure.Refuse(failure.Advise(
			fmt.Errorf(
				"the server is on timeline %d, which does not descend from timeline %d, where the checkpoint %s was made: "+
					"this server may lack what was published there",
				t.server.Timeline, r.Timeline, r.LSN,
			),
			"compare the outbox table with Kafka, then decide with `streamer checkpoint set`",
		))
	case r.Exact && slot.Confirmed <= at && !mutation.Active(mutation.KeepTimeline):
		return true, nil // a slot that begins in the common part of both timelines is the streamer's own
	case r.LSN > at:
		return false, failure.Refuse(failure.Advise(
			fmt.Errorf(
				"the server is on timeline %d, which left timeline %d at %s, but the checkpoint of timeline %d is %s: what "+
					"was published between the two does not exist on this server",
				t.server.Timeline, r.Timeline, at, r.Timeline, r.LSN,
			),
			"compare the outbox table with Kafka, then decide with `streamer checkpoint set`",
		))
	}
	return false, nil
}
