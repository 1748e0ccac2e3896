package router

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/IBM/sarama"

	"github.com/outboxstream/streamer/replication"
	"github.com/outboxstream/streamer/router/kafka"
	"github.com/outboxstream/streamer/router/wire"
)

// Marks are, for one topic, the offsets from which each partition may hold an
// event above a checkpoint. ID is Kafka's topic ID, empty where there is none.
// A topic that was deleted and created again has a different ID.
type Marks struct {
	ID      string
	Offsets []int64
	// Mixed means that the events from there on were routed in more than one
	// way.
	Mixed bool
	// Missing means that the topic did not exist. It may come back.
	Missing bool
}

// ReadBack configures what to read back from Kafka: the suffix that was written
// after a checkpoint was saved.
type ReadBack struct {
	StreamID string
	Replay   string // the replay whose records count; empty for the records of the stream itself
	Marks    map[string]Marks
	// Rerouted means that rows may go to other topics or partitions than when
	// the marks were stored.
	Rerouted bool
	// Scattered reports whether a topic's partitions hold no prefix of the
	// stream.
	Scattered func(topic string) bool
	// Above is the checkpoint. Everything not above it was published before.
	Above replication.LSN
	Log   *slog.Logger

	most int // bounds Found.Published; 0 is mostPublished
}

// Found is what a predecessor has written. Its events will reappear in the
// stream and must be skipped.
type Found struct {
	Topics map[string]FoundTopic
	// Published holds single events from topics whose partitions hold no
	// prefix.
	Published map[replication.Position]struct{}
	// Keys are those of rows from before the stream, in topics whose partitions
	// hold no prefix.
	Keys map[string]struct{}
	// Landmarks are events that must reappear in the stream, in stream order.
	// If one does not, this is not the history that was published.
	Landmarks []Landmark
	// Missing holds the marks of topics that do not exist.
	Missing map[string]Marks
	// Gaps say where Kafka has lost records without which events may be
	// repeated.
	Gaps []string
	// Records is the number of records read.
	Records int
}

// FoundTopic is what is known about a topic's partitions after reading back.
type FoundTopic struct {
	ID         string
	Partitions []FoundPartition
	// Mixed is the last event that may have been routed in another way. Until a
	// checkpoint has passed it, the partitions hold no prefix.
	Mixed replication.Position
}

// newTopicOf returns a topic without records of this stream.
func newTopicOf(a kafka.Admission) FoundTopic {
	found := FoundTopic{ID: a.TopicID, Partitions: make([]FoundPartition, len(a.Ends))}
	for i, end := range a.Ends {
		found.Partitions[i] = FoundPartition{Mark: end, End: end}
	}
	return found
}

// FoundPartition is the part of a FoundTopic for one partition.
type FoundPartition struct {
	Mark int64 // events above the checkpoint are from here
	End  int64 // to here, exclusively
	// Last is the highest of these events. Everything up to Written was
	// published. The two are equal if the partition holds a prefix of the
	// stream.
	Last, Written replication.Position
}

const (
	// firstWindow is how many offsets at a partition's end are read first.
	// Usually its last record belongs to this stream.
	firstWindow = 64
	// mostPublished bounds Found.Published, in events. Each takes about 40
	// bytes.
	mostPublished = 2 << 20
	progressEvery = 5 * time.Second
)

// reading is a ReadBack in progress.
type reading struct {
	ReadBack
	client  *kafka.Client
	found   Found
	logged  time.Time
	expired map[kafka.TopicPartition]int64    // marks before the first remaining offset
	highest map[kafka.TopicPartition]Landmark // among the prefixes
	last    Landmark                          // among the single events
}

// Read reads the records between the marks and the ends of the partitions.
func (r ReadBack) Read(ctx context.Context, c *kafka.Client) (Found, error) {
	r.most = cmp.Or(r.most, mostPublished)
	w := &reading{
		ReadBack: r, client: c, logged: time.Now(),
		expired: map[kafka.TopicPartition]int64{}, highest: map[kafka.TopicPartition]Landmark{},
	}
	w.found.Topics, w.found.Published, w.found.Missing = map[string]FoundTopic{}, map[replication.Position]struct{}{}, map[string]Marks{}
	w.found.Keys = map[string]struct{}{}
	prefixes, scattered, err := w.plan(ctx)
	if err != nil {
		return w.found, err
	}
	if err := w.readScattered(ctx, scattered); err != nil {
		return w.found, err
	}
	if err := w.searchBackwards(ctx, prefixes); err != nil {
		return w.found, err
	}
	w.conclude(prefixes)
	return w.found, nil
}

// plan finds the spans to read: of partitions that hold a prefix of the stream,
// and of partitions that do not.
func (w *reading) plan(ctx context.Context) (prefixes, scattered []*kafka.Span, err error) {
	ids, err := w.client.LookUp(ctx, slices.Sorted(maps.Keys(w.Marks)))
	if err != nil {
		return nil, nil, err
	}
	var partitions []kafka.TopicPartition
	for topic, described := range ids {
		for id := range int32(described.Partitions) {
			partitions = append(partitions, kafka.TopicPartition{Topic: topic, Partition: id})
		}
	}
	oldest, err := w.client.Offsets(ctx, partitions, sarama.OffsetOldest)
	if err != nil {
		return nil, nil, err
	}
	newest, err := w.client.Offsets(ctx, partitions, sarama.OffsetNewest)
	if err != nil {
		return nil, nil, err
	}
	for topic, marks := range w.Marks {
		described, exists := ids[topic]
		if !exists {
			w.miss(topic, marks)
			continue
		}
		whole := w.Rerouted || w.Scattered != nil && w.Scattered(topic) || marks.Mixed || len(marks.Offsets) != described.Partitions
		t := FoundTopic{ID: described.ID, Partitions: make([]FoundPartition, described.Partitions)}
		if marks.ID != "" && marks.ID == described.ID && described.Partitions < len(marks.Offsets) {
			return nil, nil, fmt.Errorf("metadata of topic %q names %d of %d partitions: the broker lags behind",
				topic, described.Partitions, len(marks.Offsets))
		}
		same := marks.ID == "" || described.ID == "" || marks.ID == described.ID
		if !same {
			w.Log.Warn("topic has been deleted and created again, what was published to it before is gone", "topic", topic)
		}
		for id := range int32(described.Partitions) {
			part := kafka.TopicPartition{Topic: topic, Partition: id}
			from, end := oldest[part], newest[part]
			if same && int(id) < len(marks.Offsets) {
				from = w.readFrom(part, marks.Offsets[id], from, end)
			}
			t.Partitions[id] = FoundPartition{Mark: from, End: end}
			s := &kafka.Span{TopicPartition: part, Next: from, End: end}
			if whole {
				scattered = append(scattered, s)
			} else {
				prefixes = append(prefixes, s)
			}
		}
		w.found.Topics[topic] = t
	}
	return prefixes, scattered, nil
}

// miss records a topic that does not exist. Its marks are kept, because the
// topic may come back. It is reported as a gap only the first time.
func (w *reading) miss(topic string, marks Marks) {
	if !marks.Missing {
		w.gap("topic %q no longer exists", topic)
	}
	marks.Missing, marks.Mixed = true, marks.Mixed || w.Rerouted
	w.found.Missing[topic] = marks
}

// readFrom returns where to begin in a partition that may have been cut at
// either end since the mark was stored.
func (w *reading) readFrom(part kafka.TopicPartition, mark, oldest, newest int64) int64 {
	switch {
	case mark > newest:
		w.gap("topic %q partition %d ends at offset %d, although it had ended at %d: the broker has lost acknowledged events",
			part.Topic, part.Partition, newest, mark)
		return oldest
	case mark < oldest:
		w.expired[part] = mark
		return oldest
	}
	return mark
}

func (w *reading) gap(format string, arguments ...any) {
	w.found.Gaps = append(w.found.Gaps, fmt.Sprintf(format, arguments...))
}

// ours reads position and event ID from a record of this stream.
func (w *reading) ours(s *kafka.Span, r *sarama.Record) (Landmark, bool) {
	w.found.Records++
	stream, replay, key := false, false, ""
	for _, h := range r.Headers {
		switch string(h.Key) {
		case wire.ReplayHeader:
			if w.Replay == "" || string(h.Value) != w.Replay {
				return Landmark{}, false
			}
			replay = true
		case wire.StreamHeader:
			stream = string(h.Value) == w.StreamID
		case wire.SnapshotKeyHeader:
			key = string(h.Value)
		}
	}
	if !stream || replay != (w.Replay != "") {
		return Landmark{}, false
	}
	id, position := identify(r)
	return Landmark{Position: position, EventID: id, Topic: s.Topic, Partition: s.Partition, Key: key}, position != replication.Position{}
}

// readScattered reads the whole spans and records each event above the
// checkpoint.
func (w *reading) readScattered(ctx context.Context, spans []*kafka.Span) error {
	overflow := false
	err := w.client.ReadSpans(ctx, spans, func(s *kafka.Span, offset int64, r *sarama.Record) error {
		w.progress(s, offset)
		l, ours := w.ours(s, r)
		if !ours || l.Position.Commit < w.Above {
			return nil
		}
		part := &w.found.Topics[s.Topic].Partitions[s.Partition]
		if l.Position.Compare(part.Last) > 0 {
			part.Last = l.Position
		}
		if overflow {
			return nil
		}
		w.found.Published[l.Position] = struct{}{}
		if l.Key != "" {
			w.found.Keys[l.Key] = struct{}{}
		}
		if l.Position.Compare(w.last.Position) > 0 {
			w.last = l
			w.last.Partition = -1
		}
		overflow = len(w.found.Published) > w.most
		return nil
	})
	for _, s := range spans {
		w.noteCut(s)
		t := w.found.Topics[s.Topic]
		t.Mixed = later(t.Mixed, t.Partitions[s.Partition].Last)
		w.found.Topics[s.Topic] = t
	}
	if overflow {
		w.gap("more than %d events are above the checkpoint in topics whose routing has changed", w.most)
		clear(w.found.Published)
		w.last = Landmark{}
	}
	return err
}

func later(a, b replication.Position) replication.Position {
	if a.Compare(b) < 0 {
		return b
	}
	return a
}

// searchBackwards finds the last event of this stream in each span. In a prefix
// the last event is the highest, so records before it need not be read.
func (w *reading) searchBackwards(ctx context.Context, spans []*kafka.Span) error {
	floor := map[kafka.TopicPartition]int64{}
	var pending []*kafka.Span
	for _, s := range spans {
		floor[s.TopicPartition] = s.Next
		if !s.Done() {
			pending = append(pending, s)
		}
	}
	for window := int64(firstWindow); len(pending) > 0; window *= 8 {
		windows := make([]*kafka.Span, len(pending))
		for i, s := range pending {
			windows[i] = &kafka.Span{TopicPartition: s.TopicPartition, Next: max(floor[s.TopicPartition], s.End-window), End: s.End}
			s.End = windows[i].Next // the next, larger window ends here
		}
		err := w.client.ReadSpans(ctx, windows, func(s *kafka.Span, offset int64, r *sarama.Record) error {
			w.progress(s, offset)
			if l, ours := w.ours(s, r); ours && l.Position.Compare(w.highest[s.TopicPartition].Position) > 0 {
				w.highest[s.TopicPartition] = l
			}
			return nil
		})
		if err != nil {
			return err
		}
		for _, s := range windows {
			w.noteCut(s)
		}
		pending = slices.DeleteFunc(pending, func(s *kafka.Span) bool {
			_, found := w.highest[s.TopicPartition]
			return found || s.End <= floor[s.TopicPartition]
		})
	}
	return nil
}

// noteCut records what expired while it was being read.
func (w *reading) noteCut(s *kafka.Span) {
	if !s.Cut {
		return
	}
	part := &w.found.Topics[s.Topic].Partitions[s.Partition]
	if _, noted := w.expired[s.TopicPartition]; !noted {
		w.expired[s.TopicPartition] = part.Mark
	}
	part.Mark = max(part.Mark, min(s.Next, part.End))
}

// conclude turns the records read into what a producer needs.
func (w *reading) conclude(prefixes []*kafka.Span) {
	for part, mark := range w.expired {
		if _, found := w.highest[part]; !found { // the highest is the last to expire
			w.gap("topic %q partition %d has expired up to offset %d, events above the checkpoint began at %d",
				part.Topic, part.Partition, w.found.Topics[part.Topic].Partitions[part.Partition].Mark, mark)
		}
	}
	for _, s := range prefixes {
		l, found := w.highest[s.TopicPartition]
		if !found || l.Position.Commit < w.Above {
			continue
		}
		part := &w.found.Topics[s.Topic].Partitions[s.Partition]
		part.Last, part.Written = l.Position, l.Position
		w.found.Landmarks = append(w.found.Landmarks, l)
	}
	if w.last.Position != (replication.Position{}) { // a dead letter may have no ID
		w.found.Landmarks = append(w.found.Landmarks, w.last)
	}
	slices.SortFunc(w.found.Landmarks, func(a, b Landmark) int { return a.Position.Compare(b.Position) })
}

// progress shows a waiting operator that reading continues.
func (w *reading) progress(s *kafka.Span, offset int64) {
	if time.Since(w.logged) >= progressEvery {
		w.logged = time.Now()
		w.Log.Info("reading back what was published after the checkpoint",
			"records", w.found.Records, "topic", s.Topic, "partition", s.Partition, "offset", offset, "end", s.End)
	}
}
