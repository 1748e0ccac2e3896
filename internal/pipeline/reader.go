package pipeline

import (
	"context"
	"errors"
	"fmt"
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
func (p *Pipeline) open(ctx context.Context, control *replication.Control, config replication.Config, server replication.Server, start replication.LSN) (reader, error) {
	ticker := time.NewTicker(lockPoll)
	defer ticker.Stop()
	for {
		slot, err := p.slotAt(ctx, control, server, start)
		if err != nil {
			return nil, err
		}
		timed, cancel := context.WithTimeout(ctx, 2*config.ConnectTimeout)
		r, err := p.openReader(timed, config, server, slot, start)
		cancel()
		if err == nil {
			return p.mine(ctx, control, server, r, start)
		}
		if !errors.Is(err, replication.ErrSlotActive) {
			return nil, err
		}
		p.standBy(err.Error())
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-ticker.C:
		}
	}
}

func (p *Pipeline) openReader(ctx context.Context, config replication.Config, server replication.Server, slot replication.Slot, start replication.LSN) (reader, error) {
	if p.catchesUp(slot, start) {
		u, err := replication.OpenCatchUp(ctx, config, server, slot, start)
		if err == nil {
			return u, nil
		}
		if !p.noCatchUp(err) {
			return nil, err
		}
	}
	s, err := replication.Open(ctx, config, server, start)
	if err != nil {
		return nil, err
	}
	return s, nil
}

// mine looks at the slot once more, now that nobody else can move it: it may
// have been dropped and created again since it was looked at, and the server
// would begin where it begins without a word.
func (p *Pipeline) mine(ctx context.Context, control *replication.Control, server replication.Server, r reader, start replication.LSN) (reader, error) {
	if _, err := p.slotAt(ctx, control, server, start); err != nil {
		r.Close()
		return nil, err
	}
	return r, nil
}

// slotAt reads the slot, and checks that nothing is missing if it is read from
// start on.
func (p *Pipeline) slotAt(ctx context.Context, control *replication.Control, server replication.Server, start replication.LSN) (replication.Slot, error) {
	slot, err := p.slot(ctx, control, server)
	if err != nil {
		return slot, err
	}
	return slot, replication.Refusal(replication.CheckPosition(start, slot))
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

// readerName is how a reader is called in the configuration.
func readerName(r reader) string {
	if _, ok := r.(*replication.CatchUp); ok {
		return string(ReadCatchUp)
	}
	return string(ReadStream)
}

// caughtUp tells whether streaming is the better way from here on.
func (s *session) caughtUp() bool {
	u, ok := s.reader.(*replication.CatchUp)
	return ok && s.config.Reading == ReadAuto && u.Behind() <= s.config.CatchUpFrom/nearlyThere
}

// watchLag is told by the watching goroutine what the slot looks like. A stream
// that is found far behind twice in a row is left for the faster reader.
func (s *session) watchLag(slot replication.Slot) {
	at := replication.LSN(s.passed.Load())
	s.noteEnd(at, slot)
	s.flow.saver.transactions.note(slot.Flushed, slot.NextTransaction)
	if readerName(s.reader) != string(ReadStream) || at == 0 || !s.catchesUp(slot, at) {
		s.farBehind = 0
		return
	}
	if s.farBehind++; s.farBehind == 2 {
		s.leaving.Store(true)
		s.nudge()
	}
}

// noteEnd notices that everything has been read that was in the log when the
// slot was last looked at.
func (s *session) noteEnd(at replication.LSN, slot replication.Slot) {
	if !s.seen.at.IsZero() && at >= s.seen.flushed {
		s.lag.reachedEnd(s.seen.at)
	}
	s.seen = sighting{at: slot.At, flushed: slot.Flushed}
}

// handOver ends the reader in good order, so that another can use the slot.
// What is in flight stays so.
func (s *session) handOver() error {
	if s.flow.landmark == nil {
		if err := s.reader.Confirm(s.flow.saver.lastSaved().LSN, false); err != nil {
			return err
		}
	}
	if err := s.reader.Finish(time.Now().Add(handOverTimeout)); err != nil {
		return fmt.Errorf("change of the reader: %w", err)
	}
	return errSwitch
}
