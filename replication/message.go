package replication

import (
	"bytes"

	"github.com/jackc/pglogrepl"
)

// isForeignMessage reports whether a protocol message brings a logical decoding
// message of someone else. PostgreSQL sends those of every prefix, of any size,
// and outbox.max_row_bytes is about rows only.
func (c Config) isForeignMessage(beginning []byte) bool {
	const flags, lsn = 1, 8
	var message []byte
	switch {
	case len(beginning) > xlogDataHeader && beginning[0] == pglogrepl.XLogDataByteID:
		message = beginning[xlogDataHeader:]
	default: // a row of COPY, see lane.row
		row := bytes.TrimPrefix(beginning, []byte(copySignature))
		if len(row) <= rowHeader {
			return false
		}
		message = row[rowHeader:]
	}
	if len(message) < 1+flags+lsn || message[0] != 'M' {
		return false
	}
	prefix, _, found := bytes.Cut(message[1+flags+lsn:], []byte{0})
	if !found {
		return true // longer than any that can be configured
	}
	for _, o := range c.Outboxes {
		if o.Messages == string(prefix) {
			return false
		}
	}
	return true
}
