package pipeline

import (
	"math"

	"github.com/outboxstream/streamer/checkpoint"
	"github.com/outboxstream/streamer/replication"
	"github.com/outboxstream/streamer/router"
	"github.com/outboxstream/streamer/router/wire"
)

// history is one line of WAL, on which a position means one thing. A flow belongs
// to one history and dies with it.
type history struct {
	systemID string
	timeline int32
	started  string // which run of the server it is, as it says itself
	database string
	slot     string
	number   int // raised when an operator accepts another history
}

func historyOf(s replication.Server, slot string, number int) history {
	return history{systemID: s.SystemID, timeline: s.Timeline, started: s.Started, database: s.Database, slot: slot, number: number}
}

// historyIn is the one in which a checkpoint was made.
func historyIn(r checkpoint.Record) history {
	return history{systemID: r.SystemID, timeline: r.Timeline, started: r.Started, database: r.Database, slot: r.Slot, number: r.History}
}

// goesOn reports whether a server is on the same line of WAL. It is on the same
// timeline, or it is the very server that was promoted while it was read.
func (h history) goesOn(with history) bool {
	if h.started != "" && h.started == with.started {
		h.timeline = with.timeline
	}
	h.started = with.started
	return h == with
}

// resumePoint is where a stream goes on: its record says in which history, from
// which LSN and behind which row; its point is the place of that row, with the
// digest of what has come by in this process.
type resumePoint struct {
	checkpoint.Record
	point router.Point
	// low is from where rows may not be published, but for those that reappear: the
	// LSN, or below it, where that may be of a history that the server does not have.
	low replication.LSN
}

// resumeAt is the resume point of a record that was loaded. Where the last row below
// its LSN is known exactly, nothing above that row was published, whatever the LSN.
// Otherwise everything below the LSN was, or is not to be.
func resumeAt(r checkpoint.Record) resumePoint {
	last, known := lastOf(r)
	if r.Exact = r.Exact && known; r.Exact {
		return resumePoint{Record: r, point: router.Point{Position: last.Position}, low: r.LSN}
	}
	return resumePoint{Record: r, point: router.Point{Position: replication.Position{Commit: r.LSN - 1, Ordinal: math.MaxUint32}}, low: r.LSN}
}

// lastOf is the last row below a checkpoint, as far as it is known.
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

// readFrom is where to begin to read, and what has to come by again from before
// the checkpoint. A server that has crashed begins before it, because it stores the
// slot's position now and then only. So does one that was restored or promoted,
// whose WAL may have grown beyond the checkpoint since with other transactions;
// reading all that the slot still has tells the two apart.
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

// publishedBeyond reports whether a row was published that begins at or above an
// LSN, as far as the record knows.
func (r resumePoint) publishedBeyond(lsn replication.LSN) bool {
	if !r.Exact {
		return r.LSN > lsn
	}
	return r.point.Position.Commit >= lsn
}

// provable reports whether reading from where the slot begins will show whether the
// server has what was published: the last row has to come by, or the slot is known to
// be a copy of ours. One that was created by hand says nothing about what came
// before it.
func (r resumePoint) provable(slot replication.Slot) bool {
	return r.Exact && (slot.Synced || r.point.Position.Commit >= slot.Confirmed)
}

// follows reports whether a stored record is this one, so that nobody else can have
// been at work.
func (r resumePoint) follows(stored checkpoint.Record) bool {
	return r.LSN == stored.LSN && r.Timeline == stored.Timeline && r.Producer == stored.Producer
}
