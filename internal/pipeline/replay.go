package pipeline

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"time"

	"golang.org/x/time/rate"

	"github.com/outboxstream/streamer/checkpoint"
	"github.com/outboxstream/streamer/decoder"
	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/replication"
	"github.com/outboxstream/streamer/router"
)

// Replay is a part of the past that is to be published again. It begins at the
// position of the slot, which was created for the replay, and ends at Until.
// The other fields select events from what commits in between. A nil field
// selects all.
type Replay struct {
	ID       string // marks the records
	Request  string // what was requested; see checkpoint.Replay
	StreamID string // of the stream that is replayed
	From     replication.LSN
	Until    replication.LSN // the same as Config.Until

	Since, Before  time.Time // commits at or after Since and before Before; zero is no limit
	AggregateTypes []string  // patterns
	Keys, Topics   []string  // as in Kafka
	// IDs are event IDs, nil for all.
	IDs map[string]struct{}

	Rate int // events per second, 0 for no limit
	// Reached receives the LSN below which everything has been published again.
	// The reading goroutine calls it.
	Reached func(replication.LSN)
}

var (
	// errComplete ends a session that has reached Config.Until, or has nothing
	// left to publish.
	errComplete = errors.New("everything requested is published")
	// errInterrupted ends a replay within a transaction because it was asked to
	// stop. The rest is published when the replay continues.
	errInterrupted = errors.New("replay was interrupted")
)

const (
	// disorder is how far commit times may deviate from the order of the WAL: a
	// server takes the time before it writes the record.
	disorder = time.Minute
	// shortestPause is the shortest wait of a throttled replay. Shorter pauses add
	// up.
	shortestPause = 5 * time.Millisecond
)

func (r *Replay) stored() *checkpoint.Replay {
	return &checkpoint.Replay{ID: r.ID, Request: r.Request, From: r.From.String(), Until: r.Until.String()}
}

// owns reports whether a record belongs to this replay.
func (r *Replay) owns(record checkpoint.Record) bool {
	return record.Replay != nil && record.Replay.ID == r.ID
}

// passed reports whether nothing after an event can be wanted.
func (r *Replay) passed(e *decoder.Event) bool {
	return !r.Before.IsZero() && time.UnixMicro(e.CommitTime).After(r.Before.Add(disorder))
}

// wants reports whether an event is to be published again. An event that cannot
// be routed is wanted: the producer reports the reason.
func (r *Replay) wants(e *decoder.Event, routes *router.Router) bool {
	if _, named := r.IDs[string(e.Attribute(decoder.ID))]; !named && r.IDs != nil {
		return false
	}
	at := time.UnixMicro(e.CommitTime)
	if at.Before(r.Since) || !r.Before.IsZero() && !at.Before(r.Before) {
		return false
	}
	if len(r.AggregateTypes) > 0 && !slices.ContainsFunc(r.AggregateTypes, func(pattern string) bool {
		matches, _ := path.Match(pattern, string(e.Attribute(decoder.AggregateType))) // the pattern was checked
		return matches
	}) {
		return false
	}
	if len(r.Keys)+len(r.Topics) == 0 {
		return true
	}
	d, err := routes.Route(e)
	return err != nil ||
		(len(r.Keys) == 0 || slices.Contains(r.Keys, string(d.Key))) &&
			(len(r.Topics) == 0 || slices.Contains(r.Topics, string(d.Topic)))
}

// limiter paces a replay. It is nil without a limit.
func (r *Replay) limiter() *rate.Limiter {
	if r.Rate == 0 {
		return nil
	}
	return rate.NewLimiter(rate.Limit(r.Rate), 1)
}

// admit decides whether to publish an event of a replay, and waits for its
// time.
func (s *session) admit(r *Replay, e *decoder.Event) (wanted bool, err error) {
	if r.passed(e) {
		return false, s.complete()
	}
	if !r.wants(e, s.flow.routes) {
		return false, nil
	}
	if s.limiter == nil {
		return true, nil
	}
	if wait := s.limiter.Reserve().Delay(); wait >= shortestPause {
		return true, s.throttle(time.Now().Add(wait))
	}
	return true, nil
}

// throttle waits until a time while everything else continues.
func (s *session) throttle(until time.Time) error {
	for time.Now().Before(until) {
		s.flow.producer.Flush(false)
		s.flow.await(until)
		if err := s.collect(); err != nil {
			return err
		}
		if s.due.Load() {
			if err := s.tick(); err != nil {
				return err
			}
		}
		if !s.stopping.IsZero() {
			return errInterrupted
		}
	}
	return nil
}

// endAtUntil ends the session where Config.Until is reached.
func (s *session) endAtUntil(at replication.LSN) error {
	if s.config.Until == 0 || at < s.config.Until {
		return nil
	}
	return s.complete()
}

// complete notes that nothing is left to publish.
func (s *session) complete() error {
	if last, awaited := s.flow.passage.Furthest(); awaited {
		return failure.Refuse(fmt.Errorf(
			"rows up to %s are published, beyond --until %s: a streamer that begins there repeats them",
			last, s.config.Until,
		))
	}
	s.purpose.complete()
	end := max(s.config.Until, s.confirmer.read)
	if err := s.reach(end); err != nil {
		return err
	}
	s.reader.Received(end)
	return errComplete
}
