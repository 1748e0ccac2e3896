package pipeline

import (
	"math"

	"github.com/outboxstream/streamer/checkpoint"
	"github.com/outboxstream/streamer/replication"
	"github.com/outboxstream/streamer/router"
	"github.com/outboxstream/streamer/router/wire"
)

// history is one line of WAL, on which a position is unambiguous. A flow
// belongs to one history and ends with it.
type history struct {
	systemID string
	timeline int32
	started  string // identifies the run of the server, as reported by it
	database string
	slot     string
	number   int // raised when the operator accepts another history
}

func historyOf(s replication.Server, slot string, number int) history {
	return history{systemID: s.SystemID, timeline: s.Timeline, started: s.Started, database: s.Database, slot: slot, number: number}
}

// historyIn is the history in which a checkpoint was made.
func historyIn(r checkpoint.Record) history {
	return history{systemID: r.SystemID, timeline: r.Timeline, started: r.Started, database: r.Database, slot: r.Slot, number: r.History}
}

// goesOn reports whether a server is on the same line of WAL. It is either on
// the same timeline, or the same server, promoted while it was being read.
func (h history) goesOn(with history) bool {
	if h.started != "" && h.started == with.started {
		h.timeline = with.timeline
	}
	h.started = with.started
	return h == with
}

// resumePoint is where a stream continues. Its record says in which history,
// from which LSN and after which row. Its point is the position of that row,
// with the digest of what this process has read.
type resumePoint struct {
	checkpoint.Record
	point router.Point
	// low is the LSN from which rows may be unpublished, except for those that
	// reappear. It is the record's LSN, or below it if that LSN may belong to a
	// history that the server does not have.
	low replication.LSN
	// order is that of the snapshot, while it is under way.
	order replication.Order
}

// resumeAt is the resume point of a loaded record. If the last row below its
// LSN is known exactly, nothing above that row was published, whatever the LSN.
// Otherwise everything below the LSN was published or must not be.
func resumeAt(r checkpoint.Record) resumePoint {
	last, known := lastOf(r)
	if r.Snapshot.Pending() { // its rows are right below the record's LSN, and not all of them are published
		return resumePoint{Record: r, low: r.LSN - 1}
	}
	if r.Exact = r.Exact && known; r.Exact {
		return resumePoint{Record: r, point: router.Point{Position: last.Position}, low: r.LSN}
	}
	return resumePoint{Record: r, point: router.Point{Position: replication.Position{Commit: r.LSN - 1, Ordinal: math.MaxUint32}}, low: r.LSN}
}

// lastOf is the last row below a checkpoint. known reports whether the record
// names it.
func lastOf(r checkpoint.Record) (last router.Landmark, known bool) {
	if r.Last == nil {
		return last, false
	}
	at, err := wire.ParseSequence(r.Last.Sequence)
	if err != nil {
		return last, false
	}
	return router.Landmark{Position: at, EventID: r.Last.ID, CommitTime: r.Last.CommitTime}, true
}

// readFrom returns where to begin reading, and which rows from before the
// checkpoint must reappear. A server that has crashed begins before the
// checkpoint, because it stores the slot's position only now and then. So does
// a server that was restored or promoted. Its WAL may since have grown beyond
// the checkpoint with other transactions. Reading everything that the slot
// still has tells the two cases apart.
func (r resumePoint) readFrom(slot replication.Slot) (start replication.LSN, again []router.Landmark) {
	start = r.LSN
	last, known := lastOf(r.Record)
	if slot.Confirmed != 0 && slot.Confirmed < start && (r.Exact || known && last.Position.Commit >= slot.Confirmed) {
		start = slot.Confirmed
	}
	if known && last.Position.Commit >= start {
		again = append(again, last)
	}
	return start, again
}

// publishedBeyond reports whether a row at or above an LSN was published, as
// far as the record knows.
func (r resumePoint) publishedBeyond(lsn replication.LSN) bool {
	if !r.Exact {
		return r.LSN > lsn
	}
	return r.point.Position.Commit >= lsn
}

// provable reports whether reading from the start of the slot will show that
// the server has what was published. Either the last row must reappear, or the
// slot is known to be a copy of the streamer's. A slot created by hand says
// nothing about what came before it.
func (r resumePoint) provable(slot replication.Slot) bool {
	return r.Exact && (slot.Synced || r.point.Position.Commit >= slot.Confirmed)
}

// follows reports whether a stored record is this one. Then no other instance
// can have written in between.
func (r resumePoint) follows(stored checkpoint.Record) bool {
	return r.LSN == stored.LSN && r.Timeline == stored.Timeline && r.Producer == stored.Producer
}
