package checkpoint

import (
	"time"

	"github.com/jackc/pglogrepl"
)

// Predecessor is what is known about the program that published the outbox
// before the streamer took over. As long as rows that it may have published are
// above the checkpoint, every start reads from Kafka which ones it has published.
type Predecessor struct {
	// Until is the LSN below which everything was committed that the program can
	// have published.
	Until string `json:"until"`
	// Topics say from which offset each partition may hold such events.
	Topics map[string][]int64 `json:"topics"`
	// Header is the header that holds the event ID, where the program has one of
	// its own.
	Header string `json:"header,omitempty"`
	// Holes are the IDs of events that the program left out, although it has
	// published later ones of the same key. LeaveOut reports that they stay out.
	// Otherwise they are published late, with a mark.
	Holes    []string  `json:"holes,omitempty"`
	LeaveOut bool      `json:"leave_out,omitempty"`
	Begun    time.Time `json:"begun"` // for the operator
}

// Above reports whether rows that the program may have published are at or above
// an LSN.
func (p *Predecessor) Above(lsn LSN) bool {
	if p == nil {
		return false
	}
	until, err := pglogrepl.ParseLSN(p.Until)
	return err != nil || lsn < until // checked when the record is read
}
