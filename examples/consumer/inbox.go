package consumer

import (
	"github.com/cloudevents/sdk-go/v2/event"
)

// Verdict is an [Inbox]'s judgement of an event.
type Verdict string

// The verdicts of an [Inbox].
const (
	New        Verdict = "new"          // handle it
	Repeated   Verdict = "repeated"     // handled before: skip it
	OutOfOrder Verdict = "out of order" // a new event after a later one: something is wrong
)

// Inbox remembers the events of one partition. It is not safe for concurrent
// use; give each partition its own.
//
// This one keeps its memory in the process. That shows how it works but is not
// enough for a real consumer. A real consumer stores source and ID in its own
// database, under a unique constraint and in the transaction that stores the
// effect of the event. Then a repeated event finds its row and changes nothing,
// even if the consumer was restarted in between.
type Inbox struct {
	capacity int
	known    map[identity]struct{}
	ring     []identity // the known ones; the oldest is at next once the ring is full
	next     int

	highest map[string]string // sequence of the latest event, by source
}

// identity identifies an event. The ID alone is not enough: two services may
// number their events alike.
type identity struct {
	source string
	id     string
}

// NewInbox returns an inbox that remembers the given number of events, at least one.
func NewInbox(capacity int) *Inbox {
	return &Inbox{
		capacity: max(capacity, 1),
		known:    make(map[identity]struct{}),
		highest:  make(map[string]string),
	}
}

// Check says what to do with an event, and remembers it.
//
// A repetition that is older than the inbox's memory is reported as out of
// order: its sequence shows that it is not new.
func (i *Inbox) Check(e event.Event) Verdict {
	who := identity{source: e.Source(), id: e.ID()}
	if _, found := i.known[who]; found {
		return Repeated
	}
	i.remember(who)

	sequence, present := e.Extensions()["sequence"].(string)
	if !present {
		return New // written by another program; there is no order to check
	}
	// The text has a fixed width, so comparing text compares positions. Gaps are
	// normal: the numbers in between went to other partitions.
	if sequence <= i.highest[who.source] {
		return OutOfOrder
	}
	i.highest[who.source] = sequence
	return New
}

func (i *Inbox) remember(who identity) {
	i.known[who] = struct{}{}
	if len(i.ring) < i.capacity {
		i.ring = append(i.ring, who)
		return
	}
	delete(i.known, i.ring[i.next])
	i.ring[i.next] = who
	i.next = (i.next + 1) % i.capacity
}
