package pipeline

import (
	"context"
	"sync"
	"sync/atomic"

	"golang.org/x/time/rate"

	"github.com/outboxstream/streamer/checkpoint"
	"github.com/outboxstream/streamer/decoder"
	"github.com/outboxstream/streamer/replication"
	"github.com/outboxstream/streamer/router"
)

// purpose is what a pipeline does: it streams what is committed, or publishes a
// part of the past again.
type purpose interface {
	// streamID is the stream ID in the records written. mark is in the records of
	// a replay, and empty for the stream's own.
	streamID(checkpoint.Record) string
	mark() string
	// lock takes the instance lock.
	lock(context.Context, *tenure) error
	// owns reports whether to continue from a stored record. begin prepares a
	// start without one, and completes the first record.
	owns(checkpoint.Record) bool
	begin(context.Context, *tenure, *holding, replication.Slot, *checkpoint.Record) error
	// accompany starts what runs alongside a session.
	accompany(context.Context, *sync.WaitGroup, *tenure, *session)
	limiter() *rate.Limiter // nil without a limit
	// wants decides whether a row is to be published, and waits for its time.
	wants(*session, *decoder.Event) (bool, error)
	// poisoned decides what becomes of a row that cannot be published. passes
	// reports whether the stream can continue after a row that the broker has
	// refused.
	poisoned(*session, *decoder.Event, error, router.PoisonClass) error
	passes(router.Rules) bool
	// reached receives the LSN below which everything is published. complete notes
	// that nothing is left. parts reports whether the slot is still needed
	// afterwards, so that its reader ends the stream cleanly.
	reached(replication.LSN)
	complete()
	parts() bool
}

func purposeOf(c Config) purpose {
	if c.Replay != nil {
		return replaying{c.Replay, &atomic.Bool{}}
	}
	return streaming{}
}

// streaming publishes what is committed.
type streaming struct{}

func (streaming) streamID(r checkpoint.Record) string          { return StreamID(r.Identity, r.History) }
func (streaming) mark() string                                 { return "" }
func (streaming) lock(ctx context.Context, t *tenure) error    { return t.lock(ctx) }
func (streaming) owns(checkpoint.Record) bool                  { return true }
func (streaming) limiter() *rate.Limiter                       { return nil }
func (streaming) wants(*session, *decoder.Event) (bool, error) { return true, nil }
func (streaming) passes(rules router.Rules) bool               { return rules.DeadLetterTopic != "" }
func (streaming) reached(replication.LSN)                      {}
func (streaming) complete()                                    {}
func (streaming) parts() bool                                  { return true }

func (streaming) begin(ctx context.Context, t *tenure, h *holding, slot replication.Slot, first *checkpoint.Record) error {
	if err := t.succeeds(ctx, h.store, slot); err != nil {
		return err
	}
	if err := t.nothingOfOthers(ctx, h, slot); err != nil {
		return err
	}
	return t.firstSnapshot(ctx, h, slot, first)
}

func (streaming) accompany(ctx context.Context, beside *sync.WaitGroup, t *tenure, s *session) {
	beside.Go(func() { s.keepPast(ctx, t.source) })
	for entry, how := range t.config.Cleanups {
		beside.Go(func() { keepHouse(ctx, t.ground, how, s.flow, t.source, entry) })
	}
}

func (streaming) poisoned(s *session, e *decoder.Event, err error, class router.PoisonClass) error {
	return s.bury(e, err, class)
}

// replaying publishes a part of the past again. A second replay does not wait
// for the first. The slot was created for the replay and is not needed
// afterwards.
type replaying struct {
	*Replay
	completed *atomic.Bool
}

func (r replaying) streamID(checkpoint.Record) string         { return r.StreamID }
func (r replaying) mark() string                              { return r.ID }
func (r replaying) lock(ctx context.Context, t *tenure) error { return t.lockSoon(ctx) }
func (r replaying) passes(router.Rules) bool                  { return true }
func (r replaying) complete()                                 { r.completed.Store(true) }
func (r replaying) parts() bool                               { return false }

func (r replaying) wants(s *session, e *decoder.Event) (bool, error) { return s.admit(r.Replay, e) }

func (r replaying) begin(_ context.Context, _ *tenure, _ *holding, _ replication.Slot, first *checkpoint.Record) error {
	first.Replay = r.stored()
	return nil
}

func (r replaying) accompany(context.Context, *sync.WaitGroup, *tenure, *session) {}

func (r replaying) reached(lsn replication.LSN) {
	if r.Reached != nil {
		r.Reached(lsn)
	}
}

// poisoned leaves the row out. It could not be published before, and what
// became of it was decided then.
func (r replaying) poisoned(s *session, e *decoder.Event, err error, class router.PoisonClass) error {
	s.passOver(class, err, "position", e.Position.String())
	return nil
}
