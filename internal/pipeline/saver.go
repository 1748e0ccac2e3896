package pipeline

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/outboxstream/streamer/checkpoint"
)

// saver stores checkpoints on a goroutine of its own, because a store may take
// its time; only the newest matters.
type saver struct {
	store        checkpoint.Store
	notify       func()
	transactions transactions

	requests chan checkpoint.Record
	cancel   context.CancelFunc
	running  sync.WaitGroup

	saving sync.Mutex // held during a save

	mu   sync.Mutex
	last checkpoint.Record
	past []checkpoint.Moment // goes into the next record
	err  error               // of the last attempt
}

const saveTimeout = 30 * time.Second

func newSaver(store checkpoint.Store, last checkpoint.Record, notify func()) *saver {
	s := &saver{store: store, notify: notify, last: last, past: last.Past, requests: make(chan checkpoint.Record, 1)}
	s.transactions.note(last.LSN, last.NextTransaction)
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel = cancel
	s.running.Go(func() { s.run(ctx) })
	return s
}

// save asks for lsn to be stored, unless a save is waiting already. It reports
// whether the request was taken.
func (s *saver) save(lsn checkpoint.LSN, topics map[string]checkpoint.Topic, last *checkpoint.Event) bool {
	r := s.lastSaved()
	r.LSN, r.Topics, r.Past = lsn, topics, s.moments()
	r.NextTransaction = s.transactions.at(lsn)
	if last != nil {
		r.Last = last
	}
	r.SavedAt = time.Now().UTC()
	select {
	case s.requests <- r:
		return true
	default:
		return false
	}
}

func (s *saver) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case r := <-s.requests:
			s.attempt(ctx, r)
			s.notify()
		}
	}
}

func (s *saver) attempt(ctx context.Context, r checkpoint.Record) {
	s.saving.Lock()
	defer s.saving.Unlock()
	timed, cancel := context.WithTimeout(ctx, saveTimeout)
	defer cancel()
	err := s.store.Save(timed, r)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
	if err == nil {
		s.last = r
	}
}

// rest drops a waiting request and waits for a running one, so that lastSaved
// and the store agree.
func (s *saver) rest() {
	select {
	case <-s.requests:
	default:
	}
	s.saving.Lock()
	defer s.saving.Unlock()
}

// lastSaved is the newest record that is safely stored.
func (s *saver) lastSaved() checkpoint.Record {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last
}

// remember notes where the stream stands now, and returns where it has stood.
func (s *saver) remember(now time.Time, keep time.Duration) []checkpoint.Moment {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.past = checkpoint.Remember(s.past, checkpoint.Moment{At: now.Truncate(time.Millisecond).Add(time.Millisecond), LSN: s.last.LSN}, keep) // not before now
	return s.past
}

func (s *saver) moments() []checkpoint.Moment {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.past
}

// failed is why the last attempt did not succeed, or nil.
func (s *saver) failed() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
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
