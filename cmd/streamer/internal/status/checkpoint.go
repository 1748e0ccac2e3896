package status

import (
	"fmt"
	"time"

	"github.com/outboxstream/streamer/checkpoint"
)

// Moment is a position of the stream at a time: later commits are at or above
// the LSN.
type Moment struct {
	At  time.Time `json:"at"`
	LSN string    `json:"lsn"`
}

// ShowPast converts the moments of a record to the form in which they are
// printed.
func ShowPast(past []checkpoint.Moment) []Moment {
	shown := make([]Moment, len(past))
	for i, m := range past {
		shown[i] = Moment{m.At.UTC(), m.LSN.String()}
	}
	return shown
}

// Checkpoint is a record as printed for the operator and for scripts.
type Checkpoint struct {
	LSN      string    `json:"lsn"`
	SavedAt  time.Time `json:"saved_at"`
	Store    string    `json:"store"`
	SystemID string    `json:"system_identifier"`
	Timeline int32     `json:"timeline"`
	Database string    `json:"database"`
	Slot     string    `json:"slot"`
	History  int       `json:"history"`
	Routing  string    `json:"routing"`
	// Last is the last row published below LSN, as far as it is known. Exact
	// reports whether it is that row.
	Last  *checkpoint.Event `json:"last,omitempty"`
	Exact bool              `json:"exact"`

	TakenOver *TakenOver `json:"taken_over,omitempty"` // from another program
	Past      []Moment   `json:"past,omitempty"`       // oldest first
}

// ShowCheckpoint converts a record and names the place where it is kept.
func ShowCheckpoint(r checkpoint.Record, place string) Checkpoint {
	return Checkpoint{
		LSN: r.LSN.String(), SavedAt: r.SavedAt, Store: place,
		SystemID: r.SystemID, Timeline: r.Timeline, Database: r.Database, Slot: r.Slot,
		History: r.History, Routing: r.Routing, Last: r.Last, Exact: r.Exact, TakenOver: takenOver(r),
	}
}

// TakenOver says from where on the streamer publishes alone.
type TakenOver struct {
	At    time.Time `json:"at"`
	Until string    `json:"until"` // LSN below which rows may have been published by another program
	Holes int       `json:"holes"`
	// Pending reports that such rows are above the checkpoint.
	Pending bool `json:"pending"`
}

func takenOver(r checkpoint.Record) *TakenOver {
	p := r.Predecessor
	if p == nil {
		return nil
	}
	return &TakenOver{At: p.Begun, Until: p.Until, Holes: len(p.Holes), Pending: p.Above(r.LSN)}
}

// Rows returns the rows of the printed table.
func (s Checkpoint) Rows() [][2]string {
	rows := [][2]string{
		{"checkpoint", s.LSN},
		{"saved", fmt.Sprintf("%s (%s ago)", s.SavedAt.Format(time.RFC3339), time.Since(s.SavedAt).Round(time.Second))},
		{"kept in", s.Store},
		{"of", fmt.Sprintf("system %s, timeline %d, database %q, slot %q", s.SystemID, s.Timeline, s.Database, s.Slot)},
	}
	if s.Last != nil {
		rows = append(rows, [2]string{"last event", fmt.Sprintf("%s, sequence %s", s.Last.ID, s.Last.Sequence)})
	}
	if t := s.TakenOver; t != nil {
		rows = append(rows, [2]string{"taken over", fmt.Sprintf("at %s, up to %s", t.At.Format(time.RFC3339), t.Until)})
	}
	return rows
}
