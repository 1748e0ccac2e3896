package find

import (
	"slices"
	"time"

	"github.com/outboxstream/streamer/cmd/streamer/internal/deadletter"
	"github.com/outboxstream/streamer/replication"
	"github.com/outboxstream/streamer/router/wire"
)

// State is where an event has got to.
type State string

// The states.
const (
	Published    State = "published"     // it is in Kafka
	Waiting      State = "waiting"       // in the slot
	DeadLettered State = "dead_letter"   // without a decision
	Dropped      State = "dropped"       // a dead letter that is not to be published
	Snapshot     State = "snapshot"      // the first start has yet to publish it
	NotPublished State = "not_published" // its row is there, and nothing else
	Unknown      State = "unknown"       // not everything could be looked at
)

// Event is what was found out about one event.
type Event struct {
	ID     string `json:"id"`
	Source string `json:"source,omitempty"`
	Type   string `json:"type,omitempty"`
	State  State  `json:"state"`
	Answer string `json:"answer"`

	Position    string    `json:"position,omitempty"`
	Sequence    string    `json:"sequence,omitempty"`
	Commit      string    `json:"commit_lsn,omitempty"`
	CommittedAt time.Time `json:"committed_at,omitzero"`

	Row        *Row               `json:"row"`     // null: none was seen
	Waits      *Wait              `json:"waiting"` // null: it was not seen in a slot
	Records    []Record           `json:"records"` // earliest first
	DeadLetter *deadletter.Letter `json:"dead_letter"`
	Groups     []Group            `json:"groups"` // of each record's topic

	at       replication.Position
	key      []byte // of its record, nil if not known
	complete bool   // the place where its record should be was read
	slotRead bool   // to its end, and the event is not in it
	gone     string // why its record may have been there and is no longer
}

// Row is the row of an event, as it is in the table now.
type Row struct {
	Table string `json:"table"`
	// WrittenAt is the commit time of the transaction that wrote the row, or changed
	// it last, where the server keeps it.
	WrittenAt time.Time `json:"written_at,omitzero"`
	// Time is what the row says itself.
	Time  time.Time `json:"time,omitzero"`
	Topic string    `json:"topic,omitempty"`
	// Problem is why the row can never be published.
	Problem string `json:"problem,omitempty"`
}

// Wait is the place of an event in a slot.
type Wait struct {
	Slot   string `json:"slot"`
	Topic  string `json:"topic,omitempty"`
	Before int64  `json:"events_before"`
	Bytes  int64  `json:"wal_bytes_before"`
	// Behind is an earlier row of the slot that can never be published, at which a
	// streamer may stop.
	Behind string `json:"behind,omitempty"`
	// Problem is why the event itself can never be published.
	Problem string `json:"problem,omitempty"`
	// InUse reports whether a streamer reads the slot.
	InUse bool `json:"slot_in_use"`

	streams []string // identities of the stream
}

// Kind says why a record is there.
type Kind string

// The kinds.
const (
	InTurn   Kind = "published" // in its turn
	Repeat   Kind = "repeat"    // the same once more, as after a crash with at_least_once
	Replayed Kind = "replay"    // on request
	Late     Kind = "late"      // a dead letter that was retried
	TakenUp  Kind = "take-over" // left out by the publisher before, and published after later ones of its key
	OldRow   Kind = "snapshot"  // by the first start, before the stream
	Foreign  Kind = "foreign"   // by another program
)

// Record is an event in Kafka.
type Record struct {
	Topic     string    `json:"topic"`
	Partition int32     `json:"partition"`
	Offset    int64     `json:"offset"`
	Timestamp time.Time `json:"timestamp"`
	Kind      Kind      `json:"kind"`
	// Replay is when the replay began that has published it.
	Replay string `json:"replay,omitempty"`
	Stream string `json:"stream,omitempty"`

	at replication.Position
}

// locate fills the fields about the position.
func (e *Event) locate(at replication.Position, committed time.Time) {
	if at.Commit == 0 || e.at.Commit != 0 {
		return
	}
	e.at = at
	e.Position, e.Sequence, e.Commit = at.String(), wire.FormatSequence(at), at.Commit.String()
	e.CommittedAt = committed.UTC()
}

// own reports whether a streamer has published the event in its turn.
func (e *Event) own() bool {
	for _, r := range e.Records {
		if r.Kind == InTurn || r.Kind == OldRow {
			return true
		}
	}
	return false
}

// foreign reports whether another program has published the event.
func (e *Event) foreign() bool {
	return slices.ContainsFunc(e.Records, func(r Record) bool { return r.Kind == Foreign })
}
