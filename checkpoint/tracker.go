package checkpoint

import "github.com/jackc/pglogrepl"

// LSN is a position in PostgreSQL's write-ahead log.
type LSN = pglogrepl.LSN

// Ticket identifies a batch that has been opened and not yet finished.
type Ticket = uint64

// Tracker computes the low watermark of publication without a record per event.
//
// Events are numbered as they are taken from the stream. Each batch is
// identified by the number of its first event. The end of each transaction, and
// each idle position of the server, is a mark: "every event below this number
// is part of what is below this LSN". The confirmed position is the LSN of the
// last mark at or below the first event of the oldest unfinished batch.
//
// A Tracker is not for concurrent use; the goroutine that reads the stream owns
// it.
type Tracker struct {
	confirmed LSN
	next      uint64 // number of the next event

	// batches are in ascending order of ticket and first event; the first one is
	// unfinished. Finished ones after it stay until they are the majority.
	batches  ring[batch]
	opened   Ticket // next ticket
	finished int    // of batches

	// marks are in ascending order of event and LSN, all above confirmed.
	marks ring[mark]
}

type batch struct {
	ticket   Ticket
	first    uint64
	finished bool
}

type mark struct {
	event uint64 // number of the first event after the mark
	lsn   LSN
}

// NewTracker returns a tracker whose confirmed position is the checkpoint.
func NewTracker(confirmed LSN) *Tracker { return &Tracker{confirmed: confirmed} }

// Open registers a batch whose first event is the next one. It must be called
// before that event is counted with Add.
func (t *Tracker) Open() Ticket {
	ticket := t.opened
	t.opened++
	t.batches.push(batch{ticket: ticket, first: t.next})
	return ticket
}

// Add counts an event that has been put into an open batch.
func (t *Tracker) Add() { t.next++ }

// Finish records that all events of a batch have been acknowledged. A ticket
// that was finished before, or never opened, changes nothing.
func (t *Tracker) Finish(ticket Ticket) {
	b := t.find(ticket)
	if b == nil || b.finished {
		return
	}
	b.finished = true
	t.finished++
	for t.batches.len() > 0 && t.batches.at(0).finished {
		t.batches.pop()
		t.finished--
	}
	t.advance()
	t.compact()
}

// find returns the batch with the ticket, nil if it is gone.
func (t *Tracker) find(ticket Ticket) *batch {
	low, high := 0, t.batches.len()
	for low < high {
		if middle := (low + high) / 2; t.batches.at(middle).ticket < ticket {
			low = middle + 1
		} else {
			high = middle
		}
	}
	if low == t.batches.len() || t.batches.at(low).ticket != ticket {
		return nil
	}
	return t.batches.at(low)
}

// Mark records that everything counted so far is part of what is below lsn: the
// end of a transaction, or an idle position between two transactions. Positions
// that do not rise are ignored: after a reconnect they come again.
func (t *Tracker) Mark(lsn LSN) {
	last := t.confirmed
	if n := t.marks.len(); n > 0 {
		last = t.marks.at(n - 1).lsn
	}
	if lsn <= last {
		return
	}
	t.mark(lsn)
	t.advance()
}

// mark adds a mark. It replaces the last mark instead if no batch begins
// between the two, because then both will be reached at the same moment. So
// there are never more marks than batches, plus one.
func (t *Tracker) mark(lsn LSN) {
	if n := t.marks.len(); n > 0 {
		last := t.marks.at(n - 1)
		youngest := t.batches.at(t.batches.len() - 1) // a mark waits only for a batch
		if last.event == t.next || youngest.first < last.event {
			*last = mark{t.next, lsn}
			return
		}
	}
	t.marks.push(mark{t.next, lsn})
}

func (t *Tracker) advance() {
	low := t.next
	if t.batches.len() > 0 {
		low = t.batches.at(0).first
	}
	for t.marks.len() > 0 && t.marks.at(0).event <= low {
		t.confirmed = t.marks.pop().lsn
	}
}

// compact drops finished batches, and marks that only those kept apart, once
// they are the majority. Without it, one stalled partition would cost memory
// for each batch of the others.
func (t *Tracker) compact() {
	if t.finished <= t.batches.len()/2 {
		return
	}
	t.batches.filter(func(_ int, b batch) bool { return !b.finished })
	t.finished = 0

	next := 0 // first batch at or above the mark
	t.marks.filter(func(i int, m mark) bool {
		for next < t.batches.len() && t.batches.at(next).first < m.event {
			next++
		}
		last := i == t.marks.len()-1
		return last || next < t.batches.len() && t.batches.at(next).first < t.marks.at(i+1).event
	})
}

// Confirmed is the position below which everything has been acknowledged. It
// never decreases.
func (t *Tracker) Confirmed() LSN { return t.confirmed }

// Idle reports whether nothing is in flight.
func (t *Tracker) Idle() bool { return t.batches.len() == 0 }

// ring is a queue that reuses its memory.
type ring[T any] struct {
	items []T // length is a power of two
	head  int
	count int
}

func (r *ring[T]) len() int { return r.count }

func (r *ring[T]) at(i int) *T { return &r.items[(r.head+i)&(len(r.items)-1)] }

func (r *ring[T]) push(item T) {
	if r.count == len(r.items) {
		grown := make([]T, max(16, 2*len(r.items)))
		for i := range r.count {
			grown[i] = *r.at(i)
		}
		r.items, r.head = grown, 0
	}
	r.count++
	*r.at(r.count - 1) = item
}

func (r *ring[T]) pop() T {
	item := *r.at(0)
	r.head = (r.head + 1) & (len(r.items) - 1)
	r.count--
	return item
}

// filter keeps, in order, the items for which keep returns true. When it asks
// about an item, those after it are still in place.
func (r *ring[T]) filter(keep func(i int, item T) bool) {
	kept := 0
	for i := range r.count {
		if item := *r.at(i); keep(i, item) {
			*r.at(kept) = item
			kept++
		}
	}
	r.count = kept
}
