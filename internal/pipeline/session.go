package pipeline

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/outboxstream/streamer/decoder"
	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/internal/mutation"
	"github.com/outboxstream/streamer/replication"
	"github.com/outboxstream/streamer/router"
)

const (
	// idleSave is how often a checkpoint is saved that only follows an idle
	// server.
	idleSave = 10 * time.Second
	// replyEvery bounds how often a server that asks is answered: one that is
	// shutting down asks again at once.
	replyEvery = 100 * time.Millisecond
	// shutdownGrace is how long a server that shuts down waits for us at most
	// (R7): it would wait for our acknowledgements for ever.
	shutdownGrace = 10 * time.Second
	// finishTimeout bounds the farewell.
	finishTimeout = 3 * time.Second
	// saveGrace is what the last checkpoint may take beyond the drain deadline.
	saveGrace = 2 * time.Second
	// stallAfter is how long events may be in flight without a single
	// acknowledgement before that shows.
	stallAfter = 5 * time.Second
	// failedDrain is how long acknowledgements are waited for when the session
	// has failed: what arrives need not be repeated.
	failedDrain = 3 * time.Second
	// holdFor is how long batches wait for more, while the server is sending as
	// fast as it can.
	holdFor = 5 * time.Millisecond
)

var (
	errBlocked  = errors.New("broker does not acknowledge")
	errShutdown = errors.New("server is shutting down and waits for us: disconnected")
)

// session is one reader at work, from where it begins to its end. Everything in it
// belongs to the goroutine in run, but for the flags that others set to be
// noticed.
type session struct {
	*Pipeline
	flow    *flow
	reader  reader
	decoder *decoder.Decoder
	start   replication.LSN
	stored  replication.LSN // the checkpoint at the start, at or below it
	at      replication.LSN // where another reader could go on

	limiter  *rate.Limiter // of a replay; nil without a limit
	due      atomic.Bool   // tick wants to run
	alarm    *time.Timer
	external atomic.Pointer[error] // why somebody else wants the session to end

	leaving   atomic.Bool   // another reader shall go on
	passed    atomic.Uint64 // at, for the watching goroutine
	farBehind int           // of the watching goroutine: how often in a row
	seen      sighting      // of the watching goroutine

	cancelled func() error // the caller's wish to stop, once it has come
	readUntil time.Time

	stopping     time.Time // since when, once asked to stop
	blockedSince time.Time // since when the producer takes nothing
	warned       bool      // that it is blocked
	progressAt   time.Time // when something was acknowledged last, or nothing was in flight
	stalled      bool      // nothing has been acknowledged for a while
	replyWanted  bool
	asking       struct{ since, last time.Time } // the server's run of questions
	confirmed    replication.LSN
	confirmedAt  time.Time
	idleSavedAt  time.Time
	published    bool  // events were acknowledged since the last save
	committed    int64 // when the last event that was read was, microseconds since the Unix epoch
}

// sighting is where the log ended at a moment.
type sighting struct {
	at      time.Time
	flushed replication.LSN
}

func newSession(p *Pipeline, r reader, start replication.LSN) *session {
	mapping := p.config.Mapping
	mapping.RelationID = p.outbox.OID
	s := &session{Pipeline: p, flow: p.flow, reader: r, start: start, at: start, stored: min(start, p.flow.saver.lastSaved().LSN), decoder: decoder.New(mapping), confirmedAt: time.Now(), progressAt: time.Now()}
	s.limiter = s.config.Replay.limiter()
	s.alarm = time.AfterFunc(s.interval(), s.nudge)
	return s
}

// interval is how often the session ticks at least.
func (s *session) interval() time.Duration {
	return min(s.config.StatusInterval, s.config.Checkpoint.Interval)
}

// nudge makes the session tick soon. Any goroutine may call it.
func (s *session) nudge() {
	s.due.Store(true)
	s.reader.Wake()
	ring(s.flow.notified)
}

// end makes the session end with err. Any goroutine may call it.
func (s *session) end(err error) {
	s.external.CompareAndSwap(nil, &err)
	s.nudge()
}

// run streams until ctx is cancelled or something breaks, and then brings what
// is in flight to a good end.
func (s *session) run(ctx context.Context) error {
	wake := s.reader.Wake
	s.flow.wake.Store(&wake)
	defer s.flow.wake.Store(nil)
	defer s.alarm.Stop()
	defer context.AfterFunc(ctx, s.nudge)()
	s.cancelled = ctx.Err
	s.state.set(Streaming, "")
	err := s.loop()
	switch {
	case err == nil && s.stopping.IsZero():
		return s.handOver()
	case err == nil:
		return s.drain(s.stopping.Add(s.config.DrainTimeout), true)
	case errors.Is(err, errBlocked):
		return err
	case errors.Is(err, errComplete):
		// The slot of a replay is not needed any more.
		if err := s.drain(time.Now().Add(s.config.DrainTimeout), s.config.Replay == nil); err != nil {
			return err
		}
		return errComplete
	case errors.Is(err, errInterrupted):
		return s.drain(s.stopping.Add(s.config.DrainTimeout), true)
	}
	patience := failedDrain
	if !s.stopping.IsZero() {
		patience = min(patience, time.Until(s.stopping.Add(s.config.DrainTimeout)))
	}
	// The error itself is what counts; what arrives until then is saved.
	_ = s.drain(time.Now().Add(patience), failure.ClassOf(err) == failure.Refused)
	return err
}

// loop is the path of every event. It returns nil when it was asked to stop, or
// shall make room for another reader, and no transaction is open.
func (s *session) loop() error {
	for {
		m, err := s.reader.Next()
		if err != nil {
			return err
		}
		switch m.Kind {
		case replication.Data:
			err = s.data(m)
		case replication.Keepalive:
			err = s.keepalive(m)
		case replication.None:
			err = s.idle()
		}
		if err != nil {
			return err
		}
		if s.flow.producer.Ready() {
			if err := s.collect(); err != nil {
				return err
			}
		}
		if s.due.Load() {
			if err := s.tick(); err != nil {
				return err
			}
		}
		if (!s.stopping.IsZero() || s.leaving.Load()) && !s.decoder.InTransaction() {
			return nil
		}
	}
}

// idle runs when everything received has been handled: what is open leaves, if
// its broker has nothing else to do.
func (s *session) idle() error {
	held := s.flow.producer.Flush(s.reader.Flowing())
	if s.flow.producer.Ready() || s.due.Load() {
		return nil
	}
	if held {
		return s.reader.Wait(time.Now().Add(holdFor))
	}
	// The alarm ends a wait in time; a read deadline that rarely changes saves
	// setting it for every read.
	if now := time.Now(); s.readUntil.Sub(now) < time.Minute {
		s.readUntil = now.Add(2 * time.Minute)
	}
	return s.reader.Wait(s.readUntil)
}

// data handles one pgoutput message.
func (s *session) data(m replication.Message) error {
	kind, err := s.decoder.Decode(m.Data)
	if err != nil {
		if mutation.Active(mutation.SwallowDecodeError) {
			return nil
		}
		return s.undecodable(kind, err, m)
	}
	switch kind {
	case decoder.Begin:
		return s.bounded(s.decoder.Event().Position.Commit)
	case decoder.Row:
		if mutation.Active(mutation.FilterByRowLSN) && m.LSN < s.start {
			return nil
		}
		return s.row(s.decoder.Event())
	case decoder.Commit:
		end := s.decoder.CommitEnd()
		s.reader.Received(end)
		s.flow.tracker.Mark(end)
		s.flow.trail.commit(end)
		s.at = max(s.at, end)
		if err := s.reached(end); err != nil {
			return err
		}
		return s.bounded(end)
	default: // nothing to publish or confirm
	}
	return nil
}

func (s *session) undecodable(kind decoder.Kind, err error, m replication.Message) error {
	if poison, ok := errors.AsType[*decoder.PoisonError](err); ok && kind == decoder.Row {
		if poison.Position.Compare(s.flow.handed) <= 0 {
			s.config.Metrics.Skipped()
			return nil
		}
		return s.poisoned(err, router.PoisonRow, poison.Position)
	}
	if failure.ClassOf(err) != failure.Transient {
		return err
	}
	// Reading it again will give the same: better to stop with the position
	// than to loop.
	return failure.Refuse(fmt.Errorf("message at WAL position %s cannot be decoded: %w", m.LSN, err))
}

// row gives an event to the producer, waiting as long as it must.
func (s *session) row(e *decoder.Event) error {
	if s.flow.landmark != nil {
		if err := s.recognise(e); err != nil {
			return err
		}
	}
	if e.Position.Compare(s.flow.handed) <= 0 {
		s.config.Metrics.Skipped()
		return nil
	}
	if poison := s.condemned[e.Position]; poison != nil {
		return s.poisoned(poison, poison.Class, e.Position)
	}
	if s.config.Replay != nil {
		wanted, err := s.again(e)
		if err != nil || !wanted {
			return err
		}
	}
	_, err := s.hand(func() (router.Result, error) { return s.flow.producer.Append(e) })
	if poison, ok := errors.AsType[*router.PoisonError](err); ok && !poison.Late { // a late one is about another row
		return s.poisoned(err, poison.Class, e.Position)
	}
	if err == nil {
		s.flow.handed = e.Position
		s.flow.trail.pass(e)
		s.committed = e.CommitTime
	}
	return err
}

// hand gives something to the producer, waiting as long as it must.
func (s *session) hand(try func() (router.Result, error)) (router.Result, error) {
	for {
		result, err := try()
		switch {
		case err != nil:
			return result, err
		case result == router.Blocked:
			if err := s.blocked(); err != nil {
				return result, err
			}
			continue
		case result == router.Skipped:
			s.config.Metrics.Skipped()
		}
		s.unblocked()
		return result, nil
	}
}

// blocked waits until the producer has news. Status updates go on meanwhile,
// with the old position; after a while the connection is given up, because a
// walsender that is not read holds back the server.
func (s *session) blocked() error {
	now := time.Now()
	if s.blockedSince.IsZero() {
		s.blockedSince = now
	}
	s.flow.producer.Flush(false)
	<-s.flow.notified
	if err := s.collect(); err != nil {
		return err
	}
	if s.due.Load() {
		if err := s.tick(); err != nil {
			return err
		}
	}
	waited := now.Sub(s.blockedSince)
	if waited >= time.Second && !s.warned {
		s.warned = true
		why := s.flow.producer.Waiting()
		s.state.set(Blocked, why)
		s.log.Warn("reading is paused", "reason", why, "in_flight_bytes", s.flow.producer.InFlight())
	}
	if waited >= s.patience() {
		return errBlocked
	}
	return nil
}

// patience is how long a broker may keep us from reading.
func (s *session) patience() time.Duration {
	if readerName(s.reader) == string(ReadCatchUp) {
		return min(s.config.BlockedTimeout, blockedCatchUp)
	}
	return s.config.BlockedTimeout
}

func (s *session) unblocked() {
	if s.blockedSince.IsZero() {
		return
	}
	s.blockedSince = time.Time{}
	if s.warned {
		s.warned = false
		s.state.set(Streaming, "")
		s.log.Info("reading goes on")
	}
}

// noteStall shows an outage of the broker that does not block the reading,
// because everything that waits fits into memory.
func (s *session) noteStall() {
	if s.flow.producer.Events() == 0 {
		s.progressAt = time.Now()
	}
	stalled := time.Since(s.progressAt) >= stallAfter
	if stalled == s.stalled || !s.blockedSince.IsZero() || !s.stopping.IsZero() {
		return
	}
	s.stalled = stalled
	if !stalled {
		s.state.set(Streaming, "")
		s.log.Info("broker acknowledges again")
		return
	}
	why := s.flow.producer.Unacknowledged()
	s.state.set(Blocked, why)
	s.log.Warn("broker does not acknowledge", "reason", why, "in_flight_events", s.flow.producer.Events())
}

// keepalive notes an idle position. Inside a transaction it says nothing about
// what is still to come of it.
func (s *session) keepalive(m replication.Message) error {
	if !s.decoder.InTransaction() {
		if err := s.bounded(m.LSN); err != nil {
			return err
		}
		s.flow.tracker.Mark(m.LSN)
		if err := s.reached(m.LSN); err != nil {
			return err
		}
		s.at = max(s.at, m.LSN)
		if s.caughtUp() {
			s.leaving.Store(true)
		}
	}
	if !m.ReplyRequested {
		return nil
	}
	now := time.Now()
	if now.Sub(s.asking.last) > 2*time.Second {
		s.asking.since = now
	}
	s.asking.last = now
	if now.Sub(s.asking.since) > shutdownGrace {
		return errShutdown
	}
	s.replyWanted = true
	s.due.Store(true)
	return nil
}

// collect takes notice of acknowledgements and lets the next batches leave.
func (s *session) collect() error {
	before := s.flow.producer.Events()
	err := s.flow.collect()
	if s.flow.producer.Events() < before {
		s.published = true
		s.progressAt = time.Now()
	}
	s.flow.producer.Flush(s.reader.Flowing())
	if saved := s.flow.saver.lastSaved().LSN; saved > s.confirmed {
		s.due.Store(true) // a save has come through: confirm it
	}
	return err
}
