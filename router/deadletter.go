package router

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/IBM/sarama"

	"github.com/outboxstream/streamer/decoder"
	"github.com/outboxstream/streamer/replication"
	"github.com/outboxstream/streamer/router/wire"
)

// Policy is what happens to a row that can never be published.
type Policy string

// The policies.
const (
	// PolicyStop ends the process, so that the operator decides.
	PolicyStop Policy = "stop"
	// PolicyDeadLetter writes the unchanged row to the dead letter topic and
	// continues when that is acknowledged.
	PolicyDeadLetter Policy = "dead-letter"
)

// PoisonClass is why a row cannot be published.
type PoisonClass string

// The classes.
const (
	PoisonRow      PoisonClass = "invalid_row"   // its columns make no event
	PoisonRoute    PoisonClass = "unroutable"    // it has no topic, key or source
	PoisonEvent    PoisonClass = "invalid_event" // CloudEvents does not allow it
	PoisonSize     PoisonClass = "too_large"
	PoisonRejected PoisonClass = "rejected" // by the broker
	PoisonTopic    PoisonClass = "unknown_topic"
)

// PoisonClasses returns all classes.
func PoisonClasses() []PoisonClass {
	return []PoisonClass{PoisonRow, PoisonRoute, PoisonEvent, PoisonSize, PoisonRejected, PoisonTopic}
}

// DeadLetter is a row that went to the dead letter topic instead of its own
// topic.
type DeadLetter struct {
	StreamID string // of the stream that it was in
	// Table is as in outbox.table, and Source what the event would have had, as far
	// as the row says it. Both are empty in letters of earlier versions.
	Table, Source string
	Position      replication.Position
	CommitTime    int64 // microseconds since the Unix epoch
	EventID       string
	Class         PoisonClass
	Reason        string // holds no row data
	// Columns are the row as PostgreSQL sent it, except for the payload, which
	// is in Payload.
	Columns       []decoder.Column
	Payload       decoder.Column
	AggregateType string
	Key           []byte // the aggregate ID, nil where it is not known
	// SnapshotKey is the row's place in the order of a snapshot; nil for rows from
	// the stream.
	SnapshotKey []byte
}

// NewDeadLetter builds a DeadLetter from a row's columns. rules are those of
// its table.
func NewDeadLetter(rules TableRules, columns []decoder.Column) DeadLetter {
	l := DeadLetter{
		Payload: decoder.Column{Null: true}, Key: decoder.Find(rules.Columns[decoder.AggregateID], columns),
		AggregateType: string(decoder.Find(rules.Columns[decoder.AggregateType], columns)),
		EventID:       strings.ToValidUTF8(string(decoder.Find(rules.Columns[decoder.ID], columns)), ""),
	}
	payload, _ := decoder.ColumnName(rules.Columns[decoder.Payload])
	for _, c := range columns {
		if c.Name == payload {
			l.Payload = c
			continue
		}
		l.Columns = append(l.Columns, c)
	}
	return l
}

// Name takes table, event ID, key and aggregate type from the event, as far as the row
// made one. The row's columns may be in PostgreSQL's binary format.
func (l *DeadLetter) Name(e *decoder.Event) {
	l.Table = e.Names.Name
	if id := e.Attribute(decoder.ID); id != nil {
		l.EventID = string(id)
	}
	if id := e.Attribute(decoder.AggregateID); id != nil {
		l.Key = bytes.Clone(id)
	}
	if t := e.Attribute(decoder.AggregateType); t != nil {
		l.AggregateType = string(t)
	}
}

// The headers of a dead letter besides DeadLetterHeader. The header name of a
// column ends with the column's name. A NULL column has no header.
// deadLetterFormats is JSON and describes the format of the bytes.
const (
	deadLetterReason     = "streamer-reason"
	deadLetterSequence   = "streamer-sequence"
	deadLetterCommitTime = "streamer-commit-time"
	deadLetterEventID    = "streamer-event-id"
	deadLetterTable      = "streamer-table"
	deadLetterSource     = "streamer-source"
	deadLetterColumn     = "streamer-column-"
	deadLetterFormats    = "streamer-formats"
)

// columnFormat is the type of a column's bytes.
type columnFormat struct {
	TypeOID uint32 `json:"type"`
	Binary  bool   `json:"binary,omitempty"`
	Payload bool   `json:"payload,omitempty"`
}

// headers returns everything but the payload.
func (l *DeadLetter) headers(streamID string) []sarama.RecordHeader {
	formats := map[string]columnFormat{}
	for _, c := range l.Columns {
		formats[c.Name] = columnFormat{TypeOID: c.TypeOID, Binary: c.Binary}
	}
	if l.Payload.Name != "" {
		formats[l.Payload.Name] = columnFormat{TypeOID: l.Payload.TypeOID, Binary: l.Payload.Binary, Payload: true}
	}
	meaning, err := json.Marshal(formats)
	if err != nil {
		meaning = nil // column names are text, numbers are numbers
	}
	list := []sarama.RecordHeader{
		{Key: []byte(wire.DeadLetterHeader), Value: []byte(l.Class)},
		{Key: []byte(deadLetterReason), Value: []byte(l.Reason)},
		{Key: []byte(deadLetterSequence), Value: []byte(wire.FormatSequence(l.Position))},
		{Key: []byte(deadLetterCommitTime), Value: strconv.AppendInt(nil, l.CommitTime, 10)},
		{Key: []byte(deadLetterEventID), Value: []byte(l.EventID)},
		{Key: []byte(deadLetterTable), Value: []byte(l.Table)},
		{Key: []byte(deadLetterSource), Value: []byte(l.Source)},
		{Key: []byte(deadLetterFormats), Value: meaning},
		{Key: []byte(wire.StreamHeader), Value: []byte(streamID)},
	}
	if l.SnapshotKey != nil {
		list = append(list, sarama.RecordHeader{Key: []byte(wire.SnapshotKeyHeader), Value: l.SnapshotKey})
	}
	for _, c := range l.Columns {
		if !c.Null {
			list = append(list, sarama.RecordHeader{Key: []byte(deadLetterColumn + c.Name), Value: c.Bytes})
		}
	}
	return list
}

// errNoDeadLetter means that a record is something else.
var errNoDeadLetter = errors.New("record is not a dead letter of this streamer")

// ParseDeadLetter reads a dead letter back.
func ParseDeadLetter(headers []*sarama.RecordHeader, key, value []byte) (DeadLetter, error) {
	l := DeadLetter{Key: key, Payload: decoder.Column{Null: value == nil, Bytes: value}}
	var formats map[string]columnFormat
	values := map[string][]byte{}
	for _, h := range headers {
		name, text := string(h.Key), string(h.Value)
		var err error
		switch name {
		case wire.DeadLetterHeader:
			l.Class = PoisonClass(text)
		case deadLetterReason:
			l.Reason = text
		case deadLetterSequence:
			l.Position, err = wire.ParseSequence(text)
		case deadLetterCommitTime:
			l.CommitTime, err = strconv.ParseInt(text, 10, 64)
		case deadLetterEventID:
			l.EventID = text
		case deadLetterTable:
			l.Table = text
		case deadLetterSource:
			l.Source = text
		case deadLetterFormats:
			err = json.Unmarshal(h.Value, &formats)
		case wire.StreamHeader:
			l.StreamID = text
		default:
			if column, ok := strings.CutPrefix(name, deadLetterColumn); ok {
				values[column] = h.Value
			}
		}
		if err != nil {
			return l, fmt.Errorf("%w: header %s: %w", errNoDeadLetter, name, err)
		}
	}
	if l.Class == "" || formats == nil {
		return l, errNoDeadLetter
	}
	for name, f := range formats {
		if f.Payload {
			l.Payload.Name, l.Payload.TypeOID, l.Payload.Binary = name, f.TypeOID, f.Binary
			continue
		}
		bytes, present := values[name]
		l.Columns = append(l.Columns, decoder.Column{Name: name, TypeOID: f.TypeOID, Binary: f.Binary, Null: !present, Bytes: bytes})
	}
	return l, nil
}

// Buries reports whether a row of this aggregate type goes to the dead letter
// topic if it cannot be published. table is the index of its table's rules.
func (p *Producer) Buries(table int, aggregateType string) bool {
	return p.router.rules.DeadLetterTopic != "" && p.router.tables[table].match([]byte(aggregateType)).poison == PolicyDeadLetter
}

// Bury appends a dead letter. It works like Append, but nothing can be appended
// after the dead letter until that is acknowledged.
func (p *Producer) Bury(l *DeadLetter) (Result, error) {
	if p.config.Passage.Alone(l.Position) {
		return Skipped, nil
	}
	t := p.topic([]byte(p.router.rules.DeadLetterTopic), []byte(l.EventID), l.Position)
	switch {
	case p.burying():
		return p.block(waitingForDeadLetter)
	case !t.ready.Load():
		return p.block("waiting for the dead letter topic")
	case t.grown.Load() != 0 && !p.grow(t):
		return p.block("waiting for a topic with new partitions to drain")
	}
	part := t.partitionOf(l.Key)
	b := p.take()
	before := b.memory
	value := l.Payload.Bytes
	if l.Payload.Null {
		value = nil
	}
	b.addEvent(&decoder.Event{Position: l.Position, CommitTime: l.CommitTime}, l.Key, value, encodeHeaders(l.headers(p.router.rules.StreamID)))
	p.place(part, b)
	p.count(part, b, before, l.Position)
	p.seal(part)
	p.buried = part
	return Appended, nil
}

const waitingForDeadLetter = "waiting for a dead letter to be acknowledged"

// burying reports whether a dead letter is on its way. Everything after the row
// must wait until the dead letter is known to be safe.
func (p *Producer) burying() bool {
	if p.buried == nil {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.buried.queue)+len(p.buried.sent) > 0 {
		return true
	}
	p.buried = nil
	return false
}
