package predecessor

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/outboxstream/streamer/decoder"
	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/replication"
	"github.com/outboxstream/streamer/router"
	"github.com/outboxstream/streamer/router/kafka"
)

// Survey compares the rows that wait in a slot with what the publisher before
// the streamer has written to Kafka. It changes nothing. Its memory is some 22
// bytes for each row that waits.
type Survey struct {
	Outbox
	// Connect opens a connection for reading what waits. Ending early ends the
	// connection.
	Connect func(context.Context) (*replication.Control, error)
	// Margin is how far before the first waiting commit topics are searched.
	Margin time.Duration
	// Table has rows from before the slot that the former publisher may have
	// published as well. Then all topics are searched, from Margin before now on.
	Table *replication.Table
	Query replication.SnapshotQuery // selects those that it has not published
	// Header is the header with the event ID, see router.ReadForeign.
	Header string

	rows     rows
	from     replication.LSN // the slot's confirmed position
	until    replication.LSN
	topics   map[string]*surveyed
	names    []string               // of topics, by number
	places   []kafka.TopicPartition // by number; partition -1: the topic does not exist
	numbers  map[kafka.TopicPartition]uint16
	since    time.Time
	findings []replication.Finding
	counts   counts
}

// surveyed is what is known about a topic of waiting rows.
type surveyed struct {
	name        string
	partitioner *kafka.Partitioner
	partitions  int
	begin       []int64 // where to begin to read
	first       []int64 // offsets of the first events of the former publisher; -1: none yet
	read        []int64 // everything before them has been read
}

type counts struct{ records, repeated, astray, elsewhere, rekeyed, nameless, untold int64 }

// errEnd ends the reading of what waits.
var errEnd = errors.New("end")

// Rows reads the rows that wait in the slot. Meanwhile, nobody may stream from
// the slot.
func (s *Survey) Rows(ctx context.Context) error {
	s.Rules.Database = s.Server.Database
	routes, err := router.NewRouter(s.Rules)
	if err != nil {
		return err
	}
	slot, err := s.idleSlot(ctx)
	if err != nil {
		return err
	}
	s.from, s.until, s.topics, s.numbers = slot.Confirmed, slot.Flushed, map[string]*surveyed{}, map[kafka.TopicPartition]uint16{}
	d := decoder.New(s.Mappings...)
	err = s.peek(ctx, func(_ replication.LSN, data []byte) error {
		kind, err := d.Decode(data)
		if _, poison := errors.AsType[*decoder.PoisonError](err); poison {
			s.counts.untold++
			return nil
		}
		switch e := d.Event(); {
		case err != nil:
			return err
		case kind == decoder.Begin && e.Position.Commit >= s.until:
			return errEnd
		case kind == decoder.Row:
			return s.row(ctx, routes, e)
		}
		return nil
	})
	if err != nil {
		return err
	}
	s.rows.index()
	s.checkRows()
	if s.Table != nil {
		if err := s.allTopics(ctx, routes); err != nil {
			return err
		}
	}
	return s.begin(ctx)
}

// peek passes what waits in the slot to visit, which may return errEnd.
func (s *Survey) peek(ctx context.Context, visit func(replication.LSN, []byte) error) error {
	control, err := s.Connect(ctx)
	if err != nil {
		return err
	}
	defer control.Close()
	err = control.PeekWaiting(ctx, s.Server, visit)
	if errors.Is(err, replication.ErrNoCopy) { // nobody else uses the slot itself
		_, err = control.Peek(ctx, s.Server, 0, visit)
	}
	if err != nil && !errors.Is(err, errEnd) {
		return fmt.Errorf("read what waits in slot %q: %w", control.Config().Slot, err)
	}
	return nil
}

// Unused makes sure that nobody has used the slot since Rows.
func (s *Survey) Unused(ctx context.Context) error {
	slot, err := s.idleSlot(ctx)
	if err == nil && slot.Confirmed != s.from {
		err = failure.Refuse(failure.Advise(
			fmt.Errorf("slot %q has moved from %s to %s meanwhile", slot.Name, s.from, slot.Confirmed),
			"make sure that the former publisher is stopped, and does not start again by itself"))
	}
	return err
}

// OutputTopics returns the topics to which the rules can lead: the known names,
// and the prefixes of all others.
func OutputTopics(rules router.Rules) (known, prefixes []string, err error) {
	rules.Database = "database" // in no topic's name
	routes, err := router.NewRouter(rules)
	if err != nil {
		return nil, nil, err
	}
	known, prefixes = routes.Topics()
	return known, prefixes, nil
}

// idleSlot returns the slot if nobody streams from it.
func (s *Survey) idleSlot(ctx context.Context) (replication.Slot, error) {
	slot, err := s.Control.Slot(ctx)
	if err != nil {
		return slot, err
	}
	if slot.Active {
		return slot, failure.Refuse(failure.Advise(
			fmt.Errorf("slot %q is in use by another client (process %d of the server)", slot.Name, slot.ActivePID),
			"stop the former publisher for good: delete or stop its connector, or its service",
		))
	}
	return slot, replication.Refusal(replication.CheckSlot(slot, s.Server))
}

// row notes a row that waits.
func (s *Survey) row(ctx context.Context, routes *router.Router, e *decoder.Event) error {
	destination, err := routes.Route(e)
	if err != nil {
		s.counts.untold++
		return nil //nolint:nilerr // a row that cannot be routed is not published by the streamer, either
	}
	topic, err := s.topic(ctx, string(destination.Topic))
	if err != nil {
		return err
	}
	partition := int32(-1)
	if topic.partitions > 0 {
		partition = topic.partitioner.Of(destination.Key, topic.partitions)
	}
	if s.since.IsZero() {
		s.since = time.UnixMicro(e.CommitTime)
	}
	place, err := s.place(kafka.TopicPartition{Topic: topic.name, Partition: partition})
	if err != nil {
		return err
	}
	s.rows.add(router.DigestOf(e.Attribute(decoder.ID), nil)[0], router.DigestOf(destination.Key, destination.Topic)[0], place)
	return nil
}

// place returns the number of a partition.
func (s *Survey) place(p kafka.TopicPartition) (uint16, error) {
	n, known := s.numbers[p]
	if known {
		return n, nil
	}
	if len(s.places) > math.MaxUint16 {
		return 0, failure.Refuse(fmt.Errorf("rows that wait go to more than %d partitions", math.MaxUint16))
	}
	n = uint16(len(s.places))
	s.numbers[p], s.places = n, append(s.places, p)
	return n, nil
}

func (s *Survey) topic(ctx context.Context, name string) (*surveyed, error) {
	if t := s.topics[name]; t != nil {
		return t, nil
	}
	logs, err := s.Kafka.Logs(ctx, name)
	if err != nil {
		return nil, err
	}
	t := &surveyed{
		name: name, partitioner: kafka.NewPartitioner(s.Rules.Partitioner, name), partitions: len(logs),
		first: slices.Repeat([]int64{-1}, len(logs)), begin: make([]int64, len(logs)), read: make([]int64, len(logs)),
	}
	s.topics[name], s.names = t, append(s.names, name)
	return t, nil
}

// allTopics adds those to which rows from before the slot may go.
func (s *Survey) allTopics(ctx context.Context, routes *router.Router) error {
	known, prefixes := routes.Topics()
	all, err := s.Kafka.Topics("")
	if err != nil {
		return err
	}
	for _, topic := range all {
		if kafka.IsAmong(topic, known, prefixes) {
			if _, err := s.topic(ctx, topic); err != nil {
				return err
			}
		}
	}
	return nil
}

// begin finds the offsets from which to read, and makes sure that nothing that
// matters is gone.
func (s *Survey) begin(ctx context.Context) error {
	at := s.since.Add(-s.Margin)
	if s.Table != nil {
		at = time.Now().Add(-s.Margin)
	}
	for name, t := range s.topics {
		if t.partitions == 0 {
			continue // it does not exist yet
		}
		logs, err := s.Kafka.Logs(ctx, name)
		if err != nil {
			return err
		}
		for i, log := range logs {
			if err := s.Kafka.Seek(ctx, &log, at); err != nil {
				return err
			}
			t.begin[i], t.read[i] = log.From, log.From
			if log.From == log.Start && log.Start > 0 && log.Start < log.End {
				if err := s.checkRetention(ctx, log, at); err != nil {
					return err
				}
			}
		}
		if err := s.checkCompaction(name); err != nil {
			return err
		}
	}
	return nil
}

// Read reads what the topics have got since the last time. It returns how many
// records of the former publisher were among it.
func (s *Survey) Read(ctx context.Context) (found int64, err error) {
	for name, t := range s.topics {
		logs, err := s.Kafka.Logs(ctx, name)
		if err != nil {
			return found, err
		}
		for i, log := range logs {
			if i >= t.partitions {
				return found, failure.Refuse(failure.Advise(
					fmt.Errorf("topic %q has got more partitions meanwhile", name), "run the command again"))
			}
			log.From, log.Committed, log.Small = t.read[i], true, true
			err := s.Kafka.Scan(ctx, log, func(r *kafka.LogRecord) error {
				if r.AfterGap {
					s.find("topic %q partition %d lost records while they were read", "raise retention.ms of the topic", name, log.Partition)
				}
				if s.record(t, log, r) {
					found++
				}
				return nil
			})
			if err != nil {
				return found, err
			}
			t.read[i] = log.End
		}
	}
	return found, nil
}

// record notes a record, and reports whether it is an event of the former
// publisher.
func (s *Survey) record(t *surveyed, log kafka.Log, r *kafka.LogRecord) bool {
	s.counts.records++
	e, foreign := router.ReadForeign(r.Headers, s.Header)
	if !foreign {
		if !router.IsOwn(r.Headers) {
			s.counts.nameless++
		}
		return false
	}
	n, waits := s.rows.find(router.DigestOf(e.ID, nil)[0])
	if !waits {
		return s.Table != nil // it may be about a row from before the slot
	}
	if t.first[log.Partition] < 0 {
		t.first[log.Partition] = r.Offset
	}
	switch here, ours := (kafka.TopicPartition{Topic: log.Topic, Partition: log.Partition}), s.places[s.rows.place(n)]; {
	case s.rows.isPublished(n):
		s.counts.repeated++
		return true
	case here.Topic != ours.Topic:
		if s.counts.astray++; s.counts.astray == 1 {
			s.find("event %q is in topic %q, but the streamer would publish it to topic %q",
				"correct kafka.topic or outbox.routes: `streamer import debezium` takes them from the connector", e.ID, here.Topic, ours.Topic)
		}
	case s.rows.key(n) != router.DigestOf(r.Key, []byte(log.Topic))[0]:
		if s.counts.rekeyed++; s.counts.rekeyed == 1 {
			s.find("event %q in topic %q (partition %d, offset %d) has another key than the streamer would give it",
				"correct kafka.key or outbox.columns.aggregate_id", e.ID, log.Topic, log.Partition, r.Offset)
		}
	case here.Partition != ours.Partition:
		s.counts.elsewhere++
	}
	s.rows.publish(n)
	return true
}

// find adds a finding that prevents a take-over.
func (s *Survey) find(problem, remedy string, arguments ...any) {
	s.findings = append(s.findings, replication.Finding{Fatal: true, Problem: fmt.Sprintf(problem, arguments...), Remedy: remedy})
}
