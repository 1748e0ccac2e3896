package find

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/outboxstream/streamer/checkpoint"
	"github.com/outboxstream/streamer/cmd/streamer/internal/site"
	"github.com/outboxstream/streamer/internal/config"
	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/replication"
	"github.com/outboxstream/streamer/router"
	"github.com/outboxstream/streamer/router/kafka"
)

// search is one run of streamer find.
type search struct {
	command Command
	asked   asked
	cfg     config.Config
	began   time.Time

	control *replication.Control // nil: PostgreSQL could not be asked
	server  replication.Server
	tables  []replication.Table
	slow    map[string]bool // tables of which a search was given up
	routes  *router.Router
	members []*member // streams that publish the outbox: the only one, or one for each shard

	kafka   *kafka.Client // nil: Kafka could not be asked
	names   []string      // of all topics
	logs    map[string][]kafka.Log
	missing []string // topics in which the event should be, and that do not exist
	read    map[kafka.TopicPartition]*readPart
	records int64

	mu                   sync.Mutex // guards events and records while partitions are read
	events               []*Event
	slotsAsked, slotRead bool // whether the slots were looked at, and read to their ends
	unreadable           bool // a topic could not be read
	wholeRead            bool // the partitions were read to their beginnings
	more                 bool // there are more events than are shown
	notes                []string
}

// member is one of the streams that publish the outbox.
type member struct {
	control *replication.Control
	cfg     config.Config
	streams []string
	slot    replication.Slot
	lost    string // why the slot cannot be read, empty if it can
	stored  checkpoint.Record

	replay      checkpoint.Record // of the last replay
	replayAsked bool
}

func (s *search) close() {
	if s.kafka != nil {
		s.kafka.Close()
	}
	if s.control != nil {
		s.control.Close()
	}
}

// run looks at everything, the cheap and telling places first: each says where
// to look in the next.
func (s *search) run(ctx context.Context) error {
	defer func() { s.notes = compact(s.notes) }()
	if err := s.connect(ctx); err != nil {
		return err
	}
	for _, look := range []func(context.Context) error{
		s.lookAtRows, s.lookAtLetters, s.lookAtTopics, s.lookAtSlots, s.lookAtRowsOf, s.lookAtGroups,
	} {
		if err := look(ctx); err != nil {
			return err
		}
		if ctx.Err() != nil {
			return fmt.Errorf("find: not finished: %w", context.Cause(ctx))
		}
	}
	s.latest()
	s.conclude()
	return nil
}

// connect connects to both servers. One of them is enough.
func (s *search) connect(ctx context.Context) error {
	s.logs, s.read, s.slow = map[string][]kafka.Log{}, map[kafka.TopicPartition]*readPart{}, map[string]bool{}
	var topics error
	if s.kafka, topics = site.ConnectKafka(ctx, s.cfg); topics == nil {
		s.names, topics = s.kafka.Topics("")
	}
	if topics != nil {
		s.closeKafka()
	}
	database := s.identify(ctx)
	for _, err := range []error{topics, database} {
		if failure.ClassOf(err) == failure.Misconfigured {
			return errors.Join(topics, database)
		}
	}
	switch {
	case topics != nil && database != nil:
		return errors.Join(topics, database)
	case topics != nil:
		s.note("neither topics nor consumer groups: Kafka could not be asked: %s", failure.Describe(topics))
	case database != nil:
		s.note("neither table nor slot: PostgreSQL could not be asked: %s", failure.Describe(database))
	}
	return nil
}

func (s *search) closeKafka() {
	if s.kafka != nil {
		s.kafka.Close()
	}
	s.kafka = nil
}

// identify connects to PostgreSQL and asks for all that says which streams these
// are.
func (s *search) identify(ctx context.Context) (err error) {
	timed, cancel := context.WithTimeout(ctx, site.AskTimeout)
	defer cancel()
	control, _, err := site.ConnectPostgres(timed, s.cfg)
	if err != nil {
		return err
	}
	if s.server, err = control.Identify(timed); err != nil {
		control.Close()
		return err
	}
	if s.tables, err = control.DescribeTables(timed); err != nil {
		control.Close()
		return err
	}
	if s.routes, err = site.NewRouter(s.cfg, s.server.Database); err != nil {
		control.Close()
		return err
	}
	s.control = control
	for i := range max(1, s.cfg.Shard.Count) {
		s.members = append(s.members, s.member(timed, s.cfg.ForShard(i)))
	}
	return nil
}

// member describes a stream.
func (s *search) member(ctx context.Context, cfg config.Config) *member {
	m := &member{control: site.AsShard(s.control, cfg), cfg: cfg}
	var err error
	if m.slot, err = m.control.Slot(ctx); err != nil {
		m.lost = failure.Describe(err)
	} else if refused := replication.Refusal(replication.CheckSlot(m.slot, s.server)); refused != nil {
		m.lost = failure.Describe(refused)
	}
	if m.stored, err = s.checkpoint(ctx, cfg); err != nil && !errors.Is(err, checkpoint.ErrNone) {
		s.note("the checkpoint, so that only the slot says what is published: %s", failure.Describe(err))
	}
	m.streams = site.StreamIDs(s.server, cfg, m.stored)
	return m
}

// checkpoint reads the checkpoint of a slot. Waiting for a topic that does not
// exist would take a while.
func (s *search) checkpoint(ctx context.Context, cfg config.Config) (checkpoint.Record, error) {
	if c := cfg.Checkpoint; c.Store == config.StoreKafka && (s.kafka == nil || !slices.Contains(s.names, c.Kafka.Topic)) {
		return checkpoint.Record{}, checkpoint.ErrNone
	}
	return site.LoadCheckpoint(ctx, cfg, site.IdentityOf(s.server, cfg))
}

// note adds what was not looked at, and why.
func (s *search) note(format string, arguments ...any) {
	s.notes = append(s.notes, fmt.Sprintf(format, arguments...))
}

// compact removes repeated notes and keeps the order.
func compact(notes []string) (kept []string) {
	for _, n := range notes {
		if !slices.Contains(kept, n) {
			kept = append(kept, n)
		}
	}
	return kept
}

// limited returns a context for reading what nothing narrows.
func (s *search) limited(ctx context.Context) (context.Context, context.CancelFunc) {
	if s.command.Scan {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, s.command.Timeout)
}

// timeout is the limit for a server that ends a search by itself.
func (s *search) timeout() time.Duration {
	if s.command.Scan {
		return 24 * time.Hour
	}
	return s.command.Timeout
}

// event returns what is known about an event. An ID has to be unique within its
// source; where the source is not known, there is one event of that ID.
func (s *search) event(id, source string) *Event {
	for _, e := range s.events {
		if e.ID == id && (e.Source == source || e.Source == "" || source == "") {
			e.Source = cmp.Or(e.Source, source)
			return e
		}
	}
	e := &Event{ID: id, Source: source, Records: []Record{}, Groups: []Group{}}
	s.events = append(s.events, e)
	return e
}

// latest leaves the latest events, as many as are to be shown.
func (s *search) latest() {
	slices.SortStableFunc(s.events, func(a, b *Event) int {
		return cmp.Or(b.when().Compare(a.when()), b.at.Compare(a.at)) // times have milliseconds
	})
	if most := int(s.command.Limit); len(s.events) > most {
		s.events, s.more = s.events[:most], true
	}
}

// when is about when an event was committed.
func (e *Event) when() time.Time {
	switch {
	case !e.CommittedAt.IsZero():
		return e.CommittedAt
	case len(e.Records) > 0:
		return e.Records[0].Timestamp
	case e.Row != nil && !e.Row.Time.IsZero():
		return e.Row.Time
	case e.Row != nil:
		return e.Row.WrittenAt
	}
	return time.Time{}
}
