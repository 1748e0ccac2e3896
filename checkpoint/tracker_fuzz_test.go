package checkpoint

import (
	"math/bits"
	"testing"

	"github.com/stretchr/testify/require"
)

// model is the definition of the confirmed position, without any cleverness: it
// keeps every event and every mark, and examines all of them each time.
type model struct {
	initial  LSN
	events   []Ticket // the batch of each event
	finished map[Ticket]bool
	marks    []modelMark
}

type modelMark struct {
	events int // counted before the mark
	lsn    LSN
}

func (m *model) mark(lsn LSN) {
	highest := m.initial
	if len(m.marks) > 0 {
		highest = m.marks[len(m.marks)-1].lsn
	}
	if lsn > highest {
		m.marks = append(m.marks, modelMark{len(m.events), lsn})
	}
}

// confirmed is the last mark such that all events before it are finished.
func (m *model) confirmed() LSN {
	acknowledged := 0
	for acknowledged < len(m.events) && m.finished[m.events[acknowledged]] {
		acknowledged++
	}
	confirmed := m.initial
	for _, mark := range m.marks {
		if mark.events <= acknowledged {
			confirmed = mark.lsn
		}
	}
	return confirmed
}

// driver applies to a tracker what a producer does, and the same to the model.
type driver struct {
	tracker *Tracker
	model   model
	open    map[byte]Ticket // by partition
	sent    []Ticket
	done    []Ticket
	lsn     LSN
	most    int // unfinished batches at any time
}

// step executes one byte of the program.
func (d *driver) step(instruction byte) {
	operation, argument := instruction&7, instruction>>3
	switch operation {
	case 0, 1, 2: // an event for a partition
		d.event(argument & 7)
	case 3: // the batch of a partition leaves
		if ticket, ok := d.open[argument&7]; ok {
			delete(d.open, argument&7)
			d.sent = append(d.sent, ticket)
		}
	case 4: // a batch is acknowledged, the oldest or any
		if len(d.sent) > 0 {
			i := int(argument) % len(d.sent)
			d.finish(d.sent[i])
			d.done = append(d.done, d.sent[i])
			d.sent = append(d.sent[:i], d.sent[i+1:]...)
		}
	case 5: // finished again, or one that was never opened
		if len(d.done) > int(argument) {
			d.tracker.Finish(d.done[len(d.done)-1-int(argument)])
		} else {
			d.tracker.Finish(Ticket(len(d.sent) + len(d.open) + len(d.done) + int(argument)))
		}
	case 6: // a transaction ends
		d.lsn += LSN(argument) + 1
		d.mark(d.lsn)
	case 7: // an old position comes again, or the same
		d.mark(d.lsn - min(d.lsn, LSN(argument)))
	}
}

func (d *driver) event(partition byte) {
	ticket, ok := d.open[partition]
	if !ok {
		ticket = d.tracker.Open()
		d.open[partition] = ticket
	}
	d.tracker.Add()
	d.model.events = append(d.model.events, ticket)
}

func (d *driver) finish(ticket Ticket) {
	d.tracker.Finish(ticket)
	d.model.finished[ticket] = true
}

func (d *driver) mark(lsn LSN) {
	d.tracker.Mark(lsn)
	d.model.mark(lsn)
}

func (d *driver) check(t *testing.T, before LSN) {
	t.Helper()
	unfinished := len(d.open) + len(d.sent)
	d.most = max(d.most, unfinished)
	batches, marks := &d.tracker.batches, &d.tracker.marks

	confirmed, room := d.tracker.Confirmed(), max(16, 1<<bits.Len(uint(2*d.most+1)))
	switch want := d.model.confirmed(); {
	case confirmed != want:
		t.Fatalf("confirmed %s, want %s", confirmed, want)
	case confirmed < before:
		t.Fatalf("confirmed %s after %s", confirmed, before)
	case d.tracker.Idle() != (unfinished == 0):
		t.Fatalf("idle with %d unfinished batches", unfinished)
	case marks.len() > batches.len()+1:
		t.Fatalf("%d marks for %d batches", marks.len(), batches.len())
	case d.tracker.finished != batches.len()-unfinished:
		t.Fatalf("%d finished among %d batches, want %d", d.tracker.finished, batches.len(), batches.len()-unfinished)
	case batches.len() > 2*unfinished+1:
		t.Fatalf("%d batches are remembered for %d unfinished ones", batches.len(), unfinished)
	case len(batches.items) > room || len(marks.items) > room:
		t.Fatalf("room for %d batches and %d marks, never more than %d unfinished", len(batches.items), len(marks.items), d.most)
	}
}

func FuzzTracker(f *testing.F) {
	// Instructions are operation | argument<<3.
	f.Add([]byte{0, 6, 3, 4, 6})                            // one event, there and back
	f.Add([]byte{0, 6, 8, 6, 0, 6, 3, 11, 12, 4, 6})        // two batches, the younger first
	f.Add([]byte{0, 6, 8, 6, 3, 4, 6, 5, 11, 4})            // finished twice
	f.Add([]byte{0, 6, 8, 6, 11, 4, 8, 6, 11, 4, 8, 14, 7}) // one stalls
	f.Add([]byte{6, 7, 15, 0, 7, 255, 6, 3, 4})             // positions that do not rise
	f.Fuzz(func(t *testing.T, program []byte) {
		const longest = 2000 // the model is quadratic
		program = program[:min(len(program), longest)]
		const initial = 40
		d := &driver{
			tracker: NewTracker(initial), lsn: initial, open: map[byte]Ticket{},
			model: model{initial: initial, finished: map[Ticket]bool{}},
		}
		for _, instruction := range program {
			before := d.tracker.Confirmed()
			d.step(instruction)
			d.check(t, before)
		}
		d.acknowledgeAll()
		d.check(t, d.tracker.Confirmed())
		require.True(t, d.tracker.Idle())
		require.Zero(t, d.tracker.marks.len(), "every mark is reached in the end")
	})
}

func (d *driver) acknowledgeAll() {
	for partition := range byte(8) {
		d.step(3 | partition<<3)
	}
	for len(d.sent) > 0 {
		d.step(4)
	}
}
