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

// Reading says how the log is read.
type Reading string

// The ways to read. All of them deliver the same, in the same order.
const (
	// ReadAuto streams, and catches up by SQL while far behind.
	ReadAuto Reading = "auto"
	// ReadStream only streams.
	ReadStream Reading = "stream"
	// ReadCatchUp only reads by SQL, and asks again and again once everything is
	// read: for servers that allow no replication connection to last, and for
	// tests.
	ReadCatchUp Reading = "catch-up"
)

const (
	// nearlyThere is from where on streaming is worth the change, as a part of
	// CatchUpFrom. The distance keeps a load near the limit from going to and fro.
	nearlyThere = 8
	// noCatchUpFor is how long a server that has refused is not asked again.
	noCatchUpFor = 10 * time.Minute
	// blockedCatchUp is how long a broker may keep us from reading by SQL: the
	// server keeps a snapshot meanwhile, which holds back vacuum.
	blockedCatchUp = 10 * time.Second
	// handOverTimeout bounds the wait for the slot to become free.
	handOverTimeout = 10 * time.Second
)

// errSwitch ends a session so that another reader goes on where it was.
var errSwitch = errors.New("change of the reader")

// reader is one way to read the log from one position on. One goroutine owns
// it; only Wake may be called from others.
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

// open starts a reader, waiting while another client uses the slot, and returns from
// where it reads. The slot is looked at again each time, because that client may move
// it: up to the checkpoint, if it is a predecessor that confirms what it has stored.
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
			continue // it was moved before we had it, and the server has skipped that silently
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

// slotFrom reads the slot, and checks that nothing is missing if it is read from
// start on, and that the server has what has to reappear. Where the slot begins
// later, but not after the checkpoint, so does the reading.
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

func (p *Pipeline) openReader(ctx context.Context, source replication.Config, server replication.Server, slot replication.Slot, start replication.LSN) (reader, error) {
	if p.catchesUp(slot, start) {
		u, err := p.servers.read(ctx, ReadCatchUp, source, server, slot, start)
		if err == nil || !p.noCatchUp(err) {
			return u, err
		}
	}
	return p.servers.read(ctx, ReadStream, source, server, slot, start)
}

// catchesUp tells whether to read by SQL from start on.
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

// noCatchUp takes notice of an error that leaves streaming as the way to read.
func (p *Pipeline) noCatchUp(err error) bool {
	refused, ok := errors.AsType[*replication.NoCatchUpError](err)
	if ok {
		p.log.Warn("catching up by SQL is not possible, streaming instead", "reason", refused.Reason)
		p.noCatchUpUntil = time.Now().Add(noCatchUpFor)
	}
	return ok
}

// catchUp is what a reader is that reads by SQL: a *replication.CatchUp.
type catchUp interface {
	// Behind is how many bytes of WAL had not been handed out when the server was
	// last asked.
	Behind() int64
}

// readerName is how a reader is called in the configuration.
func readerName(r reader) string {
	if _, ok := r.(catchUp); ok {
		return string(ReadCatchUp)
	}
	return string(ReadStream)
}

// caughtUp tells whether streaming is the better way from here on.
func (s *session) caughtUp() bool {
	u, ok := s.reader.(catchUp)
	return ok && s.config.Reading == ReadAuto && u.Behind() <= s.config.CatchUpFrom/nearlyThere
}
