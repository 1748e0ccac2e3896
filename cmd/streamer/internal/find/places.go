package find

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/internal/locate"
	"github.com/outboxstream/streamer/internal/verify"
	"github.com/outboxstream/streamer/replication"
	"github.com/outboxstream/streamer/router/kafka"
)

const (
	// margin is how far around a place records are read, in offsets: the order of
	// commits is only roughly that of times.
	margin = 256
	// tail is how far after a record its repeats are looked for, in offsets.
	tail = 2000
	// early is how much later than its commit a row may say that it was written,
	// because clocks differ.
	early = time.Minute
	// long is how much earlier than its commit a row may have been written: the
	// length of a transaction.
	long = 10 * time.Minute
	// bisecting bounds the search for a place in a partition that holds nothing, or
	// hardly anything, of a streamer.
	bisecting = 700 * time.Millisecond
)

// place is where in partitions an event should be.
type place struct {
	counts func(*verify.Head) bool
	below  func(locate.Landmark) bool
	// past reports whether an event is so far after the place that nothing that
	// belongs there follows.
	past func(*verify.Head) bool
	// at is about when it was committed, if that is known.
	at time.Time
}

// atTime is the place of an event that was committed, or whose row was written,
// at about a time.
func atTime(at time.Time) place {
	return place{
		counts: locate.InTurn(nil), // the clock is the same for all streams
		below:  locate.Before(at.Add(-early)),
		past:   func(h *verify.Head) bool { return h.Committed.After(at.Add(long)) },
		at:     at,
	}
}

// atPosition is the place of an event in one of these streams.
func atPosition(at replication.Position, streams []string) place {
	return place{
		counts: locate.InTurn(streams),
		below:  locate.BelowLSN(at.Commit),
		past:   func(h *verify.Head) bool { return h.Position.Commit > at.Commit },
	}
}

// inReplay is the place of an event among those that a replay has published.
func inReplay(at replication.Position, id string) place {
	return place{
		counts: func(h *verify.Head) bool { return string(h.Replay) == id },
		below:  locate.BelowLSN(at.Commit),
		past:   func(h *verify.Head) bool { return h.Position.Commit > at.Commit },
	}
}

// until is read from where it begins to a time.
func until(at time.Time) place {
	return place{
		counts: locate.InTurn(nil), below: func(locate.Landmark) bool { return false },
		past: func(h *verify.Head) bool { return h.Committed.After(at) },
	}
}

// errEnough ends a scan.
var errEnough = errors.New("enough has been seen")

// look reads a place in some partitions, a few at the same time. complete is
// false if one of them could not be read there. gone says what retention has
// removed from before the place, empty if nothing.
func (s *search) look(ctx context.Context, logs []kafka.Log, p place) (complete bool, gone string) {
	type outcome struct {
		gone string
		err  error
	}
	outcomes := make([]outcome, len(logs))
	next := make(chan int)
	var readers sync.WaitGroup
	for range min(parallel, len(logs)) {
		readers.Go(func() {
			for i := range next {
				outcomes[i].gone, outcomes[i].err = s.lookInto(ctx, logs[i], p)
			}
		})
	}
	for i := range logs {
		next <- i
	}
	close(next)
	readers.Wait()
	complete = true
	for i, o := range outcomes {
		if o.err != nil {
			complete = false
			if ctx.Err() == nil {
				s.note("topic %q partition %d: %s", logs[i].Topic, logs[i].Partition, failure.Describe(o.err))
			}
		}
		if gone == "" {
			gone = o.gone
		}
	}
	return complete, gone
}

// lookInto reads a place of one partition.
func (s *search) lookInto(ctx context.Context, log kafka.Log, p place) (gone string, err error) {
	part, before, err := s.approach(ctx, log, p)
	if err != nil {
		return "", err
	}
	met, err := s.readOn(ctx, part, p)
	if err != nil {
		return "", err
	}
	if log.Start > 0 && !before && !met {
		gone = fmt.Sprintf("topic %q partition %d begins at offset %d: earlier records have been deleted", log.Topic, log.Partition, log.Start)
	}
	return gone, nil
}

// approach finds where to begin. before reports whether the partition still has
// events from before the place.
func (s *search) approach(ctx context.Context, log kafka.Log, p place) (part kafka.Log, before bool, err error) {
	timed, cancel := context.WithTimeout(ctx, max(bisecting, s.timeout()-s.command.Timeout)) // none with --scan
	defer cancel()
	part = log
	b, err := locate.Of(timed, s.scanner(), log, locate.Question{Counts: p.counts, Below: p.below, Fine: margin})
	nothing := b.Below == nil && b.Above == nil && log.End-log.Start > margin // shorter ones are read as a whole
	switch {
	case err == nil && !nothing:
		part.From = max(log.Start, b.Offset-margin)
		return part, b.Below != nil, nil
	case ctx.Err() != nil || err != nil && timed.Err() == nil:
		return part, false, err
	case p.at.IsZero():
		part.From = log.End // nothing in it is of such an event
		if err != nil {
			err = errors.New("it holds so little of this stream that the place was not found in time")
		}
		return part, false, err
	}
	err = s.kafka.Seek(ctx, &part, p.at.Add(-early)) // by the times of records, which any program writes
	return part, part.From > log.Start, err
}

// readOn reads from the beginning of a place until it is past, or until repeats
// of what was found are behind. below reports whether there was an event from
// before the place.
func (s *search) readOn(ctx context.Context, part kafka.Log, p place) (below bool, err error) {
	reached, found := part.From, int64(-1)
	err = s.scanner().Scan(ctx, part, func(r *kafka.LogRecord) error {
		reached = r.Offset + 1
		e, head := s.take(part, r)
		below = below || head != nil && p.counts(head) && p.below(locate.LandmarkOf(r.Offset, head))
		switch {
		case e != nil:
			found = r.Offset
		case found >= 0 && r.Offset > found+tail, found < 0 && head != nil && p.counts(head) && p.past(head):
			return errEnough
		}
		return nil
	})
	if err == nil {
		reached = part.End
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.part(part).add(part.From, reached)
	if errors.Is(err, errEnough) {
		err = nil
	}
	return below, err
}

// near reads around a record, for repeats of it.
func (s *search) near(ctx context.Context, r Record) {
	logs := s.logs[r.Topic]
	at := slices.IndexFunc(logs, func(l kafka.Log) bool { return l.Partition == r.Partition })
	if at < 0 {
		return
	}
	part := logs[at]
	part.From, part.End = max(part.Start, r.Offset-tail), min(part.End, r.Offset+tail)
	if s.part(part).covers(part.From, part.End) {
		return
	}
	if _, err := s.readOn(ctx, part, place{counts: func(*verify.Head) bool { return false }}); err != nil && ctx.Err() == nil {
		s.note("topic %q partition %d: %s", r.Topic, r.Partition, failure.Describe(err))
	}
}

// covers reports whether a range of offsets was read.
func (p *readPart) covers(from, to int64) bool {
	return slices.ContainsFunc(p.spans, func(have [2]int64) bool { return have[0] <= from && have[1] >= to })
}
