package verify

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/outboxstream/streamer/replication"
	"github.com/outboxstream/streamer/router/kafka"
	"github.com/outboxstream/streamer/router/wire"
)

// Scanner reads a part of a partition's records; kafka.Client implements it.
type Scanner interface {
	Scan(ctx context.Context, log kafka.Log, visit func(*kafka.LogRecord) error) error
}

// Around translates a position into times. below is the time of the latest
// commit below the position, above the time of the earliest commit at or above
// it. Only commits that have a record of one of the streams count. Records have
// only milliseconds: a commit was at most one millisecond after the time of its
// record. above includes that millisecond. A time is zero if there is no such
// record.
func Around(ctx context.Context, s Scanner, logs []kafka.Log, streams []string, lsn replication.LSN) (below, above time.Time, err error) {
	for _, log := range logs {
		b, a, err := around(ctx, s, log, streams, lsn)
		if err != nil {
			return below, above, err
		}
		if b.After(below) {
			below = b
		}
		if above.IsZero() || !a.IsZero() && a.Before(above) {
			above = a
		}
	}
	if !above.IsZero() {
		above = above.Add(time.Millisecond)
	}
	return below, above, nil
}

// around bisects the partition until the two records are found. Repeats leave a
// stretch of the partition unsorted; then it finds one of the places that fit.
func around(ctx context.Context, s Scanner, log kafka.Log, streams []string, lsn replication.LSN) (below, above time.Time, err error) {
	for low, high := log.Start, log.End; low < high; {
		middle := low + (high-low)/2
		p, at, offset, found, err := probe(
			ctx, s,
			kafka.Log{Topic: log.Topic, Partition: log.Partition, Start: log.Start, From: middle, End: high},
			streams,
		)
		switch {
		case err != nil:
			return below, above, err
		case !found:
			high = middle
		case p.Commit < lsn:
			below, low = at, offset+1
		default:
			above, high = at, middle
		}
	}
	return below, above, nil
}

var errFound = errors.New("found")

// probe finds the first event of the streams in a part of a partition.
func probe(
	ctx context.Context, s Scanner, log kafka.Log, streams []string,
) (p replication.Position, at time.Time, offset int64, found bool, err error) {
	var e event
	var others attributeSet
	err = s.Scan(ctx, log, func(r *kafka.LogRecord) error {
		e.readHeaders(r.Headers, &others)
		if !e.stream || e.replay || !slices.Contains(streams, string(e.streamID)) || e.read(r.Value, &others) != nil {
			return nil //nolint:nilerr // what is no event of ours is no place to look at
		}
		var malformed error
		if p, malformed = wire.ParseSequence(string(e.sequence)); malformed != nil {
			return nil //nolint:nilerr // the same
		}
		at, offset, found = e.committed(r.Time), r.Offset, true
		return errFound
	})
	if errors.Is(err, errFound) {
		err = nil
	}
	return p, at, offset, found, err
}
