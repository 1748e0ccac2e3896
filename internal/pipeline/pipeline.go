// Package pipeline is the only place that knows all four stages. It connects
// them, runs sessions one after the other, and decides what an error means.
//
//	tenure:  lock → producer id → checkpoint → checks     (who we are, and from where)
//	session: a reader … until something breaks            (one stretch of the tenure)
//
// There is one way of recovery: what runs ends, and a new one starts from the
// checkpoint after a pause. Only the producer, what it has in flight, and the
// position of the last event handed to it live on, as long as nobody else can
// have written in between.
package pipeline

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/outboxstream/streamer/decoder"
	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/internal/mutation"
	"github.com/outboxstream/streamer/internal/wait"
	"github.com/outboxstream/streamer/replication"
	"github.com/outboxstream/streamer/router"
	"github.com/outboxstream/streamer/router/kafka"
)

// Config is what a pipeline is made of.
type Config struct {
	// DSN gives the connection string each time it is needed, so that a rotated
	// password is used.
	DSN         func() (string, error)
	Replication replication.Config // without DSN
	Mapping     decoder.Mapping
	Rules       router.Rules // without Database and StreamID
	Client      kafka.ClientConfig
	Producer    router.ProducerConfig
	Checkpoint  CheckpointConfig
	Resume      Resume
	Reading     Reading
	// CatchUpFrom is from how many bytes of log behind ReadAuto reads by SQL.
	CatchUpFrom int64
	Rewind      Rewind
	Cleanup     Cleanup
	// Until is where to stop: what commits at or above it is left to others. 0 is
	// no end.
	Until replication.LSN
	// Replay is what to publish again, from a slot that was made for it, instead
	// of streaming; nil for streaming.
	Replay *Replay
	// TransactionalIDPrefix begins the name by which predecessors are kept out.
	TransactionalIDPrefix string

	StatusInterval time.Duration // between status updates to the server
	BlockedTimeout time.Duration // after which a connection we cannot read is closed
	DrainTimeout   time.Duration // for what is in flight when stopping
	RetryInitial   time.Duration
	RetryMax       time.Duration
	Log            *slog.Logger
	Metrics        Metrics
}

// Metrics is told what happens. All methods may be called from the reading
// goroutine and must not block.
type Metrics interface {
	router.Observer
	// Reconnected reports that a session has ended with a transient error.
	Reconnected()
	// Skipped reports an event that was read again and not published again.
	Skipped()
	// Phase reports that the pipeline does something else now.
	Phase(Phase)
	// Position reports when the checkpoint was stored and what is in flight.
	Position(saved time.Time, inFlightBytes, inFlightEvents int)
	// DeadLetter reports a row that went to the dead letters.
	DeadLetter(class string)
	// Resuming reports whether predecessors are kept out, so that nothing is
	// repeated after a crash.
	Resuming(exactlyOnce bool)
	// CatchingUp reports whether the log is read by SQL.
	CatchingUp(yes bool)
	// Slot reports the slot as the server sees it.
	Slot(replication.Slot)
	// Removed reports rows of the outbox table that were removed.
	Removed(rows int)
	// Rewind reports the rewind slot as the server sees it.
	Rewind(replication.Slot)
}

// Pipeline streams from one slot to Kafka.
type Pipeline struct {
	ground
	servers servers
	flow    *flow              // what lives on between sessions; nil before the first
	left    *heir              // what the flow before has left, while there is none; or nil
	server  replication.Server // that was connected to last
	// noCatchUpUntil is until when a server that refused is only streamed from.
	noCatchUpUntil time.Time
	// condemned are rows that the broker has refused, by position, until they
	// have become dead letters.
	condemned map[replication.Position]*router.PoisonError
	asked     atomic.Pointer[time.Time] // when it was asked to stop
}

// New checks what can be checked without a server.
func New(c Config) (*Pipeline, error) { return newPipeline(c, configured()) }

func newPipeline(c Config, s servers) (*Pipeline, error) {
	rules := c.Rules
	rules.Database, rules.StreamID = "database", "stream"
	if _, err := router.NewRouter(rules); err != nil {
		return nil, err
	}
	c.Metrics.Phase(Starting)
	return &Pipeline{ground: newGround(c), servers: s}, nil
}

// DrainError tells that the process was stopped before everything in flight
// was acknowledged.
type DrainError struct {
	Events int
	Cause  string // what was being waited for
	// Unsaved is the checkpoint that could not be stored, although everything
	// was acknowledged, or 0.
	Unsaved replication.LSN
}

func (e *DrainError) Error() string {
	if e.Unsaved != 0 {
		return fmt.Sprintf("stopped at the drain deadline before the last checkpoint %s was stored (%s): the next start reads back what was published", e.Unsaved, e.Cause)
	}
	if e.Events == 0 {
		return fmt.Sprintf("stopped before the last checkpoint could be made (%s): the next start reads back what was published", e.Cause)
	}
	return fmt.Sprintf("stopped at the drain deadline with %d events in flight (%s): they will be published again", e.Events, e.Cause)
}

// Run streams until ctx is cancelled, and then drains; what has come to
// Config.Until ends by itself. It returns nil after a clean stop, which means that
// nothing is in flight and that the low watermark is stored; otherwise an error
// whose failure class says what to do, or a *DrainError.
func (p *Pipeline) Run(ctx context.Context) error {
	defer p.discard()
	defer context.AfterFunc(ctx, func() { p.stopping() })()
	pause := p.retries()
	for {
		began, stored := time.Now(), p.stored()
		streamed, err := p.tenure(ctx)
		if errors.Is(err, errComplete) {
			return nil
		}
		if drain, ok := errors.AsType[*DrainError](err); ok {
			return drain
		}
		if ctx.Err() != nil && failure.ClassOf(err) == failure.Transient {
			return p.stopped()
		}
		if p.final(err, streamed) {
			if poison, ok := errors.AsType[*router.PoisonError](err); ok && poison.Late {
				err = withWayPast(err)
			}
			if errors.Is(err, router.ErrOtherHistory) {
				err = p.dispute(ctx, err)
			}
			return p.locate(ctx, err)
		}
		// Opening a stream is no progress: what ended it may end every one.
		if p.stored() > stored || time.Since(began) >= steady || mutation.Active(mutation.RetryAtOnce) {
			pause.Reset()
		}
		p.pardon()
		rest := pause.NextBackOff()
		p.state.set(Waiting, failure.Describe(err))
		p.log.Warn("session ended, starting again from the checkpoint", "err", err, "pause", rest.Round(time.Millisecond).String())
		p.config.Metrics.Reconnected()
		if !wait.For(ctx, rest) {
			if mutation.Active(mutation.StopBetweenSessions) {
				return nil
			}
			return p.stopped()
		}
	}
}

// dispute notes in the checkpoint that a refusal is about another history, so that
// `streamer checkpoint set` begins a new one.
func (p *Pipeline) dispute(ctx context.Context, refusal error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), answerTimeout)
	defer cancel()
	if p.flow == nil {
		return refusal
	}
	_, err := wait.Talk(ctx, func(ctx context.Context) (struct{}, error) { return struct{}{}, p.flow.saver.dispute(ctx) }, nil)
	if err != nil {
		return failure.Refuse(errors.Join(refusal, err))
	}
	return refusal
}

// steady is how long a tenure lasts at least that was a good one, even if there was
// nothing to do.
const steady = time.Minute

// stored is the checkpoint, as far as there is one in this process.
func (p *Pipeline) stored() replication.LSN {
	switch {
	case p.flow != nil:
		return p.flow.saver.lastSaved().LSN
	case p.left != nil:
		return p.left.saved.LSN
	}
	return 0
}

// stopping is when the run was asked to stop: what is in flight has DrainTimeout from
// then on, whatever ends meanwhile. It may be called only once that has happened.
func (p *Pipeline) stopping() time.Time {
	now := time.Now()
	p.asked.CompareAndSwap(nil, &now)
	return *p.asked.Load()
}

// stopped ends a run that was asked to stop while no session was at work: what is
// in flight still gets its chance.
func (p *Pipeline) stopped() error {
	if p.flow != nil && p.flow.fenced() {
		return nil
	}
	if p.flow != nil {
		p.state.set(Draining, "stopping")
		err := p.flow.stop(p.stopping().Add(p.config.DrainTimeout))
		if poison, ok := errors.AsType[*router.PoisonError](err); ok && poison.Late && p.purpose.passes(p.config.Rules) {
			return &DrainError{Events: p.flow.producer.Events(), Cause: err.Error()} // the next start gives it to the dead letters
		}
		return err
	}
	switch left := p.left; {
	case left == nil:
	case left.inFlight > 0:
		return &DrainError{Events: left.inFlight, Cause: "the producer has ended, and no other could be had"}
	case left.unsaved > 0:
		return &DrainError{Unsaved: left.unsaved, Cause: "no connection to Kafka could be had"}
	}
	return nil
}

// final tells whether an error ends the process. What looks like a mistake in
// the configuration is one only before anything has worked: later it is more
// likely a password being rotated or a server being replaced.
func (p *Pipeline) final(err error, streamed bool) bool {
	switch failure.ClassOf(err) {
	case failure.Refused:
		return !p.condemn(err)
	case failure.Misconfigured:
		return !streamed && p.flow == nil && p.left == nil
	default:
		return false
	}
}

// discard ends what lives on between sessions.
func (p *Pipeline) discard() {
	if p.flow != nil {
		p.flow.close()
		p.flow = nil
	}
}

// retire ends the flow, and keeps what it leaves for the next one.
func (p *Pipeline) retire() {
	if p.flow != nil {
		p.left = p.flow.leave()
		p.discard()
	}
}

// connect opens the SQL connection with the connection string as it is now.
func (p *Pipeline) connect(ctx context.Context) (database, replication.Config, error) {
	c, err := p.replication()
	if err != nil {
		return nil, c, err
	}
	control, err := p.connectWith(ctx, c)
	return control, c, err
}

func (p *Pipeline) connectWith(ctx context.Context, c replication.Config) (database, error) {
	timed, cancel := context.WithTimeout(ctx, 2*c.ConnectTimeout)
	defer cancel()
	return p.servers.database(timed, c)
}

// replication is the configuration with the connection string as it is now.
func (p *Pipeline) replication() (replication.Config, error) {
	c := p.config.Replication
	var err error
	if c.DSN, err = p.config.DSN(); err != nil {
		return c, failure.Misconfigure(fmt.Errorf("postgres.dsn: %w", err))
	}
	return c, nil
}

// Complete reports whether a replay has ended because nothing is left to be
// published.
func (p *Pipeline) Complete() bool {
	r, replays := p.purpose.(replaying)
	return replays && r.completed.Load()
}
