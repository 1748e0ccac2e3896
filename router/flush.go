package router

import (
	"math"
	"time"
)

// Flush seals open batches whose broker has nothing else to do, so that they are
// sent at once. The others grow until a request returns. This is Nagle's rule
// and needs no clock.
//
// It seals the oldest ones, up to a request that is worth its cost. The others
// continue to grow: if all were sealed together, those of a thousand partitions
// would be half as large in the same memory.
//
// While the stream is flowing, more is sure to come. Then nothing is sent
// before it is worth a request, and Flush reports that it holds batches back.
func (p *Producer) Flush(flowing bool) (held bool) {
	if len(p.open) == 0 {
		return false
	}
	if flowing && p.opened < worthwhile {
		return true
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sealOldestLocked(worthwhile, func(part *partition) bool {
		return part.broker != nil && part.broker.idleLocked() && p.lingered(part.open)
	})
	return false
}

func (p *Producer) lingered(b *Batch) bool {
	return p.config.Linger == 0 || time.Since(b.opened) >= p.config.Linger
}

// Seal seals every open batch, whatever the brokers are doing. It is for
// stopping.
func (p *Producer) Seal() { p.sealAll() }

func (p *Producer) sealAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sealOldestLocked(math.MaxInt, func(*partition) bool { return true })
}

// makeRoom seals open batches when no more memory may be in flight. A quarter
// of it on its way keeps the brokers busy.
func (p *Producer) makeRoom() {
	p.mu.Lock()
	defer p.mu.Unlock()
	onTheirWay := p.inFlight - p.opened
	p.sealOldestLocked(p.config.MaxInFlightBytes/4-onTheirWay, func(*partition) bool { return true })
}

// sealOldestLocked seals the oldest of the open batches that are wanted, until
// they have as many bytes.
func (p *Producer) sealOldestLocked(bytes int, wanted func(*partition) bool) {
	// All are chosen before the first is sealed, because sealing makes the
	// broker busy.
	p.chosen = p.chosen[:0]
	rest := p.open[:0]
	for _, part := range p.open {
		if bytes > 0 && wanted(part) {
			p.chosen = append(p.chosen, part)
			bytes -= part.open.memory
		} else {
			rest = append(rest, part)
		}
	}
	p.open = rest
	for _, part := range p.chosen {
		p.sealLocked(part)
	}
}

// seal seals the open batch of one partition.
func (p *Producer) seal(part *partition) {
	for i, other := range p.open {
		if other == part {
			p.open = append(p.open[:i], p.open[i+1:]...)
			break
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sealLocked(part)
}

// sealLocked assigns sequence numbers to the open batch and queues it.
func (p *Producer) sealLocked(part *partition) {
	b := part.open
	part.open = nil
	p.opened -= b.memory
	part.enqueue(b)
	p.scheduleLocked(part)
}

// Ready reports whether Collect has something to do. It costs one atomic load.
func (p *Producer) Ready() bool { return p.ready.Load() }

// Collect processes acknowledged batches. It returns why production has ended,
// if it has.
func (p *Producer) Collect() error {
	p.ready.Store(false)
	p.mu.Lock()
	finished, err := p.finished, p.err
	p.finished = nil
	p.mu.Unlock()
	for _, b := range finished {
		p.tracker.Finish(b.ticket)
		p.inFlight -= b.memory
		p.events -= b.count()
		if p.observe != nil {
			p.observe.Published(Publication{
				Topic: b.partition.topic.name, Partition: b.partition.id, Events: b.count(), Bytes: b.size,
				OldestCommit: time.UnixMicro(b.oldest), Opened: b.opened, Traces: b.traces,
			})
		}
		p.recycle(b)
	}
	return err
}
