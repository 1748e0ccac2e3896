package find

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/outboxstream/streamer/cmd/streamer/internal/console"
	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/internal/locate"
	"github.com/outboxstream/streamer/router/kafka"
)

// lookAtTopics looks for the records: at the position, where rows and the ID say
// that they should be, and from the ends of the partitions backwards.
func (s *search) lookAtTopics(ctx context.Context) error {
	if s.kafka == nil {
		return nil
	}
	topics, err := s.topics()
	if err != nil {
		return err
	}
	s.lookAtPosition(ctx, topics)
	for _, e := range slices.Clone(s.events) {
		s.lookFor(ctx, e, topics)
	}
	if at, ok := timeOf(s.asked.id); ok && len(s.events) == 0 {
		// The ID says when it was made. The record confirms it, or nothing does.
		home, _ := s.homes(ctx, s.askedKey(), topics)
		s.look(ctx, home, atTime(at))
	}
	if s.asked.id != "" && !s.settled() {
		if err := s.lookAhead(ctx, topics); err != nil {
			return err
		}
	}
	exact := s.asked.id == "" && s.asked.at.Commit != 0 // there is one place for it
	if s.command.Scan || !exact && !s.settled() {
		s.lookBackwards(ctx, topics)
	}
	s.latest()
	for _, e := range s.events {
		s.lookForCopies(ctx, e)
		e.sortRecords()
	}
	return nil
}

// lookAhead looks into the slots before topics are read backwards, where that
// takes little time, or where the event is not where its row says that it should
// be. What waits there has a position, and if it is in Kafka all the same, because
// that was not confirmed yet, the position says where.
func (s *search) lookAhead(ctx context.Context, topics []string) error {
	const little = 32 << 20 // bytes of WAL
	missed := len(s.events) > 0 && !slices.ContainsFunc(s.events, func(e *Event) bool { return !e.complete })
	for _, m := range s.members {
		if m.lost != "" || int64(m.slot.Flushed-m.confirmed()) > little && !missed {
			return nil
		}
	}
	if err := s.lookAtSlots(ctx); err != nil {
		return err
	}
	for _, e := range slices.Clone(s.events) {
		if e.Waits == nil {
			continue
		}
		home, _ := s.homes(ctx, e.key, topicsOf(e, topics))
		s.look(ctx, home, atPosition(e.at, e.Waits.streams))
	}
	return nil
}

// topicsOf are the topics in which an event should be.
func topicsOf(e *Event, topics []string) []string {
	switch {
	case e.Row != nil && e.Row.Topic != "":
		return []string{e.Row.Topic}
	case e.Waits != nil && e.Waits.Topic != "":
		return []string{e.Waits.Topic}
	}
	return topics
}

func (s *search) askedKey() []byte {
	if s.asked.key == nil {
		return nil
	}
	return []byte(*s.asked.key)
}

// homes returns the partitions in which the records of a key are, and the others
// of the same topics, in which they may have been before topics had grown. Where
// the key is not known, all are possible.
func (s *search) homes(ctx context.Context, key []byte, topics []string) (home, others []kafka.Log) {
	for _, topic := range topics {
		logs := s.partitions(ctx, topic)
		if len(logs) == 0 {
			continue
		}
		if key == nil {
			home = append(home, logs...)
			continue
		}
		of := kafka.NewPartitioner(s.cfg.Kafka.Partitioner, topic).Of(key, len(logs))
		for _, log := range logs {
			if log.Partition == of {
				home = append(home, log)
			} else {
				others = append(others, log)
			}
		}
	}
	return home, others
}

// lookAtPosition looks at the position that was asked for.
func (s *search) lookAtPosition(ctx context.Context, topics []string) {
	if s.asked.at.Commit == 0 {
		return
	}
	home, others := s.homes(ctx, s.askedKey(), topics)
	streams := [][]string{nil} // without a server any stream will do
	if len(s.members) > 0 {
		streams = streams[:0]
		for _, m := range s.members {
			streams = append(streams, m.streams)
		}
	}
	for _, logs := range [][]kafka.Log{home, others} {
		for _, of := range streams {
			s.look(ctx, logs, atPosition(s.asked.at, of))
		}
		if s.settled() {
			return
		}
	}
}

// lookFor looks for the records of an event of which the row is known, or a dead
// letter.
func (s *search) lookFor(ctx context.Context, e *Event, topics []string) {
	if e.own() {
		return
	}
	topics = topicsOf(e, topics)
	key := e.key
	if key == nil {
		key = s.askedKey()
	}
	home, others := s.homes(ctx, key, topics)
	for _, at := range e.times() {
		complete, gone := s.look(ctx, home, atTime(at))
		if e.complete = e.complete || complete && len(home) > 0; e.own() {
			return
		}
		e.gone = gone
		if s.look(ctx, others, atTime(at)); e.own() {
			return
		}
	}
}

// times are those at about which an event may have been committed, the best
// first.
func (e *Event) times() (times []time.Time) {
	if !e.CommittedAt.IsZero() {
		times = append(times, e.CommittedAt)
	}
	if e.Row != nil {
		for _, at := range []time.Time{e.Row.Time, e.Row.WrittenAt} {
			if !at.IsZero() && !slices.ContainsFunc(times, at.Equal) {
				times = append(times, at)
			}
		}
	}
	if at, ok := timeOf(e.ID); ok && len(times) == 0 {
		times = append(times, at)
	}
	return times
}

// settled reports whether nothing more has to be looked for in the topics: every
// event was found there, or in a slot, or among the dead letters. One that is not
// where its row says may be elsewhere, unless more waits than could be read.
func (s *search) settled() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.asked.id == "" && s.asked.key != nil && s.asked.at.Commit == 0 {
		return false // there may be more events of the key
	}
	for _, e := range s.events {
		late := e.complete && s.slotsAsked && !s.slotRead
		if !e.own() && e.Waits == nil && e.DeadLetter == nil && !late {
			return false
		}
	}
	return len(s.events) > 0
}

// enough reports whether reading backwards has found what was asked for.
func (s *search) enough() bool {
	if s.command.Scan {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	found := 0
	for _, e := range s.events {
		if e.own() || e.foreign() {
			found++
		}
	}
	if s.asked.id != "" {
		return found > 0
	}
	return found >= int(s.command.Limit)
}

// lookBackwards reads the partitions from their ends, because what is looked for
// is most often recent. Without a limit of time, it goes on in the partitions of
// the topics in which the key was before they had grown.
func (s *search) lookBackwards(ctx context.Context, topics []string) {
	key := s.askedKey()
	if key == nil && len(s.events) == 1 {
		key = s.events[0].key
	}
	home, others := s.homes(ctx, key, topics)
	read := s.readBackwards(ctx, home)
	if s.command.Scan && !s.inKafka() {
		read = append(read, s.readBackwards(ctx, others)...)
	}
	if !s.enough() {
		s.noteUnread(ctx, topics, read, key != nil)
	}
}

// inKafka reports whether a record was found.
func (s *search) inKafka() bool {
	return slices.ContainsFunc(s.events, func(e *Event) bool { return len(e.Records) > 0 })
}

// readBackwards returns what it has read.
func (s *search) readBackwards(ctx context.Context, logs []kafka.Log) []kafka.Log {
	for i := range logs {
		logs[i] = s.limits(ctx, logs[i])
	}
	timed, cancel := s.limited(ctx)
	defer cancel()
	read, err := locate.Backwards(timed, s.scanner(), logs, parallel, func(log kafka.Log, r *kafka.LogRecord) { s.take(log, r) }, s.enough)
	if err != nil {
		s.note("topics: %s", failure.Describe(err))
	}
	for _, part := range read {
		whole := part
		whole.Start = s.startOf(part)
		s.part(whole).add(part.From, part.End)
	}
	return read
}

func (s *search) startOf(log kafka.Log) int64 {
	for _, l := range s.logs[log.Topic] {
		if l.Partition == log.Partition {
			return l.Start
		}
	}
	return log.Start
}

// noteUnread says how far partitions were read, and how to read more.
func (s *search) noteUnread(ctx context.Context, topics []string, read []kafka.Log, keyed bool) {
	var unread, all, deleted int64
	since := time.Time{}
	const most = 8 // partitions that are asked for a time
	for i, part := range read {
		start := s.startOf(part)
		all += part.End - start
		unread += part.From - start
		deleted += start
		if part.From == start || part.From == part.End || i >= most {
			continue
		}
		if at, ok := s.timeAt(ctx, part); ok && at.After(since) {
			since = at
		}
	}
	if unread == 0 {
		s.wholeRead = !s.unreadable
		for _, e := range s.events {
			if deleted > 0 && !e.complete {
				e.gone = "not all partitions begin at offset 0: earlier records have been deleted"
			}
		}
		return
	}
	where := fmt.Sprintf("%d topics", len(topics))
	if len(topics) == 1 {
		where = fmt.Sprintf("topic %q", topics[0])
	}
	text := fmt.Sprintf("%s of %s records of %s", console.Grouped(unread), console.Grouped(all), where)
	if !since.IsZero() {
		text += ", those from before about " + since.UTC().Format(time.RFC3339)
	}
	if s.asked.id == "" {
		s.note("%s, in which older events may be: give --since and --until, or --scan, which reads them all", text)
		return
	}
	remedy := "give --since and --until, or --lsn; or --scan, which reads them all"
	if !keyed {
		remedy = "give --key, which says the partition, and --since and --until, or --lsn; or --scan, which reads them all"
	}
	s.note("%s: nothing says where in them it is: %s", text, remedy)
}

// timeAt is the time of the first record of a part.
func (s *search) timeAt(ctx context.Context, part kafka.Log) (at time.Time, ok bool) {
	part.Small = true
	_ = s.scanner().Scan(ctx, part, func(r *kafka.LogRecord) error { // without a time the note is shorter
		at, ok = r.Time, true
		return errEnough
	})
	return at, ok
}
