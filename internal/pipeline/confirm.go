package pipeline

import (
	"errors"
	"fmt"
	"time"

	"github.com/outboxstream/streamer/checkpoint"
	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/internal/mutation"
)

// tick does what is done by the clock: save, confirm, look for a reason to
// end. It never waits.
func (s *session) tick() error {
	s.due.Store(false)
	s.alarm.Reset(s.interval())
	s.passed.Store(uint64(s.at))
	if reason := s.external.Load(); reason != nil {
		return *reason
	}
	if s.cancelled() != nil && s.stopping.IsZero() {
		s.stopping = time.Now()
		s.state.set(Draining, "stopping")
		s.log.Info("stopping", "in_flight_events", s.flow.producer.Events())
	}
	if !s.stopping.IsZero() && time.Since(s.stopping) >= s.config.DrainTimeout {
		cause := "the transaction being read has not ended"
		if !s.blockedSince.IsZero() {
			cause = s.flow.producer.Waiting()
		}
		return &DrainError{Events: s.flow.producer.Events(), Cause: cause}
	}
	s.save()
	if err := s.unsaved(); err != nil {
		return err
	}
	s.noteStall()
	s.measure()
	return s.confirm()
}

// measure tells how far publication has come.
func (s *session) measure() {
	producer := s.flow.producer
	oldest, waiting := producer.Oldest()
	switch {
	case waiting:
	case !s.blockedSince.IsZero(): // the producer does not take it
		oldest, waiting = time.UnixMicro(s.decoder.Event().CommitTime), true
	case s.committed > 0:
		oldest = time.UnixMicro(s.committed)
	}
	s.lag.published(oldest, waiting)
	saved := s.flow.saver.lastSaved()
	s.config.Replay.reached(saved.LSN)
	s.config.Metrics.Position(saved.SavedAt, producer.InFlight(), producer.Events())
}

// save asks for the low watermark to be stored, if it has risen. Positions of
// an idle server are stored less often, but at once when the server asks.
func (s *session) save() {
	position := s.flow.tracker.Confirmed()
	if mutation.Active(mutation.ConfirmBeforeAcknowledgement) {
		position = max(position, s.decoder.CommitEnd())
	}
	last := s.flow.saver.lastSaved()
	if position <= last.LSN {
		return
	}
	now := time.Now()
	switch {
	case s.published:
		if now.Sub(last.SavedAt) < s.config.Checkpoint.Interval {
			return
		}
	case !s.replyWanted && !s.flow.eager.Load() && now.Sub(s.idleSavedAt) < idleSave:
		return
	}
	if s.flow.save(position) {
		s.published = false
		s.idleSavedAt = now
	}
}

// unsaved says, once, that checkpoints are not being stored, and ends the
// session where that will not get better by itself.
func (s *session) unsaved() error {
	err := s.flow.saver.failed()
	switch {
	case errors.Is(err, checkpoint.ErrClaimed), failure.ClassOf(err) == failure.Refused:
		return fmt.Errorf("save checkpoint: %w", err)
	case err != nil && !s.flow.unsaved:
		s.log.Warn("checkpoint cannot be stored, nothing is confirmed to PostgreSQL meanwhile", "err", err)
	case err == nil && s.flow.unsaved:
		s.log.Info("checkpoint can be stored again")
	}
	s.flow.unsaved = err != nil
	return nil
}

// confirm tells the server what has been saved: when that has risen, when it
// asks, and at every status interval. The last is not only for staying
// connected: since version 16 a walsender looks for new WAL and only then
// prepares to be woken by it, so a commit in between would go unnoticed until
// somebody speaks to it.
func (s *session) confirm() error {
	saved := s.flow.saver.lastSaved().LSN
	if mutation.Active(mutation.ConfirmBeforeSave) {
		saved = max(saved, s.flow.tracker.Confirmed())
	}
	if s.flow.landmark != nil {
		saved = s.stored // nothing more, before it is clear that this is our history
	}
	since := time.Since(s.confirmedAt)
	switch {
	case saved > s.confirmed:
	case s.replyWanted && since >= replyEvery:
	case since >= s.config.StatusInterval:
	default:
		if s.replyWanted {
			s.alarm.Reset(replyEvery)
		}
		return nil
	}
	silence := time.Since(s.reader.LastReceived())
	ping := silence > s.config.Replication.SenderTimeout/2
	if err := s.reader.Confirm(saved, ping); err != nil {
		return err
	}
	s.confirmed, s.confirmedAt, s.replyWanted = saved, time.Now(), false
	return nil
}

// drain brings what is in flight to its end, saves and confirms, so that
// nothing acknowledged has to be repeated. With farewell it also ends the
// stream in good order.
func (s *session) drain(deadline time.Time, farewell bool) error {
	settled := s.flow.settle(deadline, s.keepAlive)
	if err := s.flow.saveLast(deadline.Add(saveGrace)); err != nil {
		return errors.Join(settled, err)
	}
	saved := s.flow.saver.lastSaved().LSN
	if s.flow.landmark != nil {
		return settled // what is confirmed cannot be read again
	}
	if err := s.reader.Confirm(saved, false); err != nil {
		return settled // not needed: the checkpoint is stored
	}
	if farewell {
		if err := s.reader.Finish(time.Now().Add(finishTimeout)); err != nil {
			s.log.Warn("replication stream did not end in good order; the checkpoint is stored", "err", err)
		}
		s.log.Info("checkpoint saved and confirmed", "lsn", saved.String())
	}
	return settled
}

// keepAlive keeps the connection while acknowledgements are waited for. Its
// failing changes nothing.
func (s *session) keepAlive() {
	if time.Since(s.confirmedAt) >= s.config.StatusInterval {
		s.confirmedAt = time.Now()
		_ = s.reader.Confirm(max(s.stored, s.confirmed), false)
	}
}
