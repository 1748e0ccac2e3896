package replication

import (
	"encoding/binary"
	"time"
)

const (
	// lateAfter is the delay between a transaction's commit and its sending above
	// which the server is late: it lags behind, and more is waiting.
	lateAfter = 5 * time.Millisecond
	// catchBreath is how long a late server is left alone.
	catchBreath = time.Millisecond
)

// lateness notices a walsender that cannot keep up on a busy machine.
//
// The walsender sends message by message. Each message wakes the streamer,
// Kafka and the consumers, which compete with the walsender for the processor.
// That can hold it at a third of its capacity for seconds, while every batch
// has a single event. A moment without being woken lets the walsender send what
// it has. Events that are late already lose nothing by it.
type lateness struct{ late bool }

// begun compares the commit time in the Begin message of a transaction with the
// time at which it was sent. Both are the server's, in microseconds.
func (l *lateness) begun(sent, message []byte) {
	const commitTime = 1 + 8 // after the type and the LSN of the commit
	if len(message) >= commitTime+8 && message[0] == 'B' {
		took := int64(binary.BigEndian.Uint64(sent)) - int64(binary.BigEndian.Uint64(message[commitTime:]))
		l.late = took > lateAfter.Microseconds()
	}
}

// rest waits a moment if the server is late, once for each late transaction
// seen, unless much is arriving at once anyway.
func (l *lateness) rest(lastRead int) {
	if l.late && lastRead < flowing {
		time.Sleep(catchBreath) //nolint:forbidigo // not to be woken is the point
	}
	l.late = false
}
