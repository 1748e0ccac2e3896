package pipeline

import (
	"errors"
	"maps"

	"github.com/outboxstream/streamer/decoder"
	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/replication"
	"github.com/outboxstream/streamer/router"
)

// condemn notes a row that the broker will never accept, so that it becomes a
// dead letter when it reappears. It reports whether that can help. What was
// sent after the row has to be discarded first, which takes a new producer.
func (p *Pipeline) condemn(err error) bool {
	poison, ok := errors.AsType[*router.PoisonError](err)
	if !ok || !poison.Late || !p.purpose.passes(p.config.Rules) {
		return false
	}
	if _, again := p.condemned[poison.Position]; again {
		return false
	}
	if p.condemned == nil {
		p.condemned = map[replication.Position]*router.PoisonError{}
	}
	p.condemned[poison.Position] = poison
	return true
}

// pardon forgets condemned rows that a checkpoint has passed. Until then they
// may reappear in the stream.
func (p *Pipeline) pardon() {
	stored := p.stored()
	maps.DeleteFunc(p.condemned, func(at replication.Position, _ *router.PoisonError) bool { return at.Commit < stored })
}

// bury makes a row that can never be published a dead letter. Where that is not
// possible, err ends the process.
func (s *session) bury(e *decoder.Event, err error, class router.PoisonClass) error {
	letter := s.letter(e)
	if !s.flow.producer.Buries(e.Table, letter.AggregateType) && !s.flow.passage.Alone(e.Position) {
		return failure.Refuse(withWayPast(err))
	}
	letter.Position, letter.CommitTime = e.Position, e.CommitTime
	letter.Class, letter.Reason = class, router.Reason(err)
	result, err := s.hand(func() (router.Result, error) { return s.flow.producer.Bury(&letter) })
	if err != nil {
		return err
	}
	if result == router.Appended {
		s.noteBuried(&letter)
	}
	return nil
}

// noteBuried reports that a row has become a dead letter.
func (g ground) noteBuried(l *router.DeadLetter) {
	g.config.Metrics.DeadLetter(string(l.Class))
	g.log.Error("row cannot be published and went to the dead letters: see `streamer dead-letters list`",
		"topic", g.config.Rules.DeadLetterTopic, "event_id", l.EventID, "position", l.Position.String(),
		"class", string(l.Class), "reason", l.Reason)
}

// letter returns the last decoded row as a dead letter.
func (s *session) letter(e *decoder.Event) router.DeadLetter {
	letter := router.NewDeadLetter(s.config.Rules.Tables[e.Table], s.decoder.Columns())
	letter.Name(e)
	letter.Source = string(s.flow.routes.Source(e))
	return letter
}

// withWayPast adds to the error about a row that stops the stream how to get
// past the row.
func withWayPast(err error) error {
	return failure.Advise(err, "to get past the row, run `streamer setup --set poison.policy=dead-letter`, then "+
		"`streamer run --set poison.policy=dead-letter` (docs/dead-letters.md); "+
		"deleting the row does not help, because its insert is in the WAL")
}

// passOver reports that a row is left out of a replay.
func (g ground) passOver(class router.PoisonClass, err error, where ...any) {
	g.config.Metrics.DeadLetter(string(class))
	where = append(where, "class", string(class), "reason", router.Reason(err))
	g.log.Warn("row cannot be published in the replay and is passed over", where...)
}
