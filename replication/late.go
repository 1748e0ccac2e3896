package replication

import (
	"encoding/binary"
	"time"
)

const (
	// lateAfter is how long after its commit a transaction may be sent before it
	// is late: the server is behind, and more is waiting.
	lateAfter = 5 * time.Millisecond
	// catchBreath is how long a server that is late is left alone.
	catchBreath = time.Millisecond
)

// lateness notices a walsender that cannot keep up on a busy machine. It sends
// message by message, and each wakes us, Kafka and whoever consumes, which take
// turns with it for the processor: it may be held at a third of what it can do
// for seconds, while every batch has a single event. Not being woken for a
// moment lets it send what it has, and what is late already loses nothing.
type lateness struct{ late bool }

// begun looks at the Begin message of a transaction, which says when it was
// committed, and at when it was sent; both are the server's time in microseconds.
func (l *lateness) begun(sent, message []byte) {
	const commitTime = 1 + 8 // after the type and the LSN of the commit
	if len(message) >= commitTime+8 && message[0] == 'B' {
		took := int64(binary.BigEndian.Uint64(sent)) - int64(binary.BigEndian.Uint64(message[commitTime:]))
		l.late = took > lateAfter.Microseconds()
	}
}

// rest waits a moment if the server is late, once for each time that this is
// seen, unless much comes at once anyway.
func (l *lateness) rest(lastRead int) {
	if l.late && lastRead < flowing {
		time.Sleep(catchBreath) //nolint:forbidigo // not to be woken is the point
	}
	l.late = false
}
