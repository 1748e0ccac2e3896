package locate

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/outboxstream/streamer/internal/verify"
	"github.com/outboxstream/streamer/replication"
	"github.com/outboxstream/streamer/router/kafka"
)

// Scanner reads a part of a partition's records; kafka.Client implements it.
type Scanner interface {
	Scan(ctx context.Context, log kafka.Log, visit func(*kafka.LogRecord) error) error
}

// Landmark is an event that was met while a place was looked for.
type Landmark struct {
	Offset    int64
	Position  replication.Position
	Committed time.Time
}

// LandmarkOf returns the landmark of a record.
func LandmarkOf(offset int64, h *verify.Head) Landmark {
	return Landmark{Offset: offset, Position: h.Position, Committed: h.Committed}
}

// Question says which place of a partition is looked for: the one between the
// events that are below it and the others.
type Question struct {
	// Counts selects the events by which the place can be found.
	Counts func(*verify.Head) bool
	// Below reports whether an event is below the place. The events below it come
	// before all others, by and large.
	Below func(Landmark) bool
	// Fine is how far the answer may be from the place, in offsets. 0 is exact.
	Fine int64
}

// Boundary is a place in a partition: all events at or after Offset are above it.
type Boundary struct {
	// Offset is up to Fine before the place, never behind it.
	Offset int64
	// Below is the last event below the place that was met, Above the first at or
	// after it. They are nil where there are none.
	Below, Above *Landmark
}

// Of answers the question for the records between Start and End of a log. It
// bisects. Repeats leave a stretch of a partition unsorted; then the answer is
// one of the places that fit.
func Of(ctx context.Context, s Scanner, log kafka.Log, q Question) (b Boundary, err error) {
	low, high := log.Start, log.End
	for high-low > q.Fine {
		middle := low + (high-low)/2
		part := log
		part.From, part.End, part.Small = middle, high, true
		met, err := first(ctx, s, part, q.Counts)
		switch {
		case err != nil:
			return b, err
		case met == nil:
			high = middle
		case q.Below(*met):
			b.Below, low = met, met.Offset+1
		default:
			b.Above, high = met, middle
		}
	}
	b.Offset = low
	return b, nil
}

var errFound = errors.New("found")

// first returns the first event that counts, nil if there is none.
func first(ctx context.Context, s Scanner, log kafka.Log, counts func(*verify.Head) bool) (met *Landmark, err error) {
	err = s.Scan(ctx, log, func(r *kafka.LogRecord) error {
		head, ok := verify.ReadHead(r)
		if !ok || !counts(&head) {
			return nil
		}
		found := LandmarkOf(r.Offset, &head)
		met = &found
		return errFound
	})
	if errors.Is(err, errFound) {
		err = nil
	}
	return met, err
}

// InTurn selects the events of streams that were published in their turn. Without
// streams all of them count.
func InTurn(streams []string) func(*verify.Head) bool {
	return func(h *verify.Head) bool {
		return !h.Late() && (len(streams) == 0 || slices.Contains(streams, string(h.Stream)))
	}
}

// BelowLSN is the place of the first commit at or above an LSN.
func BelowLSN(lsn replication.LSN) func(Landmark) bool {
	return func(l Landmark) bool { return l.Position.Commit < lsn }
}

// Before is the place of the first commit at or after a time.
func Before(at time.Time) func(Landmark) bool {
	return func(l Landmark) bool { return l.Committed.Before(at) }
}

// Around translates a position into times. below is the time of the latest
// commit below the position, above the time of the earliest commit at or above
// it. Only commits that have a record of one of the streams count. Records have
// only milliseconds: a commit was at most one millisecond after the time of its
// record. above includes that millisecond. A time is zero if there is no such
// record.
func Around(ctx context.Context, s Scanner, logs []kafka.Log, streams []string, lsn replication.LSN) (below, above time.Time, err error) {
	for _, log := range logs {
		b, err := Of(ctx, s, log, Question{Counts: InTurn(streams), Below: BelowLSN(lsn)})
		if err != nil {
			return below, above, err
		}
		if b.Below != nil && b.Below.Committed.After(below) {
			below = b.Below.Committed
		}
		if b.Above != nil && (above.IsZero() || b.Above.Committed.Before(above)) {
			above = b.Above.Committed
		}
	}
	if !above.IsZero() {
		above = above.Add(time.Millisecond)
	}
	return below, above, nil
}
