package checkpoint

import "time"

// Snapshot is how far the rows from before the slot have been published. They
// are published in the order of a key, before the stream begins.
type Snapshot struct {
	// Table is the table being read, as schema.table.
	Table string `json:"table"`
	// Begun marks the events of this snapshot for consumers.
	Begun time.Time `json:"begun"`
	// Key describes the key: its columns with their types, and the condition for
	// the rows. A snapshot goes on only with the same key.
	Key string `json:"key"`
	// Last is the highest key that a row from before the slot can have, as it is
	// in the header of a record. It is empty until it is known.
	Last string `json:"last,omitempty"`
	// After is the key up to which every row is published. It is empty at the
	// beginning.
	After string `json:"after,omitempty"`
	// Ordinal is that of the last event up to After.
	Ordinal uint32 `json:"ordinal"`
	// Rows counts the events that were published, and Expected is what the server
	// had estimated. They are for the operator.
	Rows     int64 `json:"rows"`
	Expected int64 `json:"expected"`
	// Finished is when the last row had been published; zero while the snapshot is
	// under way.
	Finished time.Time `json:"finished,omitzero"`
}

// Pending reports whether the snapshot has to be finished before the stream
// begins. A record without a snapshot has none.
func (s *Snapshot) Pending() bool { return s != nil && s.Finished.IsZero() }
