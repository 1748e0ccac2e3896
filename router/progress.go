package router

import (
	"fmt"
	"maps"
	"math"
	"time"

	"github.com/outboxstream/streamer/replication"
)

// InFlight returns the memory in bytes of everything not yet acknowledged.
func (p *Producer) InFlight() int { return p.inFlight }

// Accepts reports whether there is room for events again: half of what may be
// in flight is free, and no topic is being looked up.
func (p *Producer) Accepts() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.inFlight <= p.config.MaxInFlightBytes/2 && len(p.unknown)+len(p.unstored) == 0
}

// Events returns the number of events not yet acknowledged.
func (p *Producer) Events() int { return p.events }

// Oldest returns the commit time of the oldest unacknowledged event, and false
// if there is none. Like Events it knows only what Collect has seen.
func (p *Producer) Oldest() (oldest time.Time, inFlight bool) {
	if p.events == 0 {
		return time.Time{}, false
	}
	first := int64(math.MaxInt64)
	consider := func(b *Batch) {
		if b != nil && b.done == nil {
			first = min(first, b.oldest)
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, b := range p.finished {
		consider(b)
	}
	for _, t := range p.known {
		for _, part := range t.partitions {
			consider(part.open)
			for _, b := range part.sent {
				consider(b)
			}
			for _, b := range part.queue {
				consider(b)
			}
		}
	}
	if first == math.MaxInt64 {
		return time.Time{}, false
	}
	return time.UnixMicro(first), true
}

// waitingForBroker is the reason why something stays in flight.
const waitingForBroker = "waiting for the broker to acknowledge"

// Waiting returns what last blocked Append.
func (p *Producer) Waiting() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.blocked + p.troubleLocked()
}

// Unacknowledged returns why appended events are still in flight.
func (p *Producer) Unacknowledged() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return waitingForBroker + p.troubleLocked()
}

// troubleLocked returns the end of a sentence that names a topic and what is
// wrong with it, or an empty string.
func (p *Producer) troubleLocked() string {
	for part := range p.lookups {
		if part.lastErr != nil {
			return fmt.Sprintf(": topic %q partition %d: %s", part.topic.name, part.id, part.lastErr)
		}
	}
	for t := range p.unknown {
		if t.lastErr != nil {
			return fmt.Sprintf(": topic %q: %s", t.name, t.lastErr)
		}
	}
	return ""
}

// Written returns, for each partition of a topic, the position up to which
// everything routed to it is acknowledged. A successor of this producer must
// not write those events again. Unacknowledged events are not covered. The dead
// letter topic is left out, because it holds no prefix of the stream.
func (p *Producer) Written() map[string][]replication.Position {
	p.mu.Lock()
	defer p.mu.Unlock()
	written := map[string][]replication.Position{}
	if p.config.Passage != nil {
		maps.Copy(written, p.config.Passage.written) // includes topics for which no event has arrived
	}
	for _, t := range p.known {
		if !t.admitted || t.deadLetters {
			continue
		}
		all := make([]replication.Position, len(t.partitions))
		for i, part := range t.partitions {
			all[i] = part.acknowledged
		}
		written[t.name] = all
	}
	return written
}
