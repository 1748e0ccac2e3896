package pipeline

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/outboxstream/streamer/checkpoint"
	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/replication"
)

const (
	lockPoll    = 500 * time.Millisecond // how often a standby tries
	askTimeout  = 10 * time.Second       // for questions to the server
	pingEvery   = 3 * time.Second
	tableEvery  = 5 * time.Second
	pingTimeout = 5 * time.Second
)

// tenure holds the lock and streams, session after session, until something
// ends it. streamed tells whether a stream was ever opened.
func (p *Pipeline) tenure(ctx context.Context) (streamed bool, err error) {
	control, config, err := p.connect(ctx)
	if err != nil {
		return false, err
	}
	defer control.Close()
	if err := p.lockFor(ctx, control); err != nil {
		return false, err
	}
	server, err := p.check(ctx, control, config)
	if err != nil {
		return false, err
	}
	start, err := p.prepare(ctx, control, server)
	if err != nil {
		return false, err
	}
	for {
		session, err := p.stream(ctx, control, config, server, start)
		if session == nil {
			return streamed, err
		}
		streamed = true
		switch {
		case errors.Is(err, errBlocked):
			if err := p.unblock(ctx, control); err != nil {
				return streamed, err
			}
			start = max(start, p.flow.saver.lastSaved().LSN)
		case errors.Is(err, errSwitch), p.noCatchUp(err):
			start = session.at
		default:
			return streamed, err
		}
	}
}

// stream opens a reader and runs a session on it. Without an error of opening
// there is a session.
func (p *Pipeline) stream(ctx context.Context, control *replication.Control, config replication.Config, server replication.Server, start replication.LSN) (*session, error) {
	r, err := p.open(ctx, control, config, server, start)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	p.log.Info("streaming", "reader", readerName(r), "slot", config.Slot, "publication", config.Publication, "lsn", start.String(), "system", server.SystemID, "timeline", server.Timeline)
	p.config.Metrics.CatchingUp(readerName(r) == string(ReadCatchUp))
	s := newSession(p, r, start)
	return s, p.watched(ctx, control, config, s)
}

// unblock waits, holding the lock, until the broker takes events again.
func (p *Pipeline) unblock(ctx context.Context, control *replication.Control) error {
	p.log.Warn("broker does not acknowledge, replication connection closed until it does", "waiting_for", p.flow.producer.Waiting(), "in_flight_bytes", p.flow.producer.InFlight())
	ticker := time.NewTicker(pingEvery)
	defer ticker.Stop()
	for {
		if err := p.flow.collect(); err != nil {
			return err
		}
		if p.flow.producer.Accepts() {
			p.log.Info("broker acknowledges again")
			return nil
		}
		select {
		case <-ctx.Done():
			return p.flow.stop(time.Now().Add(p.config.DrainTimeout))
		case <-p.flow.notified:
		case <-ticker.C:
			timed, cancel := context.WithTimeout(ctx, pingTimeout)
			err := control.Ping(timed)
			cancel()
			if err != nil && ctx.Err() == nil {
				return err
			}
		}
	}
}

// lockFor takes the instance lock. A second replay does not wait for the first.
func (p *Pipeline) lockFor(ctx context.Context, control *replication.Control) error {
	if p.config.Replay != nil {
		return p.lockSoon(ctx, control)
	}
	return p.lock(ctx, control)
}

// lock takes the instance lock, or stands by until it is free.
func (p *Pipeline) lock(ctx context.Context, control *replication.Control) error {
	ticker := time.NewTicker(lockPoll)
	defer ticker.Stop()
	for {
		locked, err := control.TryLock(ctx)
		if err != nil || locked {
			return err
		}
		p.standBy("another instance holds the lock of slot " + p.config.Replication.Slot)
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-ticker.C:
		}
	}
}

// standBy says once what is being waited for.
func (p *Pipeline) standBy(reason string) {
	if p.Status().Phase != Standby {
		p.log.Info("standing by", "reason", reason)
	}
	p.lag.forget()
	p.state.set(Standby, reason)
}

// check proves that server, publication and table are what we need.
func (p *Pipeline) check(ctx context.Context, control *replication.Control, config replication.Config) (replication.Server, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	server, err := control.Identify(ctx)
	if err != nil {
		return server, err
	}
	p.server = server
	table, err := control.DescribeTable(ctx)
	if err != nil {
		return server, err
	}
	p.outbox, p.inspected = table, server.Flushed
	findings := append(replication.CheckServer(server, config), replication.CheckTable(table, config)...)
	for _, f := range findings {
		if !f.Fatal {
			p.log.Warn("server could be set up better", "problem", f.Problem, "remedy", f.Remedy)
		}
	}
	return server, replication.Refusal(findings)
}

// prepare gets producer and checkpoint ready, in the order that keeps two
// instances apart, and returns where to start.
func (p *Pipeline) prepare(ctx context.Context, control *replication.Control, server replication.Server) (replication.LSN, error) {
	slot, err := p.slot(ctx, control, server)
	if err != nil {
		return 0, err
	}
	if p.flow != nil && !p.flow.failed() {
		stored, err := p.flow.load(ctx, control.Ping, identity(server, slot.Name))
		if err != nil && !errors.Is(err, checkpoint.ErrNone) {
			return 0, err
		}
		if err == nil && follows(stored, p.flow.saver.lastSaved()) {
			return p.from(slot, stored), p.usable(ctx, control, server, slot, stored)
		}
	}
	return p.startOver(ctx, control, server, slot)
}

// usable tells whether the stream can go on from the stored checkpoint.
func (p *Pipeline) usable(ctx context.Context, control *replication.Control, server replication.Server, slot replication.Slot, stored checkpoint.Record) error {
	if err := p.sameHistory(ctx, control, server, stored); err != nil {
		return err
	}
	if until := p.config.Until; until != 0 && stored.LSN > until {
		return failure.Refuse(fmt.Errorf("the checkpoint %s lies above --until %s: what commits between the two is published already: whoever begins at %s repeats it", stored.LSN, until, until))
	}
	if err := replication.Refusal(replication.CheckPosition(stored.LSN, slot)); err != nil {
		return err
	}
	err := replication.Refusal(replication.CheckMembership(stored.Publication, p.outbox, p.config.Replication))
	if err != nil { // the stream went on while the table was out
		err = &locatedError{err, fmt.Sprintf("what was committed while it was out is in question, also below the checkpoint: to go on from there, `streamer checkpoint set %s --yes`", stored.LSN)}
	}
	return err
}

// startOver gets a new producer, and with it the stored checkpoint.
func (p *Pipeline) startOver(ctx context.Context, control *replication.Control, server replication.Server, slot replication.Slot) (replication.LSN, error) {
	var left *heir
	if p.flow != nil {
		left = &heir{saved: p.flow.saver.lastSaved(), acknowledged: p.flow.producer.Written()}
		p.discard()
	}
	id := identity(server, slot.Name)
	h, err := interruptible(ctx, control.Ping, func(ctx context.Context) (*holding, error) { return p.takeOver(ctx, id, false) })
	if err != nil {
		return 0, err
	}
	record := h.stored
	if p.config.Replay != nil && h.found && !p.config.Replay.is(record) {
		h.found = false // of an earlier one
	}
	if h.found {
		p.lag.published(record.SavedAt, false)
		err = p.usable(ctx, control, server, slot, record)
	} else {
		record = checkpoint.Record{Identity: id, LSN: slot.Confirmed, Replay: p.config.Replay.stored()}
		if err = p.succeeds(ctx, control, slot); err == nil {
			p.log.Info("first start of this slot", "slot", slot.Name, "lsn", slot.Confirmed.String())
		}
	}
	if err != nil {
		h.close()
		return 0, err
	}
	var acknowledged written
	if left != nil && left.saved.LSN == record.LSN && left.saved.Timeline == record.Timeline {
		acknowledged = left.acknowledged
	}
	record.Timeline, record.Publication = server.Timeline, p.outbox.Membership()
	p.flow, err = interruptible(ctx, control.Ping, func(ctx context.Context) (*flow, error) { return p.begin(ctx, h, record, acknowledged) })
	if err != nil {
		return 0, err
	}
	return p.from(slot, record), nil
}

// succeeds makes sure that a slot that begins is behind those of another number of
// shards.
func (p *Pipeline) succeeds(ctx context.Context, control *replication.Control, slot replication.Slot) error {
	if p.config.Replay != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	found, err := control.CheckFormerSlots(ctx, slot.Confirmed)
	if err != nil {
		return err
	}
	return replication.Refusal(found)
}

// slot reads and checks the slot.
func (p *Pipeline) slot(ctx context.Context, control *replication.Control, server replication.Server) (replication.Slot, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	slot, err := control.Slot(ctx)
	if err != nil {
		return slot, err
	}
	return slot, replication.Refusal(replication.CheckSlot(slot, server))
}

// sameHistory compares timelines. After a failover the new primary may never
// have had what was published last, and new commits may reuse its LSNs, so
// comparing LSNs alone would skip them.
func (p *Pipeline) sameHistory(ctx context.Context, control *replication.Control, server replication.Server, stored checkpoint.Record) error {
	p.switched = 0
	if stored.Timeline == server.Timeline {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	at, known, err := control.SwitchPoint(ctx, server, stored.Timeline)
	switch {
	case err != nil:
		return err
	case !known:
		return failure.Refuse(fmt.Errorf("the server is on timeline %d, which does not descend from timeline %d, where the checkpoint %s was made: this server may lack what was published there: compare the outbox table with Kafka, then decide with `streamer checkpoint set`",
			server.Timeline, stored.Timeline, stored.LSN))
	case stored.LSN > at:
		return failure.Refuse(fmt.Errorf("the server is on timeline %d, which left timeline %d at %s, but the checkpoint of timeline %d is %s: what was published between the two does not exist on this server: compare the outbox table with Kafka, then decide with `streamer checkpoint set`",
			server.Timeline, stored.Timeline, at, stored.Timeline, stored.LSN))
	}
	p.switched = at
	p.log.Warn("server has changed its timeline", "timeline_before", stored.Timeline, "timeline", server.Timeline, "switch_lsn", at.String(), "lsn", stored.LSN.String())
	return nil
}

// watched runs the session, and beside it the goroutine that asks the server
// how the slot is and notices when the lock is lost, and those that keep the past
// and clean up.
func (p *Pipeline) watched(ctx context.Context, control *replication.Control, config replication.Config, s *session) error {
	watching, stop := context.WithCancel(context.WithoutCancel(ctx))
	var beside sync.WaitGroup
	defer beside.Wait()
	defer stop()
	beside.Go(func() {
		if err := p.watch(watching, control, s.watchLag); err != nil {
			s.end(err)
		}
	})
	if p.config.Replay == nil {
		beside.Go(func() { p.keepPast(watching, config) })
		beside.Go(func() { p.keepHouse(watching, config) })
	}
	return s.run(ctx)
}

// inspect makes sure that the table is still published.
func (p *Pipeline) inspect(ctx context.Context, control *replication.Control, slot replication.Slot) error {
	table, err := control.DescribeTable(ctx)
	if err != nil {
		return err
	}
	findings := append(replication.CheckTable(table, p.config.Replication), replication.CheckMembership(p.outbox.Membership(), table, p.config.Replication)...)
	if err := replication.Refusal(findings); err != nil {
		return &locatedError{err, fmt.Sprintf("rows committed between %s, when it was last seen in order, and %s are in question", p.inspected, slot.Flushed)}
	}
	p.inspected = slot.Flushed
	return nil
}

// watch asks the server at intervals, and tells what it has seen; it owns the
// SQL connection meanwhile.
func (p *Pipeline) watch(ctx context.Context, control *replication.Control, seen func(replication.Slot)) error {
	ticker := time.NewTicker(pingEvery)
	defer ticker.Stop()
	var lastTable time.Time
	for {
		timed, cancel := context.WithTimeout(ctx, pingTimeout)
		slot, err := control.Slot(timed)
		if err == nil && time.Since(lastTable) >= tableEvery {
			lastTable = time.Now()
			err = p.inspect(timed, control, slot)
		}
		cancel()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		p.config.Metrics.Slot(slot)
		seen(slot)
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}
