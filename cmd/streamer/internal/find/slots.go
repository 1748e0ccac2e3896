package find

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/outboxstream/streamer/cmd/streamer/internal/console"
	"github.com/outboxstream/streamer/cmd/streamer/internal/site"
	"github.com/outboxstream/streamer/decoder"
	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/replication"
	"github.com/outboxstream/streamer/router"
)

// lookAtSlots looks whether the event waits in a slot, unless it is in Kafka.
func (s *search) lookAtSlots(ctx context.Context) error {
	if s.control == nil || s.slotsAsked || s.done() {
		return nil
	}
	s.slotsAsked, s.slotRead = true, true
	for _, m := range s.members {
		if err := s.lookAtSlot(ctx, m); err != nil {
			return err
		}
	}
	return nil
}

// done reports whether all that was asked for is in Kafka or among the dead
// letters, so that none of it waits.
func (s *search) done() bool {
	if s.asked.id == "" {
		return false // there may be more events of this key or position
	}
	for _, e := range s.events {
		if !e.own() && e.DeadLetter == nil {
			return false
		}
	}
	return len(s.events) > 0
}

func (s *search) lookAtSlot(ctx context.Context, m *member) error {
	if m.lost != "" {
		s.slotRead = false
		s.note("slot %q: %s", m.cfg.Postgres.Slot, m.lost)
		return nil
	}
	confirmed := m.confirmed()
	if s.asked.at.Commit != 0 && s.asked.id == "" && s.asked.at.Commit < confirmed || confirmed >= m.slot.Flushed {
		return nil // nothing of it waits
	}
	timed, cancel := s.limited(ctx)
	defer cancel()
	mappings := site.LocatedMappings(m.cfg, replication.After(m.stored.Publication, s.tables), s.server)
	p := &peek{search: s, member: m, decoder: decoder.New(mappings...)}
	err := p.read(timed)
	switch {
	case ctx.Err() != nil, err == nil, errors.Is(err, replication.ErrEnough):
		return nil
	case timed.Err() != nil:
		s.slotRead = false
		s.note("slot %q: what waits in it was read %sin %s, and it holds %s of WAL: use --scan",
			m.cfg.Postgres.Slot, p.reached(), s.command.Timeout, console.Size(int64(m.slot.Flushed-confirmed)))
	default:
		s.slotRead = false
		s.note("slot %q: %s", m.cfg.Postgres.Slot, failure.Describe(err))
	}
	return nil
}

// confirmed is the position below which everything is published.
func (m *member) confirmed() replication.LSN {
	if m.stored.LSN <= m.slot.Flushed { // otherwise it is of another history than this server's
		return max(m.slot.Confirmed, m.stored.LSN)
	}
	return m.slot.Confirmed
}

// peek reads what waits in a slot.
type peek struct {
	search  *search
	member  *member
	decoder *decoder.Decoder
	events  int64 // so far
	behind  string
	last    time.Time // of the last commit
}

// read reads the slot itself while nobody else does, and otherwise a temporary
// copy, so that a streamer is not disturbed. What it uses is a connection of its
// own: ending early ends that.
func (p *peek) read(ctx context.Context) error {
	control, _, err := site.ConnectPostgres(ctx, p.member.cfg)
	if err != nil {
		return err
	}
	defer control.Close()
	if p.member.slot.InUse() {
		return control.PeekWaiting(ctx, p.search.server, p.message)
	}
	_, err = control.Peek(ctx, p.search.server, 0, p.message)
	if errors.Is(err, replication.ErrSlotActive) {
		return control.PeekWaiting(ctx, p.search.server, p.message)
	}
	return err
}

func (p *peek) message(_ replication.LSN, data []byte) error {
	kind, err := p.decoder.Decode(data)
	_, isPoison := errors.AsType[*decoder.PoisonError](err)
	if err != nil && !isPoison {
		return err
	}
	e := p.decoder.Event()
	p.last = time.UnixMicro(e.CommitTime)
	if kind != decoder.Row && !isPoison || e.Position.Commit < p.member.confirmed() {
		return nil
	}
	p.row(e, err)
	p.events++
	if p.search.asked.id != "" && p.search.waits() {
		return replication.ErrEnough
	}
	return nil
}

// row notes a row that waits. The error is why it can never be published.
func (p *peek) row(e *decoder.Event, err error) {
	var shown router.Rendering
	if err == nil {
		shown, err = p.search.routes.Preview(e, func(string) (int, error) { return 0, nil })
	}
	id := e.Attribute(decoder.ID)
	if p.search.asked.wants(id, keyOf(shown), e.Position) {
		p.found(e, shown, err)
	}
	if err != nil && p.behind == "" {
		p.behind = fmt.Sprintf("event %q at %s: %s", console.Printable(string(id)), e.Position, router.Reason(err))
	}
}

// found notes an event that was asked for.
func (p *peek) found(e *decoder.Event, shown router.Rendering, problem error) {
	s := p.search
	if s.asked.id == "" && len(s.events) >= 4*int(s.command.Limit) {
		s.latest()
	}
	found := s.event(string(e.Attribute(decoder.ID)), string(s.routes.Source(e)))
	if found.Waits != nil {
		return
	}
	found.locate(e.Position, time.UnixMicro(e.CommitTime))
	found.Type, found.key = cmp.Or(shown.Type, found.Type), keyOf(shown)
	found.Waits = &Wait{
		Slot: p.member.cfg.Postgres.Slot, Topic: shown.Topic, Before: p.events, Behind: p.behind,
		Bytes: int64(e.Position.Commit - p.member.confirmed()), InUse: p.member.slot.InUse(),
		streams: p.member.streams,
	}
	if problem != nil {
		found.Waits.Problem = router.Reason(problem)
	}
}

// waits reports whether the event that was asked for was met.
func (s *search) waits() bool {
	for _, e := range s.events {
		if e.ID == s.asked.id && e.Waits != nil {
			return true
		}
	}
	return false
}

func (p *peek) reached() string {
	if p.last.IsZero() || p.last.Unix() == 0 {
		return ""
	}
	return "up to commits of " + p.last.UTC().Format(time.RFC3339) + " "
}
