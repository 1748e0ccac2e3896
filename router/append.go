package router

import (
	"errors"
	"fmt"
	"time"

	"github.com/outboxstream/streamer/decoder"
	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/replication"
)

// Result is what happened to an event given to Append.
type Result int

const (
	// NotTaken is returned with an error.
	NotTaken Result = iota
	// Appended means that the event is in a batch and will be sent.
	Appended
	// Blocked means not now. Producer.Waiting gives the reason. The caller
	// tries again with the same event after it has been notified and Collect
	// has run.
	Blocked
	// Skipped means that Kafka already has the event.
	Skipped
)

// PoisonError is an event that Kafka or CloudEvents will never accept.
type PoisonError struct {
	Position replication.Position
	EventID  string
	Class    PoisonClass
	Reason   error
	// Late means that the broker rejected the event after later events had been
	// appended. The producer cannot continue.
	Late bool
}

func (e *PoisonError) Error() string {
	return fmt.Sprintf("outbox row %q at %s: %s", e.EventID, e.Position, e.Reason)
}

func (e *PoisonError) Unwrap() error { return e.Reason }

func poison(e *decoder.Event, class PoisonClass, reason error) error {
	return &PoisonError{Position: e.Position, EventID: string(e.Attribute(decoder.ID)), Class: class, Reason: reason}
}

// Reason returns what is wrong with a row, without naming the row.
func Reason(err error) string {
	if p, ok := errors.AsType[*decoder.PoisonError](err); ok {
		return p.Reason
	}
	if p, ok := errors.AsType[*PoisonError](err); ok {
		return failure.Describe(p.Reason)
	}
	return failure.Describe(err)
}

// Append adds an event to the batch of its partition. It copies what it needs.
// An error is a *PoisonError or ErrOtherHistory.
func (p *Producer) Append(e *decoder.Event) (Result, error) {
	if p.buried != nil && p.burying() {
		return p.block(waitingForDeadLetter)
	}
	// A published event is skipped even if it could not be published now.
	if p.config.Passage.Alone(e.Position) || p.config.Foreign.has(e, p.router.Source) {
		return Skipped, nil
	}
	d, err := p.router.Route(e)
	if err != nil {
		return NotTaken, poison(e, PoisonRoute, err)
	}
	t := p.topic(d.Topic, e.Attribute(decoder.ID), e.Position)
	if !t.ready.Load() {
		if fault := t.hopeless.Load(); fault != nil {
			return NotTaken, poison(e, fault.class, fault.reason)
		}
		return p.block("waiting for the metadata of a topic")
	}
	if t.grown.Load() != 0 && !p.grow(t) {
		return p.block("waiting for a topic with new partitions to drain")
	}
	part := t.partitionOf(d.Key)
	if published, err := p.config.Passage.holds(e.Position, t.name, part.id, len(t.partitions)); err != nil || published {
		return Skipped, err
	}
	if p.config.Held != nil && p.config.Held(t.name, part.id) {
		return Skipped, nil
	}
	if err := p.router.fits(e); err != nil {
		return NotTaken, err
	}
	size := len(e.Data) + recordMemory
	if p.inFlight > 0 && p.inFlight+size > p.config.MaxInFlightBytes {
		p.makeRoom()
		return p.block(waitingForBroker)
	}
	if part.open != nil && part.open.size+size > p.config.MaxBatchBytes {
		p.seal(part)
	}
	return p.add(part, e, &d)
}

// fits checks the size of the payload. An error is a *PoisonError.
func (r *Router) fits(e *decoder.Event) error {
	limit := r.rules.MaxRecordBytes
	if limit == 0 || len(e.Data) <= limit {
		return nil
	}
	return poison(e, PoisonSize, failure.Advise(
		fmt.Errorf("payload of %d bytes is larger than kafka.max_record_bytes (%d)", len(e.Data), limit),
		"raise it together with the topic's max.message.bytes, or publish a reference",
	))
}

func (p *Producer) block(why string) (Result, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.blocked = why
	return Blocked, nil
}

// add encodes the event into the partition's open batch.
func (p *Producer) add(part *partition, e *decoder.Event, d *Destination) (Result, error) {
	b := part.open
	fresh := b == nil
	if fresh {
		b = p.take()
	}
	before := b.memory
	p.encoder.late = p.config.Foreign.late(e)
	if err := p.encoder.encode(b, e, d); err != nil {
		if fresh {
			p.recycle(b)
		}
		return NotTaken, poison(e, PoisonEvent, err)
	}
	if p.config.Traces {
		b.trace(e.Attribute(decoder.TraceParent))
	}
	if fresh {
		p.place(part, b)
	}
	p.count(part, b, before, e.Position)
	if b.size >= p.config.MaxBatchBytes {
		p.seal(part)
	}
	return Appended, nil
}

// place makes b the partition's open batch.
func (p *Producer) place(part *partition, b *Batch) {
	b.partition = part
	b.ticket = p.tracker.Open()
	part.open = b
	p.open = append(p.open, part)
}

// count records an event that was added to a batch. before is the batch's
// memory before that.
func (p *Producer) count(part *partition, b *Batch, before int, at replication.Position) {
	p.tracker.Add()
	p.inFlight += b.memory - before
	p.opened += b.memory - before
	p.events++
	part.last = at
}

// take returns an empty batch that is opened now.
func (p *Producer) take() *Batch {
	b := p.unused()
	b.opened = time.Now()
	b.earliest = p.earliest(b.opened)
	return b
}

func (p *Producer) unused() *Batch {
	if n := len(p.free); n > 0 {
		b := p.free[n-1]
		p.free = p.free[:n-1]
		p.freeSize -= b.retained()
		return b
	}
	b := newBatch()
	b.lends = &p.memory
	return b
}

// recycle keeps a batch for reuse. All recycled batches together keep up to
// half of what may be in flight.
func (p *Producer) recycle(b *Batch) {
	b.reset()
	if size := b.retained(); p.freeSize+size <= p.config.MaxInFlightBytes/2 {
		p.free = append(p.free, b)
		p.freeSize += size
	}
}
