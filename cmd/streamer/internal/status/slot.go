package status

import (
	"fmt"

	"github.com/outboxstream/streamer/checkpoint"
	"github.com/outboxstream/streamer/cmd/streamer/internal/console"
	"github.com/outboxstream/streamer/replication"
)

// Slot is the state of the slot, for the operator and for scripts.
type Slot struct {
	Name      string `json:"slot"`
	Confirmed string `json:"confirmed_flush_lsn"`
	Flushed   string `json:"wal_flush_lsn"`
	Lag       int64  `json:"lag_bytes"`
	// LagTransactions estimates how many writing transactions the server has
	// begun since. It is null if the number is not known.
	LagTransactions *int64 `json:"lag_transactions"`
	RetainedWAL     int64  `json:"retained_wal_bytes"`
	WALStatus       string `json:"wal_status"`
	SafeWALSize     *int64 `json:"safe_wal_size_bytes"` // null without a limit
	Active          bool   `json:"active"`
	ActivePID       int    `json:"active_pid,omitempty"`
	Copies          int    `json:"copies,omitempty"` // copies of the slot through which a streamer catches up
	Lost            bool   `json:"lost"`
	Outlook         string `json:"outlook,omitempty"` // what happens if nothing changes

	nextTransaction int64 // of the server
}

// ShowSlot converts the state of a slot.
func ShowSlot(s replication.Slot) Slot {
	return Slot{
		Name: s.Name, Confirmed: s.Confirmed.String(), Flushed: s.Flushed.String(), Lag: s.Lag, RetainedWAL: s.RetainedWAL,
		WALStatus: s.WALStatus, SafeWALSize: s.SafeWALSize, Active: s.Active,
		ActivePID: s.ActivePID, Copies: s.Copies, Lost: s.Lost(),
		nextTransaction: s.NextTransaction,
	}
}

// countTransactions computes the lag in transactions from the checkpoint that
// confirmed the slot.
func (s *Slot) countTransactions(record checkpoint.Record) {
	behind := max(0, s.nextTransaction-record.NextTransaction)
	if s.Lag == 0 {
		behind = 0
	} else if record.NextTransaction == 0 {
		return
	}
	s.LagTransactions = &behind
}

// Left says how much more WAL the slot may keep.
func (s *Slot) Left() string {
	switch {
	case s.Lost:
		return "WAL that the slot needs is gone: see docs/how-to/slot-lost.md"
	case s.SafeWALSize != nil:
		return "lost after " + console.Size(max(0, *s.SafeWALSize)) + " more"
	}
	return "without limit"
}

func (s *Slot) rows() [][2]string {
	lag := console.Size(s.Lag)
	if s.LagTransactions != nil {
		lag += ", some " + console.Counted(*s.LagTransactions, "transaction")
	}
	rows := [][2]string{
		{"slot", s.Name + ", " + UsedBy(replication.Slot{Active: s.Active, ActivePID: s.ActivePID, Copies: s.Copies})},
		{"confirmed", s.Confirmed + " of " + s.Flushed},
		{"lag", lag},
		{"retained WAL", fmt.Sprintf("%s (%s), %s", console.Size(s.RetainedWAL), s.WALStatus, s.Left())},
	}
	if s.Outlook != "" {
		rows = append(rows, [2]string{"outlook", s.Outlook})
	}
	return rows
}

// UsedBy says who reads a slot.
func UsedBy(slot replication.Slot) string {
	switch {
	case slot.Active:
		return fmt.Sprintf("used by server process %d", slot.ActivePID)
	case slot.Copies > 0:
		return fmt.Sprintf("a streamer is catching up through copies of it (%d)", slot.Copies)
	}
	return "not in use"
}
