package predecessor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/outboxstream/streamer/checkpoint"
	"github.com/outboxstream/streamer/decoder"
	"github.com/outboxstream/streamer/replication"
	"github.com/outboxstream/streamer/router"
)

// Plan is what a survey has found, and what a take-over will do.
type Plan struct {
	From  replication.LSN `json:"-"` // the slot's confirmed position
	Until replication.LSN `json:"-"` // everything that the former publisher can have published was committed below it
	// Rows is the number of rows between the two. Published is how many of them
	// the former publisher has published. The streamer publishes the others.
	Rows      int64 `json:"rows"`
	Published int64 `json:"published"`
	// Repeated is how many records the former publisher has written again.
	Repeated int64 `json:"repeated"`
	// Elsewhere is how many of them are in another partition than the streamer would
	// choose now, because the topic has got more since.
	Elsewhere int64 `json:"elsewhere"`
	// Untold are rows of which no one can say where they would go: they are
	// poison for the streamer.
	Untold int64 `json:"untold"`
	// Holes are rows that the former publisher has not published, although it has
	// published later ones of the same key. There may be more than are listed.
	Holes     []Hole `json:"holes"`
	HoleCount int64  `json:"hole_count"`
	// Records is the number of records that were read.
	Records int64 `json:"records_read"`
	// Topics are where events of the former publisher begin, by partition. Ends are
	// the offsets before which everything was read.
	Topics map[string][]int64 `json:"-"`
	Ends   map[string][]int64 `json:"-"`
	// Findings are what prevents the take-over.
	Findings []replication.Finding `json:"findings"`
}

// Hole is a row that the former publisher has left out.
type Hole struct {
	ID        string               `json:"id"`
	Position  replication.Position `json:"-"`
	Committed time.Time            `json:"committed"`
	Topic     string               `json:"topic"`
	Partition int32                `json:"partition"`
}

// MostHoles is how many holes can be decided on at once.
const MostHoles = 1000

// Missing is the number of rows that the streamer will publish, holes included.
func (p Plan) Missing() int64 { return p.Rows - p.Published }

// Predecessor is what a checkpoint has to say about the former publisher.
func (p Plan) Predecessor(header string, leaveOut bool, now time.Time) checkpoint.Predecessor {
	until := max(p.Until, p.From+1) // it has to be above the checkpoint
	before := checkpoint.Predecessor{Until: until.String(), Topics: p.Topics, Header: header, LeaveOut: leaveOut, Begun: now}
	for _, h := range p.Holes {
		before.Holes = append(before.Holes, h.ID)
	}
	return before
}

// Plan returns what was found so far.
func (s *Survey) Plan(ctx context.Context) (Plan, error) {
	p := Plan{
		From: s.from, Until: s.until, Rows: int64(s.rows.count), Published: s.rows.published(), Repeated: s.counts.repeated,
		Untold: s.counts.untold, Elsewhere: s.counts.elsewhere, Records: s.counts.records, Findings: s.findings,
		Topics: map[string][]int64{}, Ends: map[string][]int64{},
	}
	for name, t := range s.topics {
		begin := make([]int64, t.partitions)
		for i := range begin {
			switch begin[i] = t.first[i]; {
			case s.Table != nil:
				begin[i] = t.begin[i]
			case begin[i] < 0:
				begin[i] = t.read[i] // what comes late is behind it
			}
		}
		if len(begin) > 0 {
			p.Topics[name], p.Ends[name] = begin, slices.Clone(t.read)
		}
	}
	s.checkPartitions(&p)
	if s.Table != nil {
		if err := s.checkMarked(ctx, &p); err != nil {
			return p, err
		}
	} else if p.Published == 0 && p.Rows > 0 {
		if err := s.checkElsewhere(ctx, &p); err != nil {
			return p, err
		}
	}
	if s.counts.nameless > 0 && p.Published == 0 && p.Rows > 0 {
		p.Findings = append(p.Findings, replication.Finding{
			Fatal:   true,
			Problem: fmt.Sprintf("%d records in the topics have no event ID (ce_id, id): nothing says which rows are published", s.counts.nameless),
			Remedy:  "only events with such a header can be told apart; `streamer checkpoint set slot --yes` accepts repeats",
		})
	}
	holes := s.rows.holes()
	p.HoleCount = int64(len(holes))
	if len(holes) == 0 {
		return p, nil
	}
	var err error
	p.Holes, err = s.describe(ctx, holes[:min(len(holes), MostHoles)])
	return p, err
}

// describe reads the rows with these numbers again.
func (s *Survey) describe(ctx context.Context, numbers []uint32) (holes []Hole, err error) {
	err = s.visit(ctx, func(n uint32, e *decoder.Event, d router.Destination) error {
		if n != numbers[len(holes)] {
			return nil
		}
		holes = append(holes, Hole{
			ID: string(e.Attribute(decoder.ID)), Position: e.Position, Committed: time.UnixMicro(e.CommitTime).UTC(),
			Topic: string(d.Topic), Partition: s.places[s.rows.place(n)].Partition,
		})
		if len(holes) == len(numbers) {
			return errEnd
		}
		return nil
	})
	if err == nil && len(holes) < len(numbers) {
		err = errors.New("what waits in the slot is not what it was: the former publisher has moved it")
	}
	return holes, err
}

// visit passes the rows that wait, with their numbers, once more.
func (s *Survey) visit(ctx context.Context, row func(n uint32, e *decoder.Event, d router.Destination) error) error {
	routes, err := router.NewRouter(s.Rules)
	if err != nil {
		return err
	}
	d, n := decoder.New(s.Mappings...), uint32(0)
	return s.peek(ctx, func(_ replication.LSN, data []byte) error {
		kind, err := d.Decode(data)
		if _, poison := errors.AsType[*decoder.PoisonError](err); poison {
			return nil
		}
		if err != nil || kind != decoder.Row {
			return err
		}
		destination, err := routes.Route(d.Event())
		if err != nil {
			return nil //nolint:nilerr // such rows have no number
		}
		if n++; n > s.rows.count {
			return errEnd // committed since
		}
		return row(n-1, d.Event(), destination)
	})
}
