package replication

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// CatchUp reads the WAL by SQL, as fast as the server decodes it: a call is
// answered in large pieces, whereas a walsender sends every message separately.
// Two sessions take turns reading temporary copies of the slot, stretch by
// stretch, so that one decodes while the other is being read. The slot itself
// is only moved, to the confirmed position, so a crash loses nothing.
//
// One goroutine owns a CatchUp; only Wake may be called from others.
type CatchUp struct {
	waker
	horizon
	config   Config
	server   Server
	division stretching
	lanes    []*lane
	queue    []*lane // lanes with a stretch, in WAL order
	advancer *advancer

	planned LSN   // end of the last stretch asked for
	flushed LSN   // end of the server's WAL when last seen
	reached LSN   // every commit below it has been handed out
	stretch int64 // length of the last stretch, bytes of WAL
	again   int64 // bytes of WAL that the last stretch had to decode again

	poll  time.Time     // when to poll next, once everything is read
	pause time.Duration // between two polls
}

// NoCatchUpError reports that the WAL cannot currently be read by SQL, for a
// reason that does not affect streaming.
type NoCatchUpError struct{ Reason string }

func (e *NoCatchUpError) Error() string {
	return "reading the slot by SQL is not possible: " + e.Reason
}

// stretching is how the WAL is divided. Sizes are in bytes of WAL unless stated
// otherwise.
type stretching struct {
	// first is short, so that the first event comes early. Each further stretch is
	// longer, because decoding begins at the copy's restart position, which the
	// server moves only every 15 seconds of WAL time.
	first int64
	// longest bounds what the server prepares for one answer, in a temporary file.
	longest int64
	// again is the limit on what may be decoded again for one stretch. Above it,
	// streaming is the better way.
	again int64
	// worthwhile is how much must be left for a second session to begin before the
	// first has ended.
	worthwhile int64
	// messages bounds an answer whose rows are larger than in the WAL, where they
	// may be compressed.
	messages int
}

const (
	stretchGrowth = 3

	shortestPoll = 20 * time.Millisecond
	longestPoll  = 500 * time.Millisecond
)

// OpenCatchUp begins to read at start, which must be the position of the
// caller's checkpoint or of what the caller has read since. The slot must have
// been checked. It returns a *NoCatchUpError where only streaming is possible.
func OpenCatchUp(ctx context.Context, c Config, server Server, slot Slot, start LSN) (*CatchUp, error) {
	return openCatchUp(
		ctx, c, server, slot, start,
		stretching{first: 8 << 20, longest: 512 << 20, again: 1 << 30, worthwhile: 4 << 20, messages: 2_000_000},
	)
}

func openCatchUp(ctx context.Context, c Config, server Server, slot Slot, start LSN, division stretching) (*CatchUp, error) {
	if err := catchable(server, slot); err != nil {
		return nil, err
	}
	u := &CatchUp{
		config:   c,
		server:   server,
		division: division,
		planned:  start,
		reached:  start,
		flushed:  max(slot.Flushed, start),
		horizon:  horizonAt(start),
		pause:    shortestPoll,
	}
	first, err := openLane(ctx, c, server, start)
	if err != nil {
		return nil, err
	}
	u.lanes = []*lane{first}
	if u.advancer, err = newAdvancer(ctx, c); err == nil {
		err = u.dispatch()
	}
	if err == nil && u.left() > u.division.worthwhile {
		err = u.secondLane(ctx)
	}
	if err != nil {
		u.Close()
		return nil, err
	}
	return u, nil
}

func catchable(server Server, slot Slot) error {
	switch {
	case server.InStandby:
		return &NoCatchUpError{"the server is a standby"}
	case slot.Failover && server.SynchronizedStandbySlots != "":
		return &NoCatchUpError{"the slot waits for synchronized_standby_slots, but its copies would not"}
	case slot.Active:
		return fmt.Errorf("%w: slot %q", ErrSlotActive, slot.Name)
	}
	return nil
}

// secondLane opens the second session and gives it a stretch. If no slot is
// left for the second session, CatchUp goes on with the first.
func (u *CatchUp) secondLane(ctx context.Context) error {
	second, err := openLane(ctx, u.config, u.server, u.planned)
	if _, refused := errors.AsType[*NoCatchUpError](err); refused {
		return nil
	}
	if err != nil {
		return err
	}
	u.lanes = append(u.lanes, second)
	return u.dispatch()
}

// left is how many bytes of WAL have not been asked for.
func (u *CatchUp) left() int64 { return int64(u.flushed) - int64(u.planned) }

// Behind is how many bytes of WAL had not been handed out when the server was
// last asked.
func (u *CatchUp) Behind() int64 { return int64(u.flushed) - int64(u.reached) }

// dispatch gives stretches to idle lanes. Stretches join exactly: a transaction
// belongs to the stretch in which its commit record begins. A stretch that
// reaches the end of the WAL may end anywhere, so no stretch follows it before
// it has ended.
func (u *CatchUp) dispatch() error {
	for _, l := range u.lanes {
		if l.busy || len(u.queue) > 0 && u.left() < u.division.worthwhile {
			continue
		}
		u.stretch = u.length()
		to := u.planned + LSN(u.stretch)
		if len(u.queue) > 0 {
			to = min(to, u.flushed)
		}
		if err := l.ask(u.planned, to, u.division.messages); err != nil {
			return err
		}
		u.planned = to
		u.queue = append(u.queue, l)
	}
	return nil
}

// length is the length of the next stretch: the more WAL must be decoded again,
// the longer the stretch.
func (u *CatchUp) length() int64 {
	if u.stretch == 0 {
		return u.division.first
	}
	return min(max(stretchGrowth*u.stretch, 2*u.again), u.division.longest)
}

// Next returns the next message that has been received, or Kind None when there
// is none. It never blocks.
func (u *CatchUp) Next() (Message, error) {
	if len(u.queue) == 0 {
		return Message{}, nil
	}
	m, done, err := u.queue[0].next()
	if err != nil || done == nil {
		return m, err
	}
	return u.handedOut(u.queue[0], *done)
}

// handedOut ends the stretch of l, when every commit up to its end has been
// handed out, and begins the next.
func (u *CatchUp) handedOut(l *lane, at place) (Message, error) {
	u.pace(l.rows)
	u.flushed = max(u.flushed, at.flushed)
	u.reached = max(u.reached, at.confirmed)
	u.received = max(u.received, u.reached)
	mark := Message{Kind: Keepalive, LSN: u.reached}
	if u.again = int64(at.confirmed) - int64(at.restart); u.again > u.division.again {
		return mark, &NoCatchUpError{fmt.Sprintf("an open transaction makes the server decode %d MiB of WAL again each time", u.again>>20)}
	}
	if len(u.queue) > 1 && at.confirmed < l.end {
		// The limit of messages cut the stretch short: its rest comes first.
		l.busy = true
		return mark, l.ask(at.confirmed, l.end, u.division.messages)
	}
	u.queue = u.queue[1:]
	if len(u.queue) == 0 {
		u.planned = u.reached
	}
	if u.left() <= 0 {
		return mark, nil // Wait polls for more
	}
	return mark, u.dispatch()
}

// pace decides when an idle server is asked again.
func (u *CatchUp) pace(rows bool) {
	if rows {
		u.pause = shortestPoll
	} else {
		u.pause = min(2*u.pause, longestPoll)
	}
	u.poll = time.Now().Add(u.pause)
}

// Wait blocks until more has been received, Wake is called or until has passed,
// whichever comes first.
func (u *CatchUp) Wait(until time.Time) error {
	from := u.lanes[0]
	switch {
	case len(u.queue) > 0:
		from = u.queue[0]
	case !time.Now().Before(u.poll):
		if err := u.dispatch(); err != nil {
			return err
		}
		from = u.queue[0]
	case u.poll.Before(until):
		until = u.poll
	}
	came, err := u.fill(&from.feed, until)
	if came {
		u.lastReceived = time.Now()
	}
	return err
}

// Flowing reports whether an answer is arriving as fast as the server can send
// it, so that more is sure to follow.
func (u *CatchUp) Flowing() bool { return len(u.queue) > 0 && u.queue[0].Flowing() }

// Confirm records that everything below lsn is durably published, by asking for
// the slot to be moved. It does not wait for the move. lsn must be a saved
// checkpoint.
func (u *CatchUp) Confirm(lsn LSN, _ bool) error {
	if err := u.confirmable(lsn); err != nil {
		return err
	}
	return u.advancer.advance(lsn)
}

// Finish waits, until the deadline, for the slot to reach the confirmed
// position.
func (u *CatchUp) Finish(deadline time.Time) error { return u.advancer.finish(deadline) }

// Close ends all sessions and, with them, the copies. It is safe after any
// error.
func (u *CatchUp) Close() {
	for _, l := range u.lanes {
		l.leave()
	}
	if u.advancer != nil {
		u.advancer.close()
	}
}
