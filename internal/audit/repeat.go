package audit

import (
	"bytes"
	"slices"

	"github.com/IBM/sarama"
	"github.com/cloudevents/sdk-go/v2/event"
)

// partition follows one partition from its beginning.
//
// After a crash the streamer goes back to its checkpoint: it repeats the last
// records of the partition, in the same order, and only then goes on. next is
// the index among the first records that such a repetition has reached. If no
// repetition is under way, it is the number of first records.
type partition struct {
	first    []*sarama.ConsumerMessage
	next     int
	sequence string // of the latest first record
}

// append adds a first record and returns its index.
func (p *partition) append(message *sarama.ConsumerMessage) int {
	p.first = append(p.first, message)
	p.next = len(p.first)
	return p.next - 1
}

// ascends reports whether the sequence of the event is above all before it. Its
// text has a fixed width, so comparing text compares positions.
func (p *partition) ascends(decoded event.Event) bool {
	sequence, _ := decoded.Extensions()["sequence"].(string)
	above := sequence > p.sequence
	p.sequence = max(sequence, p.sequence)
	return above
}

// repetition checks a record whose event already has a record.
func (c *comparison) repetition(p *partition, earlier publication, message *sarama.ConsumerMessage) {
	c.report.Repeated++
	switch {
	case earlier.message.Topic != message.Topic || earlier.message.Partition != message.Partition:
		c.report.found(Scattered, "record %s repeats %s in another partition", position(message), position(earlier.message))
		return
	case !same(earlier.message, message):
		c.report.found(Altered, "record %s repeats %s with other bytes", position(message), position(earlier.message))
	case earlier.index > p.next:
		c.report.found(Torn, "record %s repeats %s and leaves out %d records before it",
			position(message), position(earlier.message), earlier.index-p.next)
	}
	// A record further back belongs to the next crash's repetition.
	p.next = earlier.index + 1
}

// endOf checks that a repetition has reached the end of the first records.
func (c *comparison) endOf(p *partition) {
	if left := len(p.first) - p.next; left > 0 {
		c.report.found(Torn, "the repetition ends %d records before %s", left, position(p.first[len(p.first)-1]))
	}
	p.next = len(p.first)
}

// same reports whether two records differ in their offsets only.
func same(a, b *sarama.ConsumerMessage) bool {
	return bytes.Equal(a.Key, b.Key) && bytes.Equal(a.Value, b.Value) && a.Timestamp.Equal(b.Timestamp) &&
		slices.EqualFunc(a.Headers, b.Headers, func(x, y *sarama.RecordHeader) bool {
			return bytes.Equal(x.Key, y.Key) && bytes.Equal(x.Value, y.Value)
		})
}
