package verify

import (
	"time"

	"github.com/outboxstream/streamer/replication"
	"github.com/outboxstream/streamer/router/kafka"
	"github.com/outboxstream/streamer/router/wire"
)

// Head is what a streamer's record says about its event, without the payload.
// The byte slices are those of the record.
type Head struct {
	Stream           []byte // the header streamer-stream
	ID, Source, Type []byte
	// Position is in commit order. It is zero in records that were replayed from the
	// table.
	Position replication.Position
	// Committed is roughly when the event was committed, see event.committed.
	Committed time.Time
	// Replay is the header streamer-replay: the event was published again, or late.
	// It is nil in all other records.
	Replay []byte
	// Snapshot reports that the row was committed before the stream began.
	Snapshot bool
}

// Late reports whether the record is not where its position belongs: it comes
// after records with higher ones.
func (h *Head) Late() bool { return h.Replay != nil }

// ReadHead reads the head of a record. The result is false for dead letters, for
// records without an event ID, and for those of other programs.
func ReadHead(r *kafka.LogRecord) (h Head, ok bool) {
	var e event
	e.readHeaders(r.Headers, &attributeSet{})
	if !e.stream || e.deadLetter || e.read(r.Value, &attributeSet{}) != nil || e.tombstone {
		return h, false
	}
	h = Head{
		Stream: e.streamID, ID: e.id, Source: e.source, Type: e.typ, Committed: e.committed(r.Time), Snapshot: e.snapshot,
	}
	if e.replay {
		h.Replay = append([]byte{}, e.replayID...)
	}
	if len(e.sequence) > 0 {
		var err error
		if h.Position, err = wire.ParseSequence(string(e.sequence)); err != nil {
			return h, false
		}
	}
	return h, true
}
