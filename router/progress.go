package router

import (
	"fmt"
	"maps"
	"math"
	"time"

	"github.com/outboxstream/streamer/replication"
)

// InFlight is the memory in bytes of everything not yet acknowledged.
func (p *Producer) InFlight() int { return p.inFlight }

// Accepts tells whether there is room for events again: half of what may be in
// flight is free, and no topic is being looked up.
func (p *Producer) Accepts() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.inFlight <= p.config.MaxInFlightBytes/2 && len(p.unknown)+len(p.unstored) == 0
}

// Events is the number of events not yet acknowledged.
func (p *Producer) Events() int { return p.events }

// Oldest is when the oldest event was committed that is not yet acknowledged,
// and false if there is none. Like Events it knows what Collect has seen.
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

// waitingForBroker is why something stays in flight.
const waitingForBroker = "waiting for the broker to acknowledge"

// Waiting says what Append was last blocked by.
func (p *Producer) Waiting() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.blocked + p.troubleLocked()
}

// Unacknowledged says why what has been appended is still in flight.
func (p *Producer) Unacknowledged() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return waitingForBroker + p.troubleLocked()
}

// troubleLocked is the end of a sentence that names a topic and what is wrong with
// it, or nothing.
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

// Written tells, for each partition of a topic, up to where everything routed to it
// is acknowledged. A successor of this producer must not write that again; what is
// not yet acknowledged is not in it. Dead letters are not: they hold no prefix of
// the stream.
func (p *Producer) Written() map[string][]replication.Position {
	p.mu.Lock()
	defer p.mu.Unlock()
	written := map[string][]replication.Position{}
	if p.config.Passage != nil {
		maps.Copy(written, p.config.Passage.written) // of topics that no event has come for, too
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
