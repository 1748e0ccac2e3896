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

// Replay is a part of the past that is to be published again: of what commits
// between the position of the slot, which was made for it, and Until, the
// events that the other fields let through. Nil lets everything through.
type Replay struct {
	ID       string // marks the records
	Request  string // what was asked for; see checkpoint.Replay
	StreamID string // of the stream whose past it is
	From     replication.LSN
	Until    replication.LSN // the same as Config.Until

	Since, Before  time.Time // of commits: at or after the one, before the other; zero is no limit
	AggregateTypes []string  // patterns
	Keys, Topics   []string  // as they are in Kafka
	// IDs are those of events, nil for all.
	IDs map[string]struct{}

	Rate int // events per second, 0 for no limit
	// Reached is told, by the reading goroutine, up to where everything has been
	// published again.
	Reached func(replication.LSN)
}

var (
	// errComplete ends what has come to Config.Until.
	errComplete = errors.New("everything that was asked for is published")
	// errInterrupted ends a replay within a transaction, because it was asked to
	// stop: what is left is published when it goes on.
	errInterrupted = errors.New("replay is interrupted")
)

const (
	// disorder is how far the times of commits may be from the order of the log:
	// a server takes the time before it writes the record.
	disorder = time.Minute
	// shortestPause is what a throttled replay waits at least: shorter pauses add
	// up.
	shortestPause = 5 * time.Millisecond
)

func (r *Replay) stored() *checkpoint.Replay {
	return &checkpoint.Replay{ID: r.ID, Request: r.Request, From: r.From.String(), Until: r.Until.String()}
}

// owns reports whether a record is of this replay.
func (r *Replay) owns(record checkpoint.Record) bool {
	return record.Replay != nil && record.Replay.ID == r.ID
}

// passed tells that nothing behind an event can be wanted.
func (r *Replay) passed(e *decoder.Event) bool {
	return !r.Before.IsZero() && time.UnixMicro(e.CommitTime).After(r.Before.Add(disorder))
}

// wants tells whether an event is to be published again. One that cannot be
// routed is: the producer will say why not.
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

// limiter paces a replay; nil does not.
func (r *Replay) limiter() *rate.Limiter {
	if r.Rate == 0 {
		return nil
	}
	return rate.NewLimiter(rate.Limit(r.Rate), 1)
}

// admit decides about an event of a replay, and waits for its time.
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

// throttle lets time pass, while everything else goes on.
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

// complete notes that nothing is left to be published.
func (s *session) complete() error {
	if last, awaited := s.flow.passage.Furthest(); awaited {
		return failure.Refuse(fmt.Errorf("rows up to %s are published, above --until %s: whoever begins there repeats them", last, s.config.Until))
	}
	s.purpose.complete()
	end := max(s.config.Until, s.confirmer.read)
	if err := s.reach(end); err != nil {
		return err
	}
	s.reader.Received(end)
	return errComplete
}
