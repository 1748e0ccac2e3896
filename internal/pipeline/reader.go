package pipeline

import (
	"context"
	"errors"
	"time"

	"github.com/outboxstream/streamer/replication"
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

// open starts a reader, waiting while another client uses the slot. The slot
// is checked again each time, because that client may move it.
func (t *tenure) open(ctx context.Context, start replication.LSN) (reader, error) {
	ticker := time.NewTicker(lockPoll)
	defer ticker.Stop()
	for {
		slot, err := t.slotAt(ctx, start)
		if err != nil {
			return nil, err
		}
		timed, cancel := context.WithTimeout(ctx, 2*t.source.ConnectTimeout)
		r, err := t.pipeline.openReader(timed, t.source, t.server, slot, start)
		cancel()
		if err == nil {
			return t.recheck(ctx, r, start)
		}
		if !errors.Is(err, replication.ErrSlotActive) {
			return nil, err
		}
		t.standBy(err.Error())
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-ticker.C:
		}
	}
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

// recheck looks at the slot once more, now that nobody else can move it: it may
// have been dropped and created again since it was looked at, and the server
// would begin where it begins without a word.
func (t *tenure) recheck(ctx context.Context, r reader, start replication.LSN) (reader, error) {
	if _, err := t.slotAt(ctx, start); err != nil {
		r.Close()
		return nil, err
	}
	return r, nil
}

// slotAt reads the slot, and checks that nothing is missing if it is read from
// start on, and that the server has what has to come by again.
func (t *tenure) slotAt(ctx context.Context, start replication.LSN) (replication.Slot, error) {
	slot, err := t.slot(ctx)
	if err != nil {
		return slot, err
	}
	findings := replication.CheckPosition(start, slot)
	if last, awaited := t.pipeline.flow.passage.Furthest(); awaited {
		findings = append(findings, replication.CheckPublished(last, slot)...)
	}
	return slot, replication.Refusal(findings)
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
