package verify

import (
	"fmt"
	"strings"
	"time"

	"github.com/outboxstream/streamer/replication"
)

// Kind is the kind of a finding.
type Kind uint8

// The kinds of findings, worst first.
const (
	// Missing is a row that is published, judging by its position, and has no
	// record.
	Missing Kind = iota
	// Altered is a record that does not say what its row says, or a repeat that
	// differs from the first record.
	Altered
	// OutOfOrder is the first record of an event, after one that was committed
	// later.
	OutOfOrder
	// Scattered is a key with records in several partitions of a topic.
	Scattered
	// Repeated is a second record of an event.
	Repeated
	// Phantom is a record of the given streams without a row.
	Phantom
	// Malformed is a record of the given streams that is no event.
	Malformed
	kindCount
)

var kindNames = [kindCount]string{"missing", "altered", "out of order", "scattered", "repeated", "phantom", "malformed"}

var kindMeanings = [kindCount]string{
	"committed and confirmed as published, but not in Kafka: lost, deleted there, or written before the slot existed",
	"not what the outbox says, or not what was published first",
	"after an event that was committed later: consumers saw the newer one first",
	"one key in several partitions: its events are no longer in order (were partitions added, or the partitioner changed?)",
	"the same event again: consumers must deduplicate by source and id",
	"in Kafka with the stream's identity, but not in the outbox: rolled back, invented, or deleted from the outbox since",
	"carries the stream's identity but is not an event: not written by the streamer, or changed since",
}

// Kinds lists all kinds, worst first.
func Kinds() []Kind {
	kinds := make([]Kind, kindCount)
	for i := range kinds {
		kinds[i] = Kind(i)
	}
	return kinds
}

func (k Kind) String() string { return kindNames[k] }

// Meaning is a sentence for the operator on call.
func (k Kind) Meaning() string { return kindMeanings[k] }

// MarshalText is the name with underscores.
func (k Kind) MarshalText() ([]byte, error) {
	return []byte(strings.ReplaceAll(kindNames[k], " ", "_")), nil
}

// UnmarshalText reads what MarshalText wrote.
func (k *Kind) UnmarshalText(text []byte) error {
	for i, name := range kindNames {
		if strings.ReplaceAll(name, " ", "_") == string(text) {
			*k = Kind(i)
			return nil
		}
	}
	return fmt.Errorf("unknown kind of finding %q", text)
}

// Place is where a record is.
type Place struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	Offset    int64  `json:"offset"`
}

func (p Place) String() string { return fmt.Sprintf("%s/%d@%d", p.Topic, p.Partition, p.Offset) }

// Finding is one thing that is wrong. It holds neither payload nor key.
type Finding struct {
	Kind    Kind   `json:"kind"`
	EventID string `json:"event_id,omitempty"`
	// At is the record; nil for a row without one.
	At *Place `json:"at,omitempty"`
	// Position and Sequence are the record's place in commit order.
	Position string `json:"position,omitempty"`
	Sequence string `json:"sequence,omitempty"`
	// Committed is the record's timestamp, or when the row was written.
	Committed time.Time `json:"committed,omitzero"`
	// Other is the record that At contradicts: the first one of the event, or the
	// one that overtook it.
	Other         *Place `json:"other,omitempty"`
	OtherPosition string `json:"other_position,omitempty"`
	// Topic and Partition are where a missing record should be.
	Topic     string `json:"topic,omitempty"`
	Partition *int32 `json:"partition,omitempty"`
	// Differs are the parts that differ from what they should be.
	Differs []string `json:"differs,omitempty"`
}

// String renders the finding on one line.
func (f Finding) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%-12s", f.Kind)
	if f.EventID != "" {
		fmt.Fprintf(&b, " event %s", f.EventID)
	}
	if f.At != nil {
		fmt.Fprintf(&b, " at %s", f.At)
	}
	if f.Topic != "" {
		fmt.Fprintf(&b, " not in topic %s", f.Topic)
		if f.Partition != nil {
			fmt.Fprintf(&b, ", where partition %d is its", *f.Partition)
		}
	}
	if f.Position != "" {
		fmt.Fprintf(&b, ", position %s", f.Position)
	}
	if !f.Committed.IsZero() {
		fmt.Fprintf(&b, ", of %s", f.Committed.Format(time.RFC3339Nano))
	}
	f.because(&b)
	return b.String()
}

func (f Finding) because(b *strings.Builder) {
	switch {
	case f.Kind == Altered && f.Other != nil:
		fmt.Fprintf(b, ": %s differ from the record at %s", strings.Join(f.Differs, ", "), f.Other)
	case f.Kind == Altered:
		fmt.Fprintf(b, ": %s differ from the row", strings.Join(f.Differs, ", "))
	case f.Kind == OutOfOrder:
		fmt.Fprintf(b, ": after %s at %s", f.OtherPosition, f.Other)
	case f.Kind == Repeated && f.OtherPosition != f.Position:
		fmt.Fprintf(b, ": first at %s as position %s", f.Other, f.OtherPosition)
	case f.Kind == Repeated:
		fmt.Fprintf(b, ": first at %s", f.Other)
	case f.Kind == Scattered:
		fmt.Fprintf(b, ": its key is also at %s", f.Other)
	}
}

// sequence is a position in the form of the CloudEvents attribute.
func sequence(p replication.Position) string {
	return fmt.Sprintf("%016x-%08x", uint64(p.Commit), p.Ordinal)
}

// less orders findings as they are shown.
func (f Finding) less(g Finding) bool {
	if f.Sequence != g.Sequence {
		return f.Sequence < g.Sequence
	}
	if !f.Committed.Equal(g.Committed) {
		return f.Committed.Before(g.Committed)
	}
	if f.At != nil && g.At != nil && *f.At != *g.At {
		return f.At.Topic < g.At.Topic || f.At.Topic == g.At.Topic &&
			(f.At.Partition < g.At.Partition || f.At.Partition == g.At.Partition && f.At.Offset < g.At.Offset)
	}
	return f.EventID < g.EventID
}
