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
	// saveGrace is how long the last checkpoint may take beyond the drain
	// deadline.
	saveGrace = 2 * time.Second
	// finishTimeout bounds the clean end of a stream.
	finishTimeout = 3 * time.Second
	// failedDrain is how long a failed session waits for acknowledgements. What is
	// acknowledged need not be repeated.
	failedDrain = 3 * time.Second
	// holdFor is how long batches wait for more rows while the server is sending
	// as fast as it can.
	holdFor = 5 * time.Millisecond
)

// session is the work of one reader, from where it begins to its end. All its
// fields belong to the goroutine in run, except for the flags with which others
// notify it.
type session struct {
	ground
	flow      *flow
	reader    reader
	decoder   *decoder.Decoder
	confirmer confirmer
	pressure  pressure
	lookout   lookout
	condemned map[replication.Position]*router.PoisonError
	limiter   *rate.Limiter // of a replay; nil without a limit
	committed int64         // when the last row dealt with was committed, in microseconds since the Unix epoch

	due       atomic.Bool // tick is due
	alarm     *time.Timer
	external  atomic.Pointer[error] // why another goroutine wants the session to end
	cancelled func() error          // returns an error once the caller wants to stop
	readUntil time.Time
	stopping  time.Time        // when the run was asked to stop; zero before
	asked     func() time.Time // returns that time
}

func newSession(t *tenure, r reader, start replication.LSN) *session {
	p := t.pipeline
	s := &session{
		ground: t.ground, flow: p.flow, reader: r, condemned: p.condemned,
		decoder: decoder.New(decoder.Located(t.config.Mappings, t.tables, t.server.Encoding)...),
		limiter: t.purpose.limiter(), asked: p.stopping,
	}
	s.confirmer = newConfirmer(t.ground, p.flow, r, start)
	s.pressure = newPressure(t.ground, p.flow, r)
	s.lookout.behind = func(slot replication.Slot, at replication.LSN) bool {
		return readerName(r) == string(ReadStream) && at != 0 && p.catchesUp(slot, at)
	}
	s.alarm = time.AfterFunc(s.interval(), s.nudge)
	return s
}

// interval is the longest time between two ticks of the session.
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

// run streams until ctx is cancelled or something breaks, and then drains what
// is in flight.
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
		return s.drain(s.deadline(), true)
	case errors.Is(err, errBlocked):
		return err
	case errors.Is(err, errComplete):
		if err := s.drain(time.Now().Add(s.config.DrainTimeout), s.purpose.parts()); err != nil {
			return err
		}
		return errComplete
	case errors.Is(err, errInterrupted):
		return s.drain(s.deadline(), true)
	}
	patience := failedDrain
	if !s.stopping.IsZero() {
		patience = min(patience, time.Until(s.deadline()))
	}
	// Only the original error counts. Whatever is acknowledged until then is
	// saved.
	_ = s.drain(time.Now().Add(patience), failure.ClassOf(err) == failure.Refused)
	return err
}

// deadline is when the session stops waiting for what is in flight, once it was
// asked to stop.
func (s *session) deadline() time.Time { return s.stopping.Add(s.config.DrainTimeout) }

// loop is the path of every event. It returns nil when no transaction is open
// and the session was asked to stop or must make room for another reader.
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
		if !s.decoder.InTransaction() && (s.lookout.leaving.Load() || !s.stopping.IsZero() && !s.flow.owes()) {
			return nil
		}
	}
}

// idle runs when everything received has been handled. It sends open batches
// whose broker has nothing else to do.
func (s *session) idle() error {
	held := s.flow.producer.Flush(s.reader.Flowing())
	if s.flow.producer.Ready() || s.due.Load() {
		return nil
	}
	if held {
		return s.reader.Wait(time.Now().Add(holdFor))
	}
	// The alarm ends a wait in time. A read deadline that rarely changes need not
	// be set for every read.
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
		return s.endAtUntil(s.decoder.Event().Position.Commit)
	case decoder.Row:
		if mutation.Active(mutation.FilterByRowLSN) && m.LSN < s.flow.began {
			return nil
		}
		return s.row(s.decoder.Event())
	case decoder.Commit:
		end := s.decoder.CommitEnd()
		s.reader.Received(end)
		if err := s.reach(end); err != nil {
			return err
		}
		return s.endAtUntil(end)
	default: // nothing to publish or confirm
	}
	return nil
}

// reach notes that everything below lsn has been read. Before it marks anything
// as confirmable, it checks that the rows that must reappear have done so.
func (s *session) reach(lsn replication.LSN) error {
	if err := s.flow.passage.Reached(lsn); err != nil {
		return err
	}
	s.confirmer.read = max(s.confirmer.read, lsn)
	if s.flow.passage.Proven() || mutation.Active(mutation.TrailAcrossConnections) { // a later mark covers those left out
		s.flow.trail.reach(lsn)
		s.flow.tracker.Mark(lsn)
	}
	return nil
}

func (s *session) undecodable(kind decoder.Kind, err error, m replication.Message) error {
	if poison, ok := errors.AsType[*decoder.PoisonError](err); ok && kind == decoder.Row {
		e := s.decoder.Event()
		eventID := []byte(s.letter(e).EventID) // as in Kafka
		if published, otherwise := s.pass(e, eventID); otherwise != nil || published {
			return otherwise
		}
		if err := s.purpose.poisoned(s, e, poison, router.PoisonRow); err != nil {
			return err
		}
		s.dealt(e, eventID)
		return nil
	}
	if failure.ClassOf(err) != failure.Transient {
		return err
	}
	// Reading the message again gives the same result. It is better to stop with
	// the position than to loop.
	return failure.Refuse(fmt.Errorf("message at WAL position %s cannot be decoded: %w", m.LSN, err))
}

// errUnderneath ends a flow whose checkpoint is not of the history being read.
var errUnderneath = errors.New(
	"rows that were never published are below the checkpoint: this server was restored or promoted, " +
		"and nothing was published from the WAL that it lacks",
)

// pass reports whether a row was dealt with before. A new row below the
// checkpoint is of another history, in which the checkpoint means nothing,
// although what was published has reappeared. Then the flow begins again, at
// the slot's position.
func (s *session) pass(e *decoder.Event, eventID []byte) (published bool, err error) {
	published, err = s.flow.passage.Pass(e.Position, eventID, e.CommitTime)
	if err == nil && !published && e.Position.Commit < s.flow.resumed {
		s.flow.outdated = true
		return false, fmt.Errorf("%w (%s)", errUnderneath, e.Position)
	}
	if published {
		s.config.Metrics.Skipped()
		if at := s.flow.passage.LastRead(); at.Position == e.Position {
			s.flow.trail.pass(at, eventID, e.CommitTime) // above the checkpoint
		}
	}
	return published, err
}

// dealt notes that a row has been dealt with, whatever became of it.
func (s *session) dealt(e *decoder.Event, eventID []byte) {
	s.flow.passage.Dealt()
	s.flow.trail.pass(s.flow.passage.LastDealt(), eventID, e.CommitTime)
	s.committed = e.CommitTime
}

// row passes an event to the producer, and waits as long as necessary.
func (s *session) row(e *decoder.Event) error {
	eventID := e.Attribute(decoder.ID)
	if published, err := s.pass(e, eventID); err != nil || published {
		return err
	}
	if err := s.publish(e); err != nil {
		return err
	}
	s.dealt(e, eventID)
	return nil
}

// publish gives a row to the producer, or to the purpose if it cannot be
// published.
func (s *session) publish(e *decoder.Event) error {
	if poison := s.condemned[e.Position]; poison != nil {
		return s.purpose.poisoned(s, e, poison, poison.Class)
	}
	if wanted, err := s.purpose.wants(s, e); err != nil || !wanted {
		return err
	}
	_, err := s.hand(func() (router.Result, error) { return s.flow.producer.Append(e) })
	if poison, ok := errors.AsType[*router.PoisonError](err); ok && !poison.Late { // a late error is about another row
		return s.purpose.poisoned(s, e, err, poison.Class)
	}
	return err
}

// hand calls try, which gives something to the producer, until the producer
// takes it.
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
		s.pressure.end()
		return result, nil
	}
}

// blocked waits until the producer has news. Meanwhile status updates continue
// with the old position. After a while the session gives up the connection,
// because a walsender that is not read holds back the server.
func (s *session) blocked() error {
	s.pressure.begin()
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
	return s.pressure.endure()
}

// keepalive notes an idle position. A keepalive inside a transaction says
// nothing about the rest of that transaction.
func (s *session) keepalive(m replication.Message) error {
	if !s.decoder.InTransaction() {
		if err := s.endAtUntil(m.LSN); err != nil {
			return err
		}
		if err := s.reach(m.LSN); err != nil {
			return err
		}
		if s.caughtUp() {
			s.lookout.leaving.Store(true)
		}
	}
	if !m.ReplyRequested {
		return nil
	}
	s.due.Store(true)
	return s.confirmer.asked()
}

// collect processes acknowledgements and sends the next batches.
func (s *session) collect() error {
	before := s.flow.producer.Events()
	err := s.flow.collect()
	if s.flow.producer.Events() < before {
		s.confirmer.published = true
		s.pressure.relieve()
	}
	s.flow.producer.Flush(s.reader.Flowing())
	if s.confirmer.confirmable() > s.confirmer.confirmed {
		s.due.Store(true) // a checkpoint was saved: confirm it
	}
	return err
}

// tick does the periodic work: it saves, confirms, and looks for a reason to
// end. It never waits.
func (s *session) tick() error {
	s.due.Store(false)
	s.alarm.Reset(s.interval())
	s.lookout.passed.Store(uint64(s.confirmer.read))
	if reason := s.external.Load(); reason != nil {
		return *reason
	}
	if s.cancelled() != nil && s.stopping.IsZero() {
		s.stopping = s.asked()
		s.state.set(Draining, "stopping")
		s.log.Info("stopping", "in_flight_events", s.flow.producer.Events())
	}
	if !s.stopping.IsZero() && !time.Now().Before(s.deadline()) {
		cause := "the transaction being read has not ended"
		switch {
		case s.pressure.blocked():
			cause = s.flow.waiting()
		case s.flow.owes():
			cause = unproven
		}
		return &DrainError{Events: s.flow.producer.Events(), Cause: cause}
	}
	s.confirmer.save()
	if err := s.confirmer.unsaved(); err != nil {
		return err
	}
	if s.stopping.IsZero() {
		s.pressure.noteStall()
	}
	s.measure()
	return s.confirmer.confirm(s.alarm)
}

// measure reports how far publication has come.
func (s *session) measure() {
	producer := s.flow.producer
	oldest, waiting := producer.Oldest()
	switch {
	case waiting:
	case s.pressure.blocked(): // the producer does not take the event
		oldest, waiting = time.UnixMicro(s.decoder.Event().CommitTime), true
	case s.committed > 0:
		oldest = time.UnixMicro(s.committed)
	}
	s.lag.published(oldest, waiting)
	s.decoder.Rows(s.config.Metrics.Read)
	s.noteLoose()
	saved := s.flow.saver.lastSaved()
	s.purpose.reached(saved.LSN)
	s.config.Metrics.Position(saved.SavedAt, producer.InFlight(), producer.Events())
}

// drain waits for what is in flight, saves and confirms, so that nothing
// acknowledged has to be repeated. With farewell it also ends the stream
// cleanly.
func (s *session) drain(deadline time.Time, farewell bool) error {
	settled := s.flow.settle(deadline, s.confirmer.keepAlive)
	if err := s.flow.saveLast(deadline.Add(saveGrace)); err != nil {
		return errors.Join(settled, err)
	}
	if !s.flow.passage.Proven() {
		return settled // confirmed WAL cannot be read again
	}
	confirmable := s.confirmer.confirmable()
	if err := s.reader.Confirm(confirmable, false); err != nil {
		return settled // not needed: the checkpoint is stored
	}
	if farewell {
		if err := s.reader.Finish(time.Now().Add(finishTimeout)); err != nil {
			s.log.Warn("replication stream did not end cleanly; the checkpoint is stored", "err", err)
		}
		s.log.Info("checkpoint saved and confirmed", "lsn", confirmable.String())
	}
	return settled
}

// handOver ends the reader cleanly, so that another can use the slot. What is
// in flight stays in flight.
func (s *session) handOver() error {
	if err := s.reader.Confirm(s.confirmer.confirmable(), false); err != nil {
		return err
	}
	if err := s.reader.Finish(time.Now().Add(handOverTimeout)); err != nil {
		return fmt.Errorf("switch to another reader: %w", err)
	}
	return errSwitch
}
