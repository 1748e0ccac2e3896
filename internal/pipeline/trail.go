package pipeline

import (
	"fmt"
	"math"

	"github.com/outboxstream/streamer/checkpoint"
	"github.com/outboxstream/streamer/decoder"
	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/replication"
	"github.com/outboxstream/streamer/router"
)

// trail remembers the last event of each of the youngest transactions, so that
// a checkpoint can name the last event below it. It belongs to the reading
// goroutine and allocates nothing once it has grown.
type trail struct {
	steps []step
	next  step // of the transaction being read
}

type step struct {
	end      replication.LSN // of the transaction
	position replication.Position
	eventID  []byte
}

// longestTrail bounds the steps. When they are used up, the youngest gives way
// to the next, and a checkpoint in between names an older event.
const longestTrail = 1024

// pass notes an event.
func (t *trail) pass(e *decoder.Event) {
	t.next.position = e.Position
	t.next.eventID = append(t.next.eventID[:0], e.Attribute(decoder.ID)...)
}

// commit notes the end of a transaction.
func (t *trail) commit(end replication.LSN) {
	if t.next.position == (replication.Position{}) {
		return
	}
	n := len(t.steps)
	switch {
	case n < cap(t.steps):
		t.steps = t.steps[:n+1]
	case n < longestTrail:
		t.steps = append(t.steps, step{})
	default:
		n--
	}
	s := &t.steps[n]
	s.end, s.position = end, t.next.position
	s.eventID = append(s.eventID[:0], t.next.eventID...)
	t.next.position = replication.Position{}
}

// below is the last event below a checkpoint, or nil; older ones are forgotten.
func (t *trail) below(lsn replication.LSN) *checkpoint.Event {
	last := -1
	for i := range t.steps {
		if t.steps[i].end > lsn {
			break
		}
		last = i
	}
	if last < 0 {
		return nil
	}
	s := &t.steps[last]
	found := &checkpoint.Event{Sequence: router.FormatSequence(s.position), ID: string(s.eventID)}
	// Swapping keeps the memory of what is forgotten.
	for from, to := last+1, 0; from < len(t.steps); from, to = from+1, to+1 {
		t.steps[to], t.steps[from] = t.steps[from], t.steps[to]
	}
	t.steps = t.steps[:len(t.steps)-last-1]
	return found
}

// landmark is an event that was published before the checkpoint and must come by
// again, because the slot begins before it.
type landmark struct {
	position replication.Position
	eventID  string
}

// from is where to begin to read, given a checkpoint. A server that has crashed
// begins before it, because it stores the slot's position now and then only. So
// does one that was restored from a backup, whose log may have grown beyond the
// checkpoint since with other transactions; the last event that was published
// tells the two apart.
func (p *Pipeline) from(slot replication.Slot, stored checkpoint.Record) replication.LSN {
	p.flow.landmark = nil
	if stored.Last == nil || slot.Confirmed == 0 || slot.Confirmed >= stored.LSN {
		return stored.LSN
	}
	at, err := router.ParseSequence(stored.Last.Sequence)
	if err != nil || at.Commit < slot.Confirmed {
		return stored.LSN
	}
	p.flow.landmark = &landmark{position: at, eventID: stored.Last.ID}
	published := replication.Position{Commit: stored.LSN - 1, Ordinal: math.MaxUint32}
	if published.Compare(p.flow.handed) > 0 {
		p.flow.handed = published
	}
	return slot.Confirmed
}

// recognise compares an event with the one that has to come by.
func (s *session) recognise(e *decoder.Event) error {
	switch order := e.Position.Compare(s.flow.landmark.position); {
	case order < 0:
		return nil
	case order == 0 && string(e.Attribute(decoder.ID)) == s.flow.landmark.eventID:
		s.flow.landmark = nil
		s.reader.Received(s.flow.saver.lastSaved().LSN)
		return nil
	}
	return s.otherHistory()
}

// reached ends the session if the landmark lies behind and has not come by.
func (s *session) reached(lsn replication.LSN) error {
	if s.flow.landmark != nil && lsn > s.flow.landmark.position.Commit {
		return s.otherHistory()
	}
	return nil
}

func (s *session) otherHistory() error {
	return failure.Refuse(fmt.Errorf("%w: event %q was published with sequence %s, but the slot has something else there: this server was restored from a backup, or is another one: compare the outbox table with Kafka (`streamer verify`), then decide with `streamer checkpoint set`",
		router.ErrOtherHistory, s.flow.landmark.eventID, router.FormatSequence(s.flow.landmark.position)))
}
