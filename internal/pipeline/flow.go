package pipeline

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/outboxstream/streamer/checkpoint"
	"github.com/outboxstream/streamer/internal/mutation"
	"github.com/outboxstream/streamer/replication"
	"github.com/outboxstream/streamer/router"
)

// CheckpointConfig says where checkpoints are kept.
type CheckpointConfig struct {
	Store             string // kafka, postgres or file
	Interval          time.Duration
	Topic             string
	ReplicationFactor int
	DSN               func() (string, error)
	Table             string
	Path              string
}

// written is what each partition has had acknowledged.
type written = map[string]map[int32]replication.Position

// flow is the Kafka side: what lives on when a connection to PostgreSQL ends.
// Its fields belong to the goroutine that runs the pipeline, but for the saver.
type flow struct {
	client   *router.Client
	producer *router.Producer
	store    checkpoint.Store
	routes   *router.Router
	tracker  *checkpoint.Tracker
	saver    *saver

	// handed is the last event given to the producer: when the stream starts
	// again from the checkpoint, everything up to it is passed over.
	handed replication.Position
	// landmark is what must come by again before anything is confirmed, or nil.
	landmark *landmark
	unsaved  bool // it has been said that checkpoints cannot be stored
	trail    trail

	eager    atomic.Bool   // somebody waits for idle positions to be stored
	notified chan struct{} // the producer or the saver has news
	wake     atomic.Pointer[func()]
}

// newFlow makes a flow that writes as h's owner and continues from record. What
// was found in Kafka, and what a predecessor in this process leaves, is not
// written again.
func (p *Pipeline) newFlow(h *holding, record checkpoint.Record, found router.Found, acknowledged written) (*flow, error) {
	rules := p.config.Rules
	rules.Database = record.Database
	rules.StreamID, rules.Replay = p.streamID(record), p.config.Replay.id()
	routes, err := router.NewRouter(rules)
	if err != nil {
		return nil, err
	}
	f := &flow{client: h.client, store: h.store, routes: routes, notified: make(chan struct{}, 1), tracker: checkpoint.NewTracker(record.LSN)}
	config := p.config.Producer
	config.Found, config.Written = found, acknowledged
	f.producer = router.NewProducer(config, h.owner, routes, f.tracker, p.config.Metrics, f.notify)
	if h.topic != nil {
		h.topic.UseProducer(f.producer)
	}
	return f, nil
}

// begin reads back what was published after the checkpoint in record, and stores
// the record before anything else is written: from now on the checkpoint is
// never behind the slot, and says who writes.
func (p *Pipeline) begin(ctx context.Context, h *holding, record checkpoint.Record, acknowledged written) (*flow, error) {
	found, err := p.readBack(ctx, h, record)
	if err != nil {
		h.close()
		return nil, err
	}
	mutation.PauseBeforeWriting()
	f, err := p.newFlow(h, record, found, acknowledged)
	if err != nil {
		h.close()
		return nil, err
	}
	id, epoch := h.owner.ID()
	record.Producer = checkpoint.Producer{Generation: h.generation, ID: id, Epoch: epoch}
	record.Routing, record.AtLeastOnce = p.config.Rules.Fingerprint(), h.atLeastOnce
	record.Topics = f.marks(record.LSN)
	record.SavedAt = time.Now().UTC()
	timed, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	if err := f.store.Save(timed, record); err != nil {
		f.close()
		return nil, fmt.Errorf("save checkpoint: %w", err)
	}
	f.saver = newSaver(f.store, record, f.notify)
	return f, nil
}

// marks are what a checkpoint says about the topics.
func (f *flow) marks(lsn checkpoint.LSN) map[string]checkpoint.Topic {
	topics := map[string]checkpoint.Topic{}
	for name, m := range f.producer.Marks(lsn) {
		topics[name] = checkpoint.Topic(m)
	}
	return topics
}

// collect takes notice of acknowledgements, and lets topics in that were waiting
// for a checkpoint that names them.
func (f *flow) collect() error {
	err := f.producer.Collect()
	if !f.producer.Unstored() {
		return err
	}
	stored := map[string]router.Marks{}
	for name, t := range f.saver.lastSaved().Topics {
		stored[name] = router.Marks(t)
	}
	f.producer.Stored(stored)
	if f.producer.Unstored() {
		f.save(f.tracker.Confirmed()) // never lower than one that is being saved
	}
	return err
}

// save asks for a checkpoint to be stored. It reports whether the request was
// taken.
func (f *flow) save(lsn checkpoint.LSN) bool {
	return f.saver.save(lsn, f.marks(lsn), f.trail.below(lsn))
}

// interruptible waits for what talks to Kafka, which a context cannot interrupt
// everywhere: a broker that does not answer must not hold up a stop. What has
// not returned when ctx ends is left behind, to end by its own timeout. keep is
// called at intervals meanwhile, and ends the wait if it fails.
func interruptible[T any](ctx context.Context, keep func(context.Context) error, talk func(context.Context) (T, error)) (T, error) {
	type outcome struct {
		value T
		err   error
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	done := make(chan outcome, 1)
	go func() {
		value, err := talk(ctx)
		done <- outcome{value, err}
	}()
	ticker := time.NewTicker(pingEvery)
	defer ticker.Stop()
	for {
		select {
		case o := <-done:
			return o.value, o.err
		case <-ctx.Done():
			var none T
			return none, context.Cause(ctx)
		case <-ticker.C:
			if err := keep(ctx); err != nil {
				cancel(err)
			}
		}
	}
}

// ring tells whoever listens to a channel of one that there is news. It never
// blocks.
func ring(bell chan<- struct{}) {
	select {
	case bell <- struct{}{}:
	default:
	}
}

// notify is called by the producer and the saver; it never blocks.
func (f *flow) notify() {
	ring(f.notified)
	if wake := f.wake.Load(); wake != nil {
		(*wake)()
	}
}

func (f *flow) load(ctx context.Context, keep func(context.Context) error, id checkpoint.Identity) (checkpoint.Record, error) {
	f.saver.rest()
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	r, err := interruptible(ctx, keep, func(ctx context.Context) (checkpoint.Record, error) { return f.store.Load(ctx, id) })
	if err != nil && !errors.Is(err, checkpoint.ErrNone) {
		return r, fmt.Errorf("load checkpoint: %w", err)
	}
	return r, err
}

// heir is what a flow leaves to the next one: what the partitions have
// acknowledged, which holds as long as the checkpoint is still this one.
type heir struct {
	saved        checkpoint.Record
	acknowledged written
}

// failed tells whether the producer can never write again.
func (f *flow) failed() bool { return f.producer.Err() != nil }

// follows tells whether the stored checkpoint is the one saved last, so that
// nobody else can have been at work.
func follows(stored, last checkpoint.Record) bool {
	return last.LSN == stored.LSN && last.Timeline == stored.Timeline && last.Producer == stored.Producer
}

func (f *flow) close() {
	f.producer.Close()
	if f.saver != nil {
		f.saver.close()
	}
	if f.store != nil {
		_ = f.store.Close() // everything that was saved is durable
	}
	f.client.Close()
	f.producer.Wait()
}

// pollInterval is how often a wait looks at the clock when there is no news.
const pollInterval = time.Second

// await sleeps until there is news, or for a moment.
func (f *flow) await(deadline time.Time) {
	timer := time.NewTimer(min(pollInterval, max(0, time.Until(deadline))))
	defer timer.Stop()
	select {
	case <-f.notified:
	case <-timer.C:
	}
}

// settle seals what is open and waits until everything is acknowledged. each is
// called while waiting. It returns a *DrainError when the deadline has passed.
func (f *flow) settle(deadline time.Time, each func()) error {
	f.producer.Seal()
	for {
		if err := f.collect(); err != nil {
			return err
		}
		if f.tracker.Idle() {
			return nil
		}
		if time.Now().After(deadline) {
			return &DrainError{Events: f.producer.Events(), Cause: f.producer.Unacknowledged()}
		}
		f.await(deadline)
		each()
	}
}

// saveLast stores the low watermark and waits for it.
func (f *flow) saveLast(deadline time.Time) error {
	position := f.tracker.Confirmed()
	for asked := false; f.saver.lastSaved().LSN < position; f.await(deadline) {
		if time.Now().After(deadline) {
			return &DrainError{Unsaved: position, Cause: f.saver.problem().Error()}
		}
		if !asked || f.saver.failed() != nil {
			asked = f.save(position)
		}
	}
	return nil
}

// stop ends a flow that no stream feeds.
func (f *flow) stop(deadline time.Time) error {
	settled := f.settle(deadline, func() {})
	return errors.Join(settled, f.saveLast(deadline.Add(saveGrace)))
}
