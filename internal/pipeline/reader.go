package pipeline

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/replication"
	"github.com/outboxstream/streamer/router"
)

// Reading is how the WAL is read.
type Reading string

// The ways to read. All of them deliver the same messages in the same order.
const (
	// ReadAuto streams, and catches up by SQL while far behind.
	ReadAuto Reading = "auto"
	// ReadStream only streams.
	ReadStream Reading = "stream"
	// ReadCatchUp only reads by SQL, and keeps polling once everything is read. It
	// is for servers on which no replication connection lasts, and for tests.
	ReadCatchUp Reading = "catch-up"
)

const (
	// nearlyThere divides CatchUpFrom: changing to streaming is worthwhile at or
	// below that lag. The distance between the two limits keeps a load near one of
	// them from switching back and forth.
	nearlyThere = 8
	// noCatchUpFor is how long a server that has refused catching up is not asked
	// again.
	noCatchUpFor = 10 * time.Minute
	// blockedCatchUp is how long a broker may block reading by SQL. Meanwhile the
	// server keeps a snapshot, which holds back vacuum.
	blockedCatchUp = 10 * time.Second
	// handOverTimeout bounds the wait for the slot to become free.
	handOverTimeout = 10 * time.Second
)

// errSwitch ends a session so that another reader continues from its position.
var errSwitch = errors.New("switch to another reader")

// reader is one way to read the WAL from a position. One goroutine owns it.
// Only Wake may be called from others.
type reader interface {
	Next() (replication.Message, error)
	Wait(until time.Time) error
	Wake()
	Flowing() bool
	Received(lsn replication.LSN)
	LastReceived() time.Time
	Confirm(lsn replication.LSN, ping bool) error
	Finish(deadline time.Time) error
	Close()
}

// open starts a reader, waiting while another client uses the slot, and returns
// the LSN it reads from. It looks at the slot again each time, because that
// client may move the slot. A predecessor that confirms what it has stored
// moves it up to the checkpoint.
func (t *tenure) open(ctx context.Context, start replication.LSN) (reader, replication.LSN, error) {
	ticker := time.NewTicker(lockPoll)
	defer ticker.Stop()
	for {
		slot, err := t.slotFrom(ctx, &start)
		if err != nil {
			return nil, start, err
		}
		timed, cancel := context.WithTimeout(ctx, 2*t.source.ConnectTimeout)
		r, err := t.pipeline.openReader(timed, t.source, t.server, slot, start)
		cancel()
		if err == nil {
			from := start
			if _, err := t.slotFrom(ctx, &start); err == nil && start == from {
				return r, start, nil
			} else if r.Close(); err != nil {
				return nil, start, err
			}
			continue // another client moved the slot first, and the server has skipped that part silently
		}
		if !errors.Is(err, replication.ErrSlotActive) {
			return nil, start, err
		}
		t.standBy(failure.Describe(err))
		select {
		case <-ctx.Done():
			return nil, start, context.Cause(ctx)
		case <-ticker.C:
		}
	}
}

// slotFrom reads the slot. It checks that nothing is missing when the slot is
// read from start on, and that the server has what must reappear. If the slot
// begins later, but not after the checkpoint, reading begins later too.
func (t *tenure) slotFrom(ctx context.Context, start *replication.LSN) (replication.Slot, error) {
	slot, err := t.slot(ctx)
	if err != nil {
		return slot, err
	}
	flow := t.pipeline.flow
	if slot.Confirmed > *start && slot.Confirmed <= flow.saver.lastSaved().LSN {
		*start = flow.resume(slot)
	}
	findings := replication.CheckPosition(*start, slot)
	if last, awaited := flow.passage.Furthest(); awaited {
		if err := replayed(slot, last.Commit+1); err != nil {
			return slot, err
		}
		if err := replication.Refusal(replication.CheckPublished(last, slot)); err != nil {
			return slot, failure.Refuse(fmt.Errorf("%w: %w", router.ErrOtherHistory, err))
		}
	}
	return slot, replication.Refusal(findings)
}

func (p *Pipeline) openReader(
	ctx context.Context, source replication.Config, server replication.Server, slot replication.Slot, start replication.LSN,
) (reader, error) {
	if p.catchesUp(slot, start) {
		u, err := p.servers.read(ctx, ReadCatchUp, source, server, slot, start)
		if err == nil || !p.noCatchUp(err) {
			return u, err
		}
	}
	return p.servers.read(ctx, ReadStream, source, server, slot, start)
}

// catchesUp reports whether to read by SQL from start on.
func (p *Pipeline) catchesUp(slot replication.Slot, start replication.LSN) bool {
	switch p.config.Reading {
	case ReadCatchUp:
		return !time.Now().Before(p.noCatchUpUntil)
	case ReadAuto:
		return slot.Flushed > start && int64(slot.Flushed-start) >= p.config.CatchUpFrom && !time.Now().Before(p.noCatchUpUntil)
	default:
		return false
	}
}

// noCatchUp reports whether err leaves streaming as the only way to read, and
// remembers it for noCatchUpFor.
func (p *Pipeline) noCatchUp(err error) bool {
	refused, ok := errors.AsType[*replication.NoCatchUpError](err)
	if ok {
		p.log.Warn("catching up by SQL is not possible, streaming instead", "reason", refused.Reason)
		p.noCatchUpUntil = time.Now().Add(noCatchUpFor)
	}
	return ok
}

// catchUp is a reader that reads by SQL: a *replication.CatchUp.
type catchUp interface {
	// Behind is the number of bytes of WAL not yet handed out when the server was
	// last asked.
	Behind() int64
}

// readerName is the name of a reader in the configuration.
func readerName(r reader) string {
	if _, ok := r.(catchUp); ok {
		return string(ReadCatchUp)
	}
	return string(ReadStream)
}

// caughtUp reports whether streaming is the better way from here on.
func (s *session) caughtUp() bool {
	u, ok := s.reader.(catchUp)
	return ok && s.config.Reading == ReadAuto && u.Behind() <= s.config.CatchUpFrom/nearlyThere
}
