package audit

import (
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/IBM/sarama"
	"github.com/cloudevents/sdk-go/v2/event"

	"github.com/outboxstream/streamer/examples/consumer"
	"github.com/outboxstream/streamer/examples/shop"
)

// Compare checks the records of all topics of a run against the ledger of that
// run. The records of a partition must be in the order of their offsets, as
// [Read] returns them.
//
// The events of an aggregate were committed in the order of their versions, so
// they must first have been published in that order.
func Compare(ledger shop.Ledger, messages []*sarama.ConsumerMessage) Report {
	c := comparison{
		report:     Report{Records: len(messages), Count: make(map[Kind]int)},
		committed:  eventsByID(ledger.Committed),
		rolledBack: eventsByID(ledger.RolledBack),
		first:      make(map[string]publication),
		latest:     make(map[shop.Aggregate]publication),
		byPlace:    make(map[place]int),
	}
	c.report.Committed, c.report.RolledBack = len(c.committed), len(c.rolledBack)
	for _, message := range messages {
		c.record(message)
	}
	for i := range c.partitions {
		c.endOf(&c.partitions[i])
	}
	c.lost(ledger)
	return c.report
}

func eventsByID(transactions []shop.Transaction) map[string]shop.Event {
	events := make(map[string]shop.Event)
	for _, transaction := range transactions {
		for _, event := range transaction.Events {
			events[event.ID.String()] = event
		}
	}
	return events
}

// comparison is the state of [Compare].
type comparison struct {
	report     Report
	committed  map[string]shop.Event
	rolledBack map[string]shop.Event
	first      map[string]publication // of each event ID
	latest     map[shop.Aggregate]publication
	partitions []partition
	byPlace    map[place]int // index among partitions
}

type place struct {
	topic     string
	partition int32
}

// publication is the first record of an event.
type publication struct {
	message *sarama.ConsumerMessage
	index   int // among the first records of its partition
	version int64
}

// record processes the next record of a partition.
func (c *comparison) record(message *sarama.ConsumerMessage) {
	decoded, err := consumer.Decode(message)
	if err != nil {
		c.report.found(Invalid, "%v", err)
		return
	}
	id := decoded.ID()
	written, committed := c.committed[id]
	if !committed {
		kind := Unknown
		if _, known := c.rolledBack[id]; known {
			kind = Phantom
		}
		c.report.found(kind, "event %s at %s", id, position(message))
		return
	}
	p := c.partitionOf(message)
	if earlier, repeated := c.first[id]; repeated {
		c.repetition(p, earlier, message)
		return
	}
	c.endOf(p)
	c.report.Published++
	published := publication{message: message, index: p.append(message), version: written.Version}
	c.first[id] = published
	c.faithful(written, decoded, message)
	c.inOrder(p, written, decoded, published)
}

func (c *comparison) partitionOf(message *sarama.ConsumerMessage) *partition {
	where := place{message.Topic, message.Partition}
	i, found := c.byPlace[where]
	if !found {
		i = len(c.partitions)
		c.byPlace[where] = i
		c.partitions = append(c.partitions, partition{})
	}
	return &c.partitions[i]
}

// faithful checks that the record says what the shop wrote.
func (c *comparison) faithful(written shop.Event, decoded event.Event, message *sarama.ConsumerMessage) {
	var payload struct {
		Version int64 `json:"version"`
	}
	// Invalid JSON has no version, and that is reported.
	_ = json.Unmarshal(decoded.Data(), &payload)
	for _, field := range []struct{ name, got, want string }{
		{"type", decoded.Type(), written.Type},
		{"subject", decoded.Subject(), written.AggregateID},
		{"key", string(message.Key), written.AggregateID},
		{"version", strconv.FormatInt(payload.Version, 10), strconv.FormatInt(written.Version, 10)},
	} {
		if field.got != field.want {
			c.report.found(Altered, "event %s at %s has %s %q instead of %q", written.ID, position(message), field.name, field.got, field.want)
		}
	}
}

// inOrder checks a first publication against earlier ones: those of its
// aggregate by version, those of its partition by the extension sequence.
func (c *comparison) inOrder(p *partition, written shop.Event, decoded event.Event, published publication) {
	aggregate := shop.Aggregate{Type: written.AggregateType, ID: written.AggregateID}
	before, found := c.latest[aggregate]
	c.latest[aggregate] = published
	message := published.message
	switch {
	case found && (before.message.Partition != message.Partition || before.message.Topic != message.Topic):
		c.report.found(Scattered, "event %s of %s is at %s, the one before at %s",
			written.ID, aggregate.ID, position(message), position(before.message))
	case found && before.version > written.Version:
		c.report.found(
			OutOfOrder, "version %d of %s at %s comes after version %d", written.Version, aggregate.ID,
			position(message), before.version,
		)
	case !p.ascends(decoded):
		c.report.found(OutOfOrder, "sequence of event %s at %s is not above the one before it", written.ID, position(message))
	}
}

// lost looks for committed events without a record.
func (c *comparison) lost(ledger shop.Ledger) {
	for _, transaction := range ledger.Committed {
		for _, event := range transaction.Events {
			if _, found := c.first[event.ID.String()]; !found {
				c.report.found(Lost, "event %s: %s of %s, version %d", event.ID, event.Type, event.AggregateID, event.Version)
			}
		}
	}
}

// position says where a record is.
func position(message *sarama.ConsumerMessage) string {
	return fmt.Sprintf("%s-%d@%d", message.Topic, message.Partition, message.Offset)
}
