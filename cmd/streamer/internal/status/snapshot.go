package status

import (
	"fmt"
	"time"

	"github.com/outboxstream/streamer/checkpoint"
	"github.com/outboxstream/streamer/cmd/streamer/internal/console"
)

// Snapshot is how far the rows from before the slot have been published.
type Snapshot struct {
	Table    string    `json:"table"`
	Began    time.Time `json:"began"`
	Finished time.Time `json:"finished,omitzero"`
	Rows     int64     `json:"rows"`
	// Expected is the server's estimate of the number of rows.
	Expected int64 `json:"rows_expected"`
	// Rate is in rows per second, and Left what remains at that rate. They are
	// missing while they are not known.
	Rate *float64 `json:"rows_per_second,omitempty"`
	Left *float64 `json:"seconds_left,omitempty"`

	savedAt time.Time
}

// snapshotOf is the snapshot in a record, or nil.
func snapshotOf(r checkpoint.Record) *Snapshot {
	if r.Snapshot == nil {
		return nil
	}
	s := r.Snapshot
	return &Snapshot{Table: s.Table, Began: s.Begun, Finished: s.Finished, Rows: s.Rows, Expected: s.Expected, savedAt: r.SavedAt}
}

// compare computes the rate since another look, or since the beginning.
func (s *Snapshot) compare(before *Snapshot) {
	since, rows := s.Began, s.Rows
	if before != nil && before.savedAt.Before(s.savedAt) {
		since, rows = before.savedAt, s.Rows-before.Rows
	}
	passed := s.savedAt.Sub(since).Seconds()
	if !s.Finished.IsZero() || passed <= 0 || rows <= 0 {
		return
	}
	rate := float64(rows) / passed
	left := float64(max(0, s.Expected-s.Rows)) / rate
	s.Rate, s.Left = &rate, &left
}

func (s *Snapshot) row() [2]string {
	if !s.Finished.IsZero() {
		return [2]string{"snapshot", fmt.Sprintf("%s of %s published before the stream, %s",
			console.Counted(s.Rows, "row"), s.Table, s.Finished.Format(time.RFC3339))}
	}
	text := fmt.Sprintf("%s of about %s of %s published; the stream begins after them",
		console.Grouped(s.Rows), console.Counted(s.Expected, "row"), s.Table)
	if s.Left != nil {
		text += ", in about " + console.About(time.Duration(*s.Left*float64(time.Second)))
	}
	return [2]string{"snapshot", text}
}
