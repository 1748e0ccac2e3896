package verify

import (
	"encoding/binary"
	"errors"

	"github.com/outboxstream/streamer/replication"
)

// entryKind is the kind of an entry of the spill.
type entryKind uint8

const (
	entryRow    entryKind = iota
	entryRecord           // of the given streams
	entryReplay           // of the given streams, published again on purpose
	entryExcuse           // why a row may have no record
	entryKey              // a key and a partition in which it was seen; its ID is a hash
)

// entry is a row, a record or a key, reduced to what is compared.
type entry struct {
	kind  entryKind
	flags entryFlags
	id    []byte
	facts facts
	// place is where the record is, or where the row's record should be; see
	// Comparison.places.
	place    uint32
	offset   int64
	position replication.Position // set for a row only if the truth file has it
	// time is when the row was written, 0 if unknown, or when the record was
	// committed; microseconds since the Unix epoch.
	time int64
	// The highest position among the records before this one, if that is higher
	// than its own.
	overtaken replication.Position
	ahead     int64 // the offset of that record
	excuse    Excuse
}

type entryFlags uint8

const (
	inRange    entryFlags = 1 << iota // in the span asked about
	behind                            // overtaken by a record before it
	unreadable                        // a row whose record would not tell its ID
	undated                           // a row that may or may not be in range
)

func (e *entry) has(f entryFlags) bool { return e.flags&f != 0 }

func (e *entry) append(b []byte) []byte {
	b = append(b, byte(e.kind), byte(e.flags), byte(e.excuse))
	b = binary.AppendUvarint(b, uint64(len(e.id)))
	b = append(b, e.id...)
	if e.kind == entryExcuse {
		return b
	}
	if e.kind != entryKey {
		for _, f := range e.facts {
			b = binary.BigEndian.AppendUint32(b, f)
		}
	}
	b = binary.AppendUvarint(b, uint64(e.place))
	b = binary.AppendUvarint(b, uint64(e.offset))
	b = appendPosition(b, e.position)
	b = binary.AppendVarint(b, e.time)
	if e.has(behind) {
		b = appendPosition(b, e.overtaken)
		b = binary.AppendUvarint(b, uint64(e.ahead))
	}
	return b
}

func appendPosition(b []byte, p replication.Position) []byte {
	b = binary.AppendUvarint(b, uint64(p.Commit))
	return binary.AppendUvarint(b, uint64(p.Ordinal))
}

var errEntry = errors.New("temporary file for the comparison: an entry differs from what was written")

// decode reads an entry. Its ID is a view.
func (e *entry) decode(b []byte) error {
	*e = entry{}
	r := reader{rest: b}
	head := r.take(3)
	if r.bad {
		return errEntry
	}
	e.kind, e.flags, e.excuse = entryKind(head[0]), entryFlags(head[1]), Excuse(head[2])
	e.id = r.take(int(r.uvarint()))
	if e.kind == entryExcuse {
		return r.err()
	}
	if e.kind != entryKey {
		for i := range e.facts {
			if raw := r.take(4); !r.bad {
				e.facts[i] = binary.BigEndian.Uint32(raw)
			}
		}
	}
	e.place = uint32(r.uvarint())
	e.offset = int64(r.uvarint())
	e.position = r.position()
	e.time = r.varint()
	if e.has(behind) {
		e.overtaken = r.position()
		e.ahead = int64(r.uvarint())
	}
	return r.err()
}

// reader parses an entry.
type reader struct {
	rest []byte
	bad  bool
}

func (r *reader) take(n int) []byte {
	if n < 0 || n > len(r.rest) {
		r.bad = true
		return nil
	}
	taken := r.rest[:n:n]
	r.rest = r.rest[n:]
	return taken
}

func (r *reader) uvarint() uint64 {
	value, n := binary.Uvarint(r.rest)
	r.take(max(n, 0))
	r.bad = r.bad || n <= 0
	return value
}

func (r *reader) varint() int64 {
	value, n := binary.Varint(r.rest)
	r.take(max(n, 0))
	r.bad = r.bad || n <= 0
	return value
}

func (r *reader) position() replication.Position {
	return replication.Position{Commit: replication.LSN(r.uvarint()), Ordinal: uint32(r.uvarint())}
}

func (r *reader) err() error {
	if r.bad || len(r.rest) > 0 {
		return errEntry
	}
	return nil
}
