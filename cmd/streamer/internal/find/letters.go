package find

import (
	"context"
	"slices"

	"github.com/outboxstream/streamer/cmd/streamer/internal/deadletter"
	"github.com/outboxstream/streamer/cmd/streamer/internal/site"
	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/router"
)

// lookAtLetters looks for the event among the dead letters.
func (s *search) lookAtLetters(ctx context.Context) error {
	topic := s.cfg.Poison.Topic
	if s.kafka == nil || !slices.Contains(s.names, topic) {
		return nil // there never was one
	}
	timed, cancel := s.limited(ctx)
	defer cancel()
	letters, err := router.Letters(timed, s.kafka, topic, site.Rules(s.cfg))
	switch {
	case ctx.Err() != nil:
		return nil
	case timed.Err() != nil:
		s.note("dead letters in topic %q: they were not read to the end within %s: use --scan, or `streamer dead-letters list --all`",
			topic, s.command.Timeout)
		return nil
	case err != nil:
		s.note("dead letters: %s", failure.Describe(err))
		return nil
	}
	for _, l := range letters {
		if s.asked.wants([]byte(l.EventID), []byte(l.Key), l.Position) {
			s.addLetter(l)
		}
	}
	return nil
}

// addLetter adds a dead letter to the event of its table.
func (s *search) addLetter(l router.Letter) {
	var of *Event
	for _, e := range s.events {
		if e.ID == l.EventID && (e.Row == nil || l.Table == "" || e.Row.Table == l.Table) && e.DeadLetter == nil {
			of = e
		}
	}
	if of == nil {
		of = &Event{ID: l.EventID, Records: []Record{}, Groups: []Group{}}
		s.events = append(s.events, of)
	}
	shown := deadletter.Describe(l)
	of.DeadLetter = &shown
	of.locate(l.Position, l.CommitTime)
}
