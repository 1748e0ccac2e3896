package wire

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/outboxstream/streamer/replication"
)

// sequenceLength is 16 hex digits of the commit LSN, a dash, and 8 hex digits
// of the ordinal.
const sequenceLength = 16 + 1 + 8

// AppendSequence appends the position as text that sorts in stream order.
func AppendSequence(b []byte, p replication.Position) []byte {
	const digits = "0123456789abcdef"
	for shift := 60; shift >= 0; shift -= 4 {
		b = append(b, digits[p.Commit>>shift&15])
	}
	b = append(b, '-')
	for shift := 28; shift >= 0; shift -= 4 {
		b = append(b, digits[p.Ordinal>>shift&15])
	}
	return b
}

// ParseSequence reads the position back from a sequence attribute.
func ParseSequence(text string) (replication.Position, error) {
	var p replication.Position
	if len(text) != sequenceLength || text[16] != '-' {
		return p, fmt.Errorf("sequence %q is not of the form %s", text, "0000000000000000-00000000")
	}
	commit, err1 := strconv.ParseUint(text[:16], 16, 64)
	ordinal, err2 := strconv.ParseUint(text[17:], 16, 32)
	if err := errors.Join(err1, err2); err != nil {
		return p, fmt.Errorf("sequence %q: %w", text, err)
	}
	return replication.Position{Commit: replication.LSN(commit), Ordinal: uint32(ordinal)}, nil
}

// FormatSequence returns the position in the form of the sequence attribute.
func FormatSequence(p replication.Position) string {
	return string(AppendSequence(nil, p))
}
