// Package pipeline is the only package that knows all four stages. It connects
// them, runs sessions one after the other, and decides what an error means.
//
//	tenure:  lock → producer id → checkpoint → checks     (which producer, and from where)
//	session: a reader … until something breaks            (one stretch of the tenure)
//
// There is only one way to recover: the current session or tenure ends, and
// after a pause a new one starts from the checkpoint. Only the producer, what
// it has in flight, and the position of the last event handed to it survive.
// They survive only as long as no other instance can have written in between.
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

// Config configures a Pipeline.
type Config struct {
	// DSN returns the connection string. It is called whenever the string is
	// needed, so that a rotated password takes effect.
	DSN         func(context.Context) (string, error)
	Replication replication.Config // without DSN
	// Mappings are those of the tables in Replication.Outboxes, and so are
	// Rules.Tables.
	Mappings   []decoder.Mapping
	Rules      router.Rules // without Database and StreamID
	Client     kafka.ClientConfig
	Producer   router.ProducerConfig
	Checkpoint CheckpointConfig
	Resume     Resume
	Reading    Reading
	// CatchUpFrom is the lag, in bytes of WAL, from which ReadAuto reads by SQL.
	CatchUpFrom int64
	Rewind      Rewind
	Cleanups    []Cleanup // of the tables
	Snapshot    Snapshot
	// Until is where to stop. Transactions that commit at or above it are left to
	// others. 0 means no end.
	Until replication.LSN
	// Replay is what to publish again instead of streaming, from a slot created
	// for that purpose. It is nil for streaming.
	Replay *Replay
	// TransactionalIDPrefix is the prefix of the transactional ID that keeps
	// predecessors out.
	TransactionalIDPrefix string

	StatusInterval time.Duration // between status updates to the server
	BlockedTimeout time.Duration // after which a connection that cannot be read is closed
	DrainTimeout   time.Duration // for events in flight when stopping
	RetryInitial   time.Duration
	RetryMax       time.Duration
	Log            *slog.Logger
	Metrics        Metrics
}

// Metrics receives what happens in a pipeline. All methods may be called from
// the reading goroutine and must not block.
type Metrics interface {
	router.Observer
	// Reconnected reports that a session has ended with a transient error.
	Reconnected()
	// Read reports how many rows of a table were read. It is called once per tick.
	Read(table string, rows int64)
	// Loose reports messages that belong to no transaction, which are not published.
	Loose(messages int64)
	// Skipped reports an event that was read again and not published again.
	Skipped()
	// Phase reports that the pipeline has entered another phase.
	Phase(Phase)
	// Position reports when the checkpoint was stored and what is in flight.
	Position(saved time.Time, inFlightBytes, inFlightEvents int)
	// DeadLetter reports a row that became a dead letter.
	DeadLetter(class string)
	// Resuming reports why a crash may repeat events. The reason is empty if
	// predecessors are kept out, so that nothing is repeated.
	Resuming(atLeastOnce string)
	// CatchingUp reports whether the WAL is read by SQL.
	CatchingUp(yes bool)
	// Slot reports the slot as the server sees it.
	Slot(replication.Slot)
	// Removed reports rows of the outbox table that were removed.
	Removed(rows int)
	// Rewind reports the rewind slot as the server sees it.
	Rewind(replication.Slot)
	// Snapshot reports how many rows from before the slot are published, and how
	// many there are expected to be. The two are equal at the end.
	Snapshot(rows, expected int64)
}

// Pipeline streams from one slot to Kafka.
type Pipeline struct {
	ground
	servers servers
	flow    *flow              // survives between sessions; nil before the first
	left    *heir              // what the previous flow left, while there is no flow; or nil
	server  replication.Server // the last one connected to
	// noCatchUpUntil is the end of the time in which a server that refused
	// catching up is only streamed from.
	noCatchUpUntil time.Time
	// unfenced is why predecessors could not be kept out although Kafka had let the
	// streamer take over, or nil. It would be the same next time.
	unfenced error
	// condemned holds rows that the broker has refused, by position, until they
	// have become dead letters.
	condemned map[replication.Position]*router.PoisonError
	// progressed reports whether a snapshot has come further in this tenure: the
	// position does not change meanwhile.
	progressed bool
	asked      atomic.Pointer[time.Time] // when the pipeline was asked to stop
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

// DrainError reports that the process was stopped before everything in flight
// was acknowledged.
type DrainError struct {
	Events int
	Cause  string // what was being waited for
	// Unsaved is the checkpoint that could not be stored, although everything was
	// acknowledged. Otherwise it is 0.
	Unsaved replication.LSN
}

func (e *DrainError) Error() string {
	if e.Unsaved != 0 {
		return fmt.Sprintf(
			"stopped at the drain deadline before the last checkpoint %s was stored (%s): the next start reads back what was published",
			e.Unsaved, e.Cause,
		)
	}
	if e.Events == 0 {
		return fmt.Sprintf("stopped before the last checkpoint could be made (%s): the next start reads back what was published", e.Cause)
	}
	return fmt.Sprintf("stopped at the drain deadline with %d events in flight (%s): they will be published again", e.Events, e.Cause)
}

// Run streams until ctx is cancelled, and then drains. It ends by itself at
// Config.Until. It returns nil after a clean stop: nothing is in flight, and
// the low watermark is stored. Otherwise it returns a *DrainError, or an error
// whose failure class says what to do.
func (p *Pipeline) Run(ctx context.Context) error {
	defer p.discard()
	defer context.AfterFunc(ctx, func() { p.stopping() })()
	pause := p.retries()
	for {
		began, stored := time.Now(), p.stored()
		p.progressed = false
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
		// Opening a stream is not progress: what ended this one may end every one.
		if p.stored() > stored || p.progressed || time.Since(began) >= steady || mutation.Active(mutation.RetryAtOnce) {
			pause.Reset()
		}
		if errors.Is(err, kafka.ErrNoTransactions) {
			p.unfenced = err
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

// dispute records in the checkpoint that the refusal is about another history,
// so that `streamer checkpoint set` begins a new one.
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

// steady is the minimum duration of a tenure that counts as a good one, even if
// there was nothing to do.
const steady = time.Minute

// stored is the stored checkpoint, or 0 if this process has none.
func (p *Pipeline) stored() replication.LSN {
	switch {
	case p.flow != nil:
		return p.flow.saver.lastSaved().LSN
	case p.left != nil:
		return p.left.saved.LSN
	}
	return 0
}

// stopping is when the run was asked to stop. From then on, what is in flight
// has DrainTimeout, whatever ends meanwhile. It may be called only after that
// request.
func (p *Pipeline) stopping() time.Time {
	now := time.Now()
	p.asked.CompareAndSwap(nil, &now)
	return *p.asked.Load()
}

// stopped ends a run that was asked to stop while no session was running. What
// is in flight still gets its chance.
func (p *Pipeline) stopped() error {
	if p.flow != nil && p.flow.fenced() {
		return nil
	}
	if p.flow != nil {
		p.state.set(Draining, "stopping")
		err := p.flow.stop(p.stopping().Add(p.config.DrainTimeout))
		if poison, ok := errors.AsType[*router.PoisonError](err); ok && poison.Late && p.purpose.passes(p.config.Rules) {
			return &DrainError{Events: p.flow.producer.Events(), Cause: err.Error()} // the next start makes it a dead letter
		}
		return err
	}
	switch left := p.left; {
	case left == nil:
	case left.inFlight > 0:
		return &DrainError{Events: left.inFlight, Cause: "the producer has ended and could not be replaced"}
	case left.unsaved > 0:
		return &DrainError{Unsaved: left.unsaved, Cause: "no connection to Kafka could be made"}
	}
	return nil
}

// final reports whether an error ends the process. What looks like a
// configuration mistake is one only before anything has worked. Later the cause
// is more likely a password being rotated or a server being replaced.
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

// discard closes the flow, which otherwise survives between sessions.
func (p *Pipeline) discard() {
	if p.flow != nil {
		p.flow.close()
		p.flow = nil
	}
}

// retire closes the flow, and keeps what it leaves for the next one.
func (p *Pipeline) retire() {
	if p.flow != nil {
		p.left = p.flow.leave()
		p.discard()
	}
}

// connect opens the SQL connection with the current connection string.
func (p *Pipeline) connect(ctx context.Context) (database, replication.Config, error) {
	c, err := p.replication(ctx)
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

// replication is the configuration with the current connection string.
func (p *Pipeline) replication(ctx context.Context) (replication.Config, error) {
	c := p.config.Replication
	var err error
	if c.DSN, err = p.config.DSN(ctx); err != nil {
		return c, fmt.Errorf("postgres.dsn: %w", err)
	}
	return c, nil
}

// Complete reports whether a replay has ended because nothing is left to
// publish.
func (p *Pipeline) Complete() bool {
	r, replays := p.purpose.(replaying)
	return replays && r.completed.Load()
}
