package pipeline

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/outboxstream/streamer/checkpoint"
	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/internal/mutation"
	"github.com/outboxstream/streamer/internal/wait"
	"github.com/outboxstream/streamer/router/kafka"
)

// saver stores checkpoints on its own goroutine, because a store may be slow.
// Only the newest checkpoint matters: a new request replaces one that is
// waiting. What a store has refused is retried after a growing pause.
type saver struct {
	store        checkpoint.Store
	notify       func()
	transactions transactions
	pause        *backoff.ExponentialBackOff // belongs to the goroutine

	cancel  context.CancelFunc
	running sync.WaitGroup
	wake    chan struct{}
	saving  chan struct{} // holds a token during a save

	mu     sync.Mutex
	saved  resumePoint         // the newest that is safely stored
	since  time.Time           // when it was stored; SavedAt is for operators, and follows a clock that may be set
	wanted *resumePoint        // to be stored, newer than saved
	past   []checkpoint.Moment // goes into the next record
	// publication is why the table is published. It goes into the next record,
	// too.
	publication string
	err         error // of the last attempt
}

const saveTimeout = 30 * time.Second

func newSaver(store checkpoint.Store, saved resumePoint, pause *backoff.ExponentialBackOff, notify func()) *saver {
	s := &saver{
		store: store, notify: notify, pause: pause, saved: saved, since: time.Now(), past: saved.Past,
		publication: saved.Publication, wake: make(chan struct{}, 1), saving: make(chan struct{}, 1),
	}
	s.transactions.note(saved.LSN, saved.NextTransaction)
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel = cancel
	s.running.Go(func() { s.run(ctx) })
	return s
}

// save requests that the position of a step be stored as one of a history, with
// what is known of the topics there. Without a step, it is the position already
// stored.
func (s *saver) save(at *step, topics map[string]checkpoint.Topic, in history) {
	s.mu.Lock()
	r := s.saved
	if s.wanted != nil {
		r = *s.wanted // never lower than what was requested
	}
	if at != nil && at.lsn >= r.LSN {
		r.LSN, r.low, r.point = at.lsn, at.lsn, at.point
		if r.Exact = at.exact; at.exact {
			r.Last = at.event()
		}
		r.NextTransaction = s.transactions.at(r.LSN)
	}
	r.Timeline, r.Started = in.timeline, in.started
	r.Topics, r.Past, r.Publication, r.SavedAt = topics, s.past, s.publication, time.Now().UTC()
	s.wanted = &r
	s.mu.Unlock()
	ring(s.wake)
}

// asked is the newest resume point that is stored or waiting to be stored.
func (s *saver) asked() resumePoint {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.wanted != nil {
		return *s.wanted
	}
	return s.saved
}

// busy reports whether something is waiting to be stored.
func (s *saver) busy() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.wanted != nil
}

func (s *saver) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.wake:
		}
		for s.busy() && ctx.Err() == nil {
			err := s.attempt(ctx)
			s.notify()
			if err == nil || mutation.Active(mutation.RetryAtOnce) {
				s.pause.Reset()
			} else if hopeless(err) || !wait.For(ctx, s.pause.NextBackOff()) {
				break
			}
		}
	}
}

// hopeless reports whether a store will no longer take this streamer's
// checkpoints.
func hopeless(err error) bool {
	return errors.Is(err, checkpoint.ErrClaimed) || errors.Is(err, kafka.ErrFenced) || failure.ClassOf(err) == failure.Refused
}

// attempt stores what is wanted now.
func (s *saver) attempt(ctx context.Context) error {
	s.saving <- struct{}{}
	defer func() { <-s.saving }()
	s.mu.Lock()
	r := s.wanted
	s.mu.Unlock()
	if r == nil {
		return nil
	}
	timed, cancel := context.WithTimeout(ctx, saveTimeout)
	defer cancel()
	err := s.store.Save(timed, r.Record)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
	if err == nil {
		s.saved, s.since = *r, time.Now()
		if s.wanted == r {
			s.wanted = nil
		}
	}
	return err
}

// waitIdle discards what is waiting to be stored, and waits for a running save,
// so that lastSaved and the store agree.
func (s *saver) waitIdle(ctx context.Context) error {
	s.mu.Lock()
	s.wanted = nil
	s.mu.Unlock()
	select {
	case s.saving <- struct{}{}:
		<-s.saving
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// moveTo stores the checkpoint again with the timeline and the server run in
// which its history continues.
func (s *saver) moveTo(ctx context.Context, h history) error {
	if historyIn(s.lastSaved().Record) == h {
		return nil
	}
	return s.amend(ctx, func(r *checkpoint.Record) { r.Timeline, r.Started = h.timeline, h.started })
}

// dispute records in the store that this is not the history in which the
// checkpoint was made.
func (s *saver) dispute(ctx context.Context) error {
	return s.amend(ctx, func(r *checkpoint.Record) { r.Disputed = true })
}

// amend changes the stored checkpoint and stores it again. Nothing else may be
// requested from the saver meanwhile.
func (s *saver) amend(ctx context.Context, change func(*checkpoint.Record)) error {
	if err := s.waitIdle(ctx); err != nil {
		return err
	}
	r := s.lastSaved()
	change(&r.Record)
	r.SavedAt = time.Now().UTC()
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	if err := s.store.Save(ctx, r.Record); err != nil {
		return fmt.Errorf("save checkpoint: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.saved = r
	return nil
}

// lastSaved is the newest resume point that is safely stored.
func (s *saver) lastSaved() resumePoint {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.saved
}

// age is how long ago the newest checkpoint was stored.
func (s *saver) age() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return time.Since(s.since)
}

// lastKnown is lastSaved with what has since been seen of the publication.
func (s *saver) lastKnown() resumePoint {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.saved
	r.Publication = s.publication
	return r
}

// remember notes the stream's current position, and returns its past positions.
func (s *saver) remember(now time.Time, keep time.Duration) []checkpoint.Moment {
	s.mu.Lock()
	defer s.mu.Unlock()
	// Rounded up: the moment must not be before now.
	s.past = checkpoint.Remember(s.past, checkpoint.Moment{At: now.Truncate(time.Millisecond).Add(time.Millisecond), LSN: s.saved.LSN}, keep)
	return s.past
}

// notePublication notes why the table is published now.
func (s *saver) notePublication(membership string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.publication = membership
}

// failed is why the last attempt did not succeed, or nil.
func (s *saver) failed() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// ended is why no further request will be stored, or nil.
func (s *saver) ended() error {
	if err := s.failed(); hopeless(err) {
		return fmt.Errorf("save checkpoint: %w", err)
	}
	return nil
}

func (s *saver) close() {
	s.cancel()
	s.running.Wait()
}

// problem is why a checkpoint is not stored, for an error text.
func (s *saver) problem() error {
	if err := s.failed(); err != nil {
		return err
	}
	return errors.New("the checkpoint store has not answered")
}
