package router

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/IBM/sarama"

	"github.com/outboxstream/streamer/decoder"
	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/replication"
	"github.com/outboxstream/streamer/router/kafka"
)

// Letter is a dead letter in its topic, without the content of the row.
type Letter struct {
	Topic     string
	Partition int32
	Offset    int64

	StreamID      string
	Table         string // as in outbox.table; empty if an earlier version wrote the letter
	Position      replication.Position
	CommitTime    time.Time
	EventID       string
	Key           string // the aggregate ID; it is row data, for comparisons only
	AggregateType string
	Class         PoisonClass
	Reason        string
	// Copies is how often the letter is in the topic. It is more than 1 only if
	// a start had to publish the letter again.
	Copies int
	// Resolution is what was decided about the letter. It is nil while the
	// letter is open.
	Resolution *Resolution
}

// row identifies the row of a letter, independent of the letter's place and
// number of copies.
type row struct {
	stream string
	at     replication.Position
}

func (l *Letter) row() row { return row{l.StreamID, l.Position} }

// Letters lists the dead letters of a topic in stream order, including the
// resolved ones. A topic that does not exist has none. rules say which column
// is the aggregate type.
func Letters(ctx context.Context, c *kafka.Client, topic string, rules Rules) ([]Letter, error) {
	spans, err := c.Whole(ctx, topic)
	if err != nil {
		return nil, fmt.Errorf("dead letter topic %q: %w", topic, err)
	}
	letters, resolutions := map[row]*Letter{}, map[row]*Resolution{}
	err = c.ReadSpans(ctx, spans, func(s *kafka.Span, offset int64, r *sarama.Record) error {
		if resolved, by, ok := parseResolution(r.Headers); ok {
			resolutions[resolved] = by
			return nil
		}
		parsed, err := ParseDeadLetter(r.Headers, r.Key, r.Value)
		if err != nil {
			return nil //nolint:nilerr // other records in the topic are not the streamer's
		}
		l := summarize(&parsed, rules)
		l.Topic, l.Partition, l.Offset = s.Topic, s.Partition, offset
		if known := letters[l.row()]; known != nil {
			known.Copies++
			return nil
		}
		letters[l.row()] = &l
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("dead letter topic %q: %w", topic, err)
	}
	list := make([]Letter, 0, len(letters))
	for of, l := range letters {
		l.Resolution = resolutions[of]
		list = append(list, *l)
	}
	slices.SortFunc(list, func(a, b Letter) int {
		return cmp.Or(cmp.Compare(a.StreamID, b.StreamID), a.Position.Compare(b.Position))
	})
	return list, nil
}

// summarize returns a Letter that shares no memory with the record.
func summarize(d *DeadLetter, rules Rules) Letter {
	l := Letter{
		StreamID: d.StreamID, Table: d.Table, Position: d.Position, CommitTime: time.UnixMicro(d.CommitTime).UTC(),
		EventID: d.EventID, Key: string(d.Key), Class: d.Class, Reason: d.Reason, Copies: 1,
	}
	table, err := rules.table(d.Table)
	if err != nil { // it was an outbox table once
		return l
	}
	row := append(slices.Clip(d.Columns), d.Payload)
	l.AggregateType = strings.ToValidUTF8(string(decoder.Find(rules.Tables[table].Columns[decoder.AggregateType], row)), "")
	return l
}

// errGone means that retention was faster than the operator.
var errGone = errors.New("record is no longer in the topic")

// Open reads a dead letter with its whole content.
func (l Letter) Open(ctx context.Context, c *kafka.Client) (DeadLetter, []RawHeader, error) {
	var opened *DeadLetter
	var headers []RawHeader
	one := &kafka.Span{TopicPartition: kafka.TopicPartition{Topic: l.Topic, Partition: l.Partition}, Next: l.Offset, End: l.Offset + 1}
	err := c.ReadSpans(ctx, []*kafka.Span{one}, func(_ *kafka.Span, _ int64, r *sarama.Record) error {
		parsed, err := ParseDeadLetter(r.Headers, r.Key, r.Value)
		opened = &parsed
		for _, h := range r.Headers {
			headers = append(headers, RawHeader{string(h.Key), h.Value})
		}
		return err
	})
	if err == nil && opened == nil {
		err = failure.Refuse(errGone)
	}
	if err != nil {
		return DeadLetter{}, nil, fmt.Errorf("dead letter in topic %q partition %d at offset %d: %w", l.Topic, l.Partition, l.Offset, err)
	}
	return *opened, headers, nil
}
