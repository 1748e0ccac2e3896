package find

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/outboxstream/streamer/cmd/streamer/internal/site"
	"github.com/outboxstream/streamer/internal/config"
	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/internal/verify"
	"github.com/outboxstream/streamer/router"
	"github.com/outboxstream/streamer/router/kafka"
	"github.com/outboxstream/streamer/router/wire"
)

// parallel is how many partitions are read at the same time.
const parallel = 4

// topics lists the topics in which the event can be.
func (s *search) topics() ([]string, error) {
	if len(s.command.Topic) > 0 {
		return slices.Compact(slices.Sorted(slices.Values(s.command.Topic))), nil
	}
	known, prefixes, err := site.KnownTopics(s.cfg, s.server.Database)
	if err != nil {
		return nil, err
	}
	var found []string
	for _, topic := range s.names {
		checkpoints := s.cfg.Checkpoint.Store == config.StoreKafka && topic == s.cfg.Checkpoint.Kafka.Topic
		if kafka.IsAmong(topic, known, prefixes) && !checkpoints && topic != s.cfg.Poison.Topic && !isInternal(topic) {
			found = append(found, topic)
		}
	}
	return found, nil
}

func isInternal(topic string) bool { return len(topic) > 1 && topic[:2] == "__" }

// partitions returns the extents of a topic's partitions, none if it does not
// exist or cannot be read.
func (s *search) partitions(ctx context.Context, topic string) []kafka.Log {
	if logs, known := s.logs[topic]; known {
		return logs
	}
	s.logs[topic] = nil
	if !slices.Contains(s.names, topic) {
		s.missing, s.unreadable = append(s.missing, topic), true
		return nil
	}
	logs, err := s.kafka.Logs(ctx, topic)
	if err != nil && ctx.Err() == nil {
		s.unreadable = true
		s.note("topic %q: %s", topic, failure.Describe(err))
	}
	for i := range logs {
		logs[i].From = logs[i].Start
	}
	s.logs[topic] = logs
	return logs
}

// readPart is what was read of a partition.
type readPart struct {
	log   kafka.Log
	spans [][2]int64 // sorted, without overlaps
}

// add adds a range of offsets.
func (p *readPart) add(from, to int64) {
	if from >= to {
		return
	}
	all := slices.Concat(p.spans, [][2]int64{{from, to}})
	slices.SortFunc(all, func(a, b [2]int64) int { return int(min(max(a[0]-b[0], -1), 1)) })
	joined := all[:1]
	for _, next := range all[1:] {
		if last := &joined[len(joined)-1]; next[0] <= last[1] {
			last[1] = max(last[1], next[1])
		} else {
			joined = append(joined, next)
		}
	}
	p.spans = joined
}

func (s *search) part(log kafka.Log) *readPart {
	at := kafka.TopicPartition{Topic: log.Topic, Partition: log.Partition}
	if s.read[at] == nil {
		s.read[at] = &readPart{log: log}
	}
	return s.read[at]
}

// counting counts the records that a scan passes on.
type counting struct {
	client *kafka.Client
	count  *int64
}

// Scan is that of the client.
func (c counting) Scan(ctx context.Context, log kafka.Log, visit func(*kafka.LogRecord) error) error {
	return c.client.Scan(ctx, log, func(r *kafka.LogRecord) error {
		atomic.AddInt64(c.count, 1)
		return visit(r)
	})
}

func (s *search) scanner() counting { return counting{s.kafka, &s.records} }

// take adds a record if it is of an event that was asked for. It returns the
// event, and what the record of a streamer says.
func (s *search) take(log kafka.Log, r *kafka.LogRecord) (*Event, *verify.Head) {
	head, own := verify.ReadHead(r)
	if !own {
		return s.takeForeign(log, r), nil
	}
	if !s.asked.wantsRecord(&head, r.Key) {
		return nil, &head
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.event(string(head.ID), string(head.Source))
	e.Type = string(head.Type)
	e.locate(head.Position, head.Committed)
	if e.key == nil {
		e.key = bytes.Clone(r.Key)
	}
	e.add(Record{
		Topic: log.Topic, Partition: log.Partition, Offset: r.Offset, Timestamp: r.Time.UTC(),
		Kind: kindOf(&head), Replay: replayOf(&head), Stream: string(head.Stream), at: head.Position,
	})
	return e, &head
}

func kindOf(h *verify.Head) Kind {
	switch {
	case string(h.Replay) == wire.ReplayDeadLetter:
		return Late
	case string(h.Replay) == wire.ReplayTakeOver:
		return TakenUp
	case h.Late():
		return Replayed
	case h.Snapshot:
		return OldRow
	}
	return InTurn
}

func replayOf(h *verify.Head) string {
	if kindOf(h) != Replayed {
		return ""
	}
	return string(h.Replay)
}

// takeForeign adds the record of another program.
func (s *search) takeForeign(log kafka.Log, r *kafka.LogRecord) *Event {
	theirs, foreign := router.ReadForeign(r.Headers, "")
	if !foreign || s.asked.at.Commit != 0 && s.asked.id == "" || !s.asked.wants(theirs.ID, r.Key, s.asked.at) {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.event(string(theirs.ID), string(theirs.Source))
	if e.key == nil {
		e.key = bytes.Clone(r.Key)
	}
	e.add(Record{Topic: log.Topic, Partition: log.Partition, Offset: r.Offset, Timestamp: r.Time.UTC(), Kind: Foreign})
	return e
}

// add adds a record that was not met before. What comes in its turn a second
// time is a repeat.
func (e *Event) add(r Record) {
	same := func(have Record) bool {
		return have.Topic == r.Topic && have.Partition == r.Partition && have.Offset == r.Offset
	}
	if slices.ContainsFunc(e.Records, same) {
		return
	}
	e.Records = append(e.Records, r)
}

// sortRecords puts the records in the order in which they were published, as far
// as that shows, and tells repeats from the first.
func (e *Event) sortRecords() {
	slices.SortStableFunc(e.Records, func(a, b Record) int {
		if a.Topic == b.Topic && a.Partition == b.Partition {
			return int(min(max(a.Offset-b.Offset, -1), 1))
		}
		return a.Timestamp.Compare(b.Timestamp)
	})
	first := map[string]bool{} // by stream and position
	for i := range e.Records {
		r := &e.Records[i]
		if r.Kind != InTurn && r.Kind != OldRow {
			continue
		}
		if name := fmt.Sprint(r.Stream, r.at); first[name] {
			r.Kind = Repeat
		} else {
			first[name] = true
		}
	}
}

// limits narrows a log to the times that were asked for.
func (s *search) limits(ctx context.Context, log kafka.Log) kafka.Log {
	seek := func(at time.Time, otherwise int64) int64 {
		sought := log
		if at.IsZero() || s.kafka.Seek(ctx, &sought, at) != nil {
			return otherwise
		}
		return sought.From
	}
	log.From, log.End = seek(s.asked.since, log.Start), seek(s.asked.until, log.End)
	return log
}
