package router

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"hash/maphash"
	"slices"

	"github.com/outboxstream/streamer/decoder"
	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/replication"
	"github.com/outboxstream/streamer/router/kafka"
	"github.com/outboxstream/streamer/router/wire"
)

// ForeignEvent is what the headers say of an event that a program other than a
// streamer has published. Its byte slices are those of the record.
type ForeignEvent struct {
	ID []byte
	// Source is the CloudEvents attribute; nil: only the ID says which event it is.
	Source []byte
	// Debezium reports that the ID is in the header that Debezium's outbox event
	// router writes.
	Debezium bool
}

// Program says what has published the event, as far as its headers tell.
func (e ForeignEvent) Program() string {
	if e.Debezium {
		return "a program that writes the header id, as Debezium does"
	}
	return "another program"
}

// ReadForeign reads the headers of a record. header names the one with the event
// ID, if it is another than ce_id and Debezium's id. The result is false for
// records of a streamer, and for those without an ID.
func ReadForeign(headers []kafka.LogHeader, header string) (e ForeignEvent, foreign bool) {
	var own, cloud, theirs []byte
	for _, h := range headers {
		switch string(h.Key) {
		case wire.StreamHeader, wire.DeadLetterHeader:
			return e, false // a streamer knows its own events, and those of others are not these
		case header:
			theirs = h.Value
		case headerID:
			cloud = h.Value
		case headerSource:
			e.Source = h.Value
		case "id":
			own = bytes.Trim(h.Value, `"`) // the JsonConverter of Connect quotes headers
		}
	}
	switch {
	case theirs != nil:
		e.ID, e.Source = theirs, nil
	case cloud != nil:
		e.ID = cloud
	default:
		e.ID, e.Source, e.Debezium = own, nil, true
	}
	return e, e.ID != nil
}

// IsOwn reports whether a streamer has written the record.
func IsOwn(headers []kafka.LogHeader) bool {
	return slices.ContainsFunc(headers, func(h kafka.LogHeader) bool {
		return string(h.Key) == wire.StreamHeader || string(h.Key) == wire.DeadLetterHeader
	})
}

// Foreign are the events that another program has published before the streamer
// took over. It is read from Kafka, and its memory is 16 bytes for each event.
type Foreign struct {
	// Until is the LSN below which all of them were committed.
	Until replication.LSN
	// Holes are the IDs of events that the program has left out, although it has
	// published later ones of the same key. With LeaveOut they count as published.
	// Otherwise they are marked as late.
	Holes    map[string]struct{}
	LeaveOut bool

	events []Digest // sorted
}

// Digest stands for an event ID and, if it is known, the source. Digests of two
// processes cannot be compared.
type Digest [2]uint64

var digestSeeds = [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}

// DigestOf returns the digest of an event. Two of a billion events have the same
// one with a probability of 10⁻²¹.
func DigestOf(id, source []byte) (d Digest) {
	for i, seed := range digestSeeds {
		var h maphash.Hash
		h.SetSeed(seed)
		_, _ = h.Write(id)
		if source != nil {
			_, _ = h.Write([]byte{0xff}) // is in no UTF-8
			_, _ = h.Write(source)
		}
		d[i] = h.Sum64()
	}
	return d
}

// Compare orders digests.
func (d Digest) Compare(other Digest) int {
	return cmp.Or(cmp.Compare(d[0], other[0]), cmp.Compare(d[1], other[1]))
}

// ForeignLog says where events of another program are.
type ForeignLog struct {
	Topics map[string][]int64 // the offsets from which partitions hold them
	Header string             // see ReadForeign
}

// Read reads the events between the offsets and the ends of the partitions. An
// error is of class Refused if Kafka no longer has all of them.
func (l ForeignLog) Read(ctx context.Context, c *kafka.Client) (*Foreign, error) {
	f := &Foreign{}
	const most = 1 << 20 // so many are expected at most
	f.events = make([]Digest, 0, min(most, l.span(ctx, c)))
	err := l.Scan(ctx, c, func(_ kafka.Log, r *kafka.LogRecord) {
		if e, foreign := ReadForeign(r.Headers, l.Header); foreign {
			f.events = append(f.events, DigestOf(e.ID, e.Source))
		}
	})
	if err != nil {
		return nil, fmt.Errorf("read what another program has published: %w", err)
	}
	slices.SortFunc(f.events, Digest.Compare)
	f.events = slices.Clip(slices.Compact(f.events))
	return f, nil
}

// Scan passes all records between the offsets and the ends of the partitions to
// visit, one after the other.
func (l ForeignLog) Scan(ctx context.Context, c *kafka.Client, visit func(kafka.Log, *kafka.LogRecord)) error {
	logs, err := l.logs(ctx, c)
	if err != nil {
		return err
	}
	for _, log := range logs { // not at the same time: what a fetch returns takes megabytes when it is decoded
		if err := c.Scan(ctx, log, func(r *kafka.LogRecord) error {
			if r.AfterGap {
				return lostForeign(log)
			}
			visit(log, r)
			return nil
		}); err != nil {
			return err
		}
	}
	return nil
}

// span is the number of offsets to be read, 0 if it is not known.
func (l ForeignLog) span(ctx context.Context, c *kafka.Client) (n int64) {
	logs, err := l.logs(ctx, c)
	if err != nil {
		return 0 // Scan returns the same error
	}
	for _, log := range logs {
		n += log.End - log.From
	}
	return n
}

func (l ForeignLog) logs(ctx context.Context, c *kafka.Client) (all []kafka.Log, err error) {
	for topic, from := range l.Topics {
		logs, err := c.Logs(ctx, topic)
		if err != nil {
			return nil, err
		}
		if len(logs) < len(from) {
			return nil, lostForeign(kafka.Log{Topic: topic, Partition: int32(len(logs))})
		}
		for i, log := range logs {
			if i < len(from) {
				log.From = from[i]
			}
			log.Committed, log.Small = true, true
			if log.From < log.Start || log.From > log.End {
				return nil, lostForeign(log)
			}
			all = append(all, log)
		}
	}
	return all, nil
}

func lostForeign(log kafka.Log) error {
	return failure.Refuse(failure.Advise(
		fmt.Errorf("topic %q partition %d has lost records by which to tell what the former publisher has published", log.Topic, log.Partition),
		"find out what is missing (`streamer verify`), and decide with `streamer checkpoint set`",
	))
}

// Events returns the number of different events.
func (f *Foreign) Events() int {
	if f == nil {
		return 0
	}
	return len(f.events)
}

// covers reports whether an event may be one of them.
func (f *Foreign) covers(at replication.Position) bool { return f != nil && at.Commit < f.Until }

// has reports whether an event is not to be published: it is one of them, or a
// hole that stays one.
func (f *Foreign) has(e *decoder.Event, source func(*decoder.Event) []byte) bool {
	if !f.covers(e.Position) {
		return false
	}
	id := e.Attribute(decoder.ID)
	if _, hole := f.Holes[string(id)]; hole && f.LeaveOut {
		return true
	}
	return f.Published(id, nil) || f.Published(id, source(e))
}

// late reports whether an event is published after later ones of its key.
func (f *Foreign) late(e *decoder.Event) bool {
	if !f.covers(e.Position) || f.LeaveOut {
		return false
	}
	_, hole := f.Holes[string(e.Attribute(decoder.ID))]
	return hole
}

// Published reports whether an event was published with this ID and source, or
// without any if the source is nil.
func (f *Foreign) Published(id, source []byte) bool {
	_, found := slices.BinarySearchFunc(f.events, DigestOf(id, source), Digest.Compare)
	return found
}

// ReadOwn returns the event ID and the source of a record that a streamer has
// written. The ID is nil for other records.
func ReadOwn(r *kafka.LogRecord) (id, source []byte) {
	if !IsOwn(r.Headers) {
		return nil, nil
	}
	for _, h := range r.Headers {
		switch string(h.Key) {
		case headerID:
			id = h.Value
		case headerSource:
			source = h.Value
		}
	}
	var structured struct{ ID, Source string }
	if id != nil || json.Unmarshal(r.Value, &structured) != nil || structured.ID == "" {
		return id, source
	}
	return []byte(structured.ID), []byte(structured.Source)
}
