package find

import (
	"context"
	"slices"
	"time"

	"github.com/outboxstream/streamer/checkpoint"
	"github.com/outboxstream/streamer/cmd/streamer/internal/deadletter"
	"github.com/outboxstream/streamer/cmd/streamer/internal/site"
	"github.com/outboxstream/streamer/replication"
	"github.com/outboxstream/streamer/router"
	"github.com/outboxstream/streamer/router/kafka"
)

// delay is how old the time of a record is at most when it is published
// (docs/adr/0010), with a margin for clocks.
const delay = 11 * time.Minute

// lookForCopies looks for further records of an event: repeats after the first,
// those of the last replay, and that of a dead letter that was retried.
func (s *search) lookForCopies(ctx context.Context, e *Event) {
	if s.kafka == nil {
		return
	}
	for _, r := range slices.Clone(e.Records) {
		s.near(ctx, r)
	}
	for _, m := range s.members {
		if last := s.lastReplay(ctx, m); last != nil && last.holds(e.at) {
			s.look(ctx, s.during(ctx, s.homesOf(ctx, e), last.from, last.to), inReplay(e.at, last.id))
		}
	}
	s.lookForRetried(ctx, e)
}

// homesOf are the partitions in which an event is, or should be.
func (s *search) homesOf(ctx context.Context, e *Event) (home []kafka.Log) {
	var topics []string
	if e.Row != nil && e.Row.Topic != "" {
		topics = append(topics, e.Row.Topic)
	}
	for _, r := range e.Records {
		topics = append(topics, r.Topic)
	}
	if len(topics) == 0 {
		topics, _ = s.topics()
	}
	slices.Sort(topics)
	home, _ = s.homes(ctx, e.key, slices.Compact(topics))
	return home
}

// during narrows partitions to what was published at some time. What is published
// late has a record with a time of up to delay before.
func (s *search) during(ctx context.Context, logs []kafka.Log, from, to time.Time) (narrowed []kafka.Log) {
	for _, log := range logs {
		sought := log
		if s.kafka.Seek(ctx, &sought, from.Add(-delay)) == nil {
			log.Start, log.From = sought.From, sought.From
		}
		if sought = log; !to.IsZero() && s.kafka.Seek(ctx, &sought, to.Add(early)) == nil {
			log.End = sought.From
		}
		narrowed = append(narrowed, log)
	}
	return narrowed
}

// replayed is what a replay has published.
type replayed struct {
	id         string
	from, to   time.Time // when it published
	low, until replication.LSN
}

func (r *replayed) holds(at replication.Position) bool {
	return at.Commit >= r.low && at.Commit < r.until
}

// lastReplay returns the last replay of a stream, nil if there was none or if
// nothing is known about it: the next one overwrites what is stored.
func (s *search) lastReplay(ctx context.Context, m *member) *replayed {
	cfg := site.Replaying(m.cfg)
	if !m.replayAsked {
		m.replayAsked = true
		m.replay, _ = s.checkpoint(ctx, cfg) // there is none, mostly
	}
	return replayOfRecord(m.replay)
}

func replayOfRecord(r checkpoint.Record) *replayed {
	if r.Replay == nil {
		return nil
	}
	begun, err := time.Parse(time.RFC3339, r.Replay.ID)
	low, bad := replication.ParseLSN(r.Replay.From)
	until, worse := replication.ParseLSN(r.Replay.Until)
	if err != nil || bad != nil || worse != nil {
		return nil
	}
	return &replayed{id: r.Replay.ID, from: begun, to: r.SavedAt, low: low, until: until}
}

// lookForRetried looks for the record of a dead letter that was retried: it was
// published shortly before the decision was recorded.
func (s *search) lookForRetried(ctx context.Context, e *Event) {
	if !isRetried(e.DeadLetter) {
		return
	}
	at := e.DeadLetter.ResolvedAt
	for _, before := range []time.Duration{early, delay} {
		for _, log := range s.homesOf(ctx, e) {
			if s.hasLate(e) {
				return
			}
			part := log
			if s.kafka.Seek(ctx, &part, at.Add(-before)) != nil {
				continue
			}
			if _, err := s.readOn(ctx, part, until(at.Add(early))); err != nil {
				s.note("topic %q partition %d: %s", log.Topic, log.Partition, err)
			}
		}
	}
}

func isRetried(l *deadletter.Letter) bool { return l != nil && l.State == router.Retried }

func (s *search) hasLate(e *Event) bool {
	return slices.ContainsFunc(e.Records, func(r Record) bool { return r.Kind == Late })
}
