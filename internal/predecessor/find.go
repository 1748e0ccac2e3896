package predecessor

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/outboxstream/streamer/decoder"
	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/replication"
	"github.com/outboxstream/streamer/router"
	"github.com/outboxstream/streamer/router/kafka"
)

// Guide is the page about this.
const (
	Guide       = "docs/how-to/from-debezium.md"
	pollerGuide = "docs/how-to/from-a-poller.md"
)

const (
	// messages is how many messages of the slot are looked at: some thousand rows.
	// What another program has published above the slot's position are the first
	// ones.
	messages = 10_000
	// margin is how far the clocks of a database and a publisher may be apart.
	margin = 5 * time.Minute
	// parallel is how many partitions are read at once.
	parallel = 4
)

// Outbox is what is to be published, and where.
type Outbox struct {
	Control  *replication.Control
	Server   replication.Server
	Mappings []decoder.Mapping
	Rules    router.Rules
	Kafka    *kafka.Client
	// Table has rows from before the slot, which Query selects, to be published as
	// well; nil: none.
	Table *replication.Table
	Query replication.SnapshotQuery
}

// Published is a row that waits in the slot and is in Kafka already.
type Published struct {
	ID        string
	Position  replication.Position // zero: it is from before the slot
	Topic     string
	Partition int32
	Offset    int64
	Program   string // what published it, as far as its headers say
}

// Refusal is why a streamer must not start there, nil without p.
func (p *Published) Refusal(slot string) error {
	if p == nil {
		return nil
	}
	if p.Position == (replication.Position{}) {
		return failure.Refuse(failure.Advise(
			fmt.Errorf(
				"event %q, of a row from before slot %q, is in topic %q already (partition %d, offset %d), published by %s: "+
					"the snapshot would publish it again",
				p.ID, slot, p.Topic, p.Partition, p.Offset, p.Program,
			),
			"`streamer take-over poller` leaves out what is in the topics (%s); or select fewer rows with snapshot.where", pollerGuide,
		))
	}
	return failure.Refuse(failure.Advise(
		fmt.Errorf(
			"slot %q has no checkpoint, and event %q at %s, which waits in it, is in topic %q already (partition %d, offset %d), published by %s: "+
				"it would be published again",
			slot, p.ID, p.Position, p.Topic, p.Partition, p.Offset, p.Program,
		),
		"`streamer take-over debezium` repeats nothing (%s), or accept the repeats with `streamer checkpoint set slot --yes`", Guide,
	))
}

// row is an event that waits.
type row struct {
	source   string
	position replication.Position
}

// waiting are the first rows of the slot, by event ID, and the topics to which
// they go.
type waiting struct {
	rows   map[string][]row
	topics map[string]struct{}
	since  time.Time // of the first commit
}

// Find returns a row that waits in the slot and that a program other than a
// streamer has published, or nil. It looks at the first rows that wait. No
// client may use the slot meanwhile.
func Find(ctx context.Context, o Outbox) (*Published, error) {
	o.Rules.Database = o.Server.Database
	routes, err := router.NewRouter(o.Rules)
	if err != nil {
		return nil, err
	}
	if empty, err := o.empty(ctx, routes); err != nil || empty {
		return nil, err
	}
	w, err := o.waiting(ctx, routes)
	if err != nil {
		return nil, err
	}
	var found *Published
	if len(w.rows) > 0 {
		found, err = o.search(ctx, w)
	}
	if found == nil && err == nil && o.Table != nil {
		found, err = o.amongOld(ctx, routes)
	}
	return found, err
}

// amongOld looks whether the last records of the topics are of rows from before
// the slot.
func (o Outbox) amongOld(ctx context.Context, routes *router.Router) (*Published, error) {
	const last = 200 // records of each partition
	known, prefixes := routes.Topics()
	topics, err := o.Kafka.Topics("")
	if err != nil {
		return nil, err
	}
	found := map[string]Published{}
	for _, topic := range topics {
		if !kafka.IsAmong(topic, known, prefixes) {
			continue
		}
		logs, err := o.Kafka.Logs(ctx, topic)
		if err != nil {
			return nil, err
		}
		for _, log := range logs {
			log.From, log.Committed, log.Small = max(log.Start, log.End-last), true, true
			if err := o.Kafka.Scan(ctx, log, func(r *kafka.LogRecord) error {
				if e, foreign := router.ReadForeign(r.Headers, ""); foreign {
					found[string(e.ID)] = Published{
						ID: string(e.ID), Topic: log.Topic, Partition: log.Partition, Offset: r.Offset, Program: e.Program(),
					}
				}
				return nil
			}); err != nil {
				return nil, err
			}
		}
	}
	selected, err := o.Control.Selected(ctx, *o.Table, o.Query, slices.Collect(maps.Keys(found)))
	for id := range selected {
		p := found[id]
		return &p, nil
	}
	return nil, err
}

// empty reports whether there is nothing in the topics to which rows can go, so
// that there is nothing to look for. Rows that name their topic can go anywhere.
func (o Outbox) empty(ctx context.Context, routes *router.Router) (bool, error) {
	for _, t := range o.Rules.Tables {
		if t.Columns[decoder.Topic] != "" {
			return false, nil
		}
	}
	known, prefixes := routes.Topics()
	all, err := o.Kafka.Topics("")
	if err != nil {
		return false, err
	}
	all = slices.DeleteFunc(all, func(topic string) bool { return !kafka.IsAmong(topic, known, prefixes) })
	if len(all) == 0 {
		return true, nil
	}
	ends, err := o.Kafka.Ends(ctx, all)
	if err != nil {
		return false, fmt.Errorf("look for events of another publisher: %w", err)
	}
	for _, partitions := range ends {
		for _, end := range partitions {
			if end > 0 {
				return false, nil
			}
		}
	}
	return true, nil
}

// waiting reads the first rows of the slot.
func (o Outbox) waiting(ctx context.Context, routes *router.Router) (waiting, error) {
	w := waiting{rows: map[string][]row{}, topics: map[string]struct{}{}}
	d := decoder.New(o.Mappings...)
	_, err := o.Control.Peek(ctx, o.Server, messages, func(_ replication.LSN, data []byte) error {
		kind, err := d.Decode(data)
		if _, poison := errors.AsType[*decoder.PoisonError](err); poison {
			return nil // no one can have published it
		}
		if err != nil || kind != decoder.Row {
			return err
		}
		e := d.Event()
		destination, err := routes.Route(e)
		if err != nil {
			return nil //nolint:nilerr // likewise
		}
		w.topics[string(destination.Topic)] = struct{}{} // a view, until Source is called
		id := string(e.Attribute(decoder.ID))
		w.rows[id] = append(w.rows[id], row{string(routes.Source(e)), e.Position})
		if w.since.IsZero() {
			w.since = time.UnixMicro(e.CommitTime)
		}
		return nil
	})
	return w, err
}

// errFound ends the search.
var errFound = errors.New("found")

// search reads what the topics have got since the first commit.
func (o Outbox) search(ctx context.Context, w waiting) (found *Published, err error) {
	var logs []kafka.Log
	for topic := range w.topics {
		partitions, err := o.Kafka.Logs(ctx, topic)
		if err != nil {
			return nil, err
		}
		for _, log := range partitions {
			if err := o.Kafka.Seek(ctx, &log, w.since.Add(-margin)); err != nil {
				return nil, err
			}
			log.Committed = true
			logs = append(logs, log)
		}
	}
	var mu sync.Mutex
	err = o.Kafka.ScanAll(ctx, logs, parallel, func(log kafka.Log) func(*kafka.LogRecord) error {
		return func(r *kafka.LogRecord) error {
			p := w.match(r)
			if p == nil {
				return nil
			}
			p.Topic, p.Partition, p.Offset = log.Topic, log.Partition, r.Offset
			mu.Lock()
			defer mu.Unlock()
			found = p
			return errFound
		}
	})
	if errors.Is(err, errFound) {
		err = nil
	}
	return found, err
}

// match returns the row that a record of another program is about, or nil.
// Without a source only the ID says which row it is.
func (w waiting) match(r *kafka.LogRecord) *Published {
	e, foreign := router.ReadForeign(r.Headers, "")
	if !foreign {
		return nil
	}
	for _, row := range w.rows[string(e.ID)] {
		if e.Source == nil || string(e.Source) == row.source {
			return &Published{ID: string(e.ID), Position: row.position, Program: e.Program()}
		}
	}
	return nil
}
