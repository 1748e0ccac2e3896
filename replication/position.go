package replication

import (
	"cmp"
	"fmt"

	"github.com/jackc/pglogrepl"
)

// LSN is a byte position in PostgreSQL's write-ahead log. It prints as
// PostgreSQL prints it, 0/15306C8.
type LSN = pglogrepl.LSN

// Position is the place of an outbox row in commit order, the only order that
// logical decoding keeps. Row LSNs go backwards when transactions interleave,
// and all rows of one COPY share a single LSN. Positions grow strictly along
// the stream and are the same each time the WAL is read.
type Position struct {
	// Commit is the LSN at which the transaction's commit record starts, as
	// its Begin message announces it. The server sends a transaction again
	// exactly when this is at or above the LSN it was asked to start from.
	Commit LSN
	// Ordinal counts the outbox rows of the transaction, from 1.
	Ordinal uint32
}

// Compare orders positions as the stream delivers them.
func (p Position) Compare(q Position) int {
	if c := cmp.Compare(p.Commit, q.Commit); c != 0 {
		return c
	}
	return cmp.Compare(p.Ordinal, q.Ordinal)
}

func (p Position) String() string { return fmt.Sprintf("%s+%d", p.Commit, p.Ordinal) }
