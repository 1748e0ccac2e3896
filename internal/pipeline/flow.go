package pipeline

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/outboxstream/streamer/checkpoint"
	"github.com/outboxstream/streamer/internal/failure"
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
	tracker  *checkpoint.Tracker
	saver    *saver

	// handed is the last event given to the producer: when the stream starts
	// again from the checkpoint, everything up to it is passed over.
	handed replication.Position

	notified chan struct{} // the producer or the saver has news
	wake     atomic.Pointer[func()]
}

// newFlow connects to Kafka and gets a producer id. That comes before the
// checkpoint is loaded: whoever held it before cannot change it any more once
// producers are fenced.
func (p *Pipeline) newFlow(ctx context.Context, server replication.Server, acknowledged written) (*flow, error) {
	rules := p.config.Rules
	rules.Database = server.Database
	rules.StreamID = streamID(server, p.config.Replication.Slot)
	routes, err := router.NewRouter(rules)
	if err != nil {
		return nil, err
	}
	client, err := router.Connect(p.config.Client)
	if err != nil {
		return nil, err
	}
	f := &flow{client: client, notified: make(chan struct{}, 1), tracker: checkpoint.NewTracker(0)}
	config := p.config.Producer
	config.Written = acknowledged
	f.producer, err = router.NewProducer(config, client, routes, f.tracker, p.config.Metrics, f.notify)
	if err != nil {
		client.Close()
		return nil, err
	}
	if f.store, err = p.openStore(ctx, f); err != nil {
		f.close()
		return nil, err
	}
	return f, nil
}

// streamID tells our records from those of any other slot, database or cluster.
func streamID(server replication.Server, slot string) string {
	const history, shard = 0, 0 // of a first history, unsharded
	sum := sha256.Sum256([]byte(server.SystemID + "\x00" + server.Database + "\x00" + slot + "\x00" + strconv.Itoa(shard) + "\x00" + strconv.Itoa(history)))
	return hex.EncodeToString(sum[:8])
}

func (p *Pipeline) openStore(ctx context.Context, f *flow) (checkpoint.Store, error) {
	c := p.config.Checkpoint
	switch c.Store {
	case "file":
		return checkpoint.OpenFile(c.Path)
	case "postgres":
		dsn, err := c.DSN()
		if err != nil {
			return nil, failure.Misconfigure(fmt.Errorf("checkpoint.postgres.dsn: %w", err))
		}
		return checkpoint.OpenPostgres(ctx, dsn, c.Table)
	}
	topic := router.NewCompactedTopic(f.client, c.Topic)
	topic.UseProducer(f.producer)
	timed, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	if err := topic.Ensure(timed, c.ReplicationFactor); err != nil {
		return nil, err
	}
	return checkpoint.NewKafka(topic), nil
}

// interruptible waits for what talks to Kafka, which a context cannot interrupt
// everywhere: a broker that does not answer must not hold up a stop. What has
// not returned when ctx ends is left behind, to end by its own timeout.
func interruptible[T any](ctx context.Context, talk func() (T, error)) (T, error) {
	type outcome struct {
		value T
		err   error
	}
	done := make(chan outcome, 1)
	go func() {
		value, err := talk()
		done <- outcome{value, err}
	}()
	select {
	case o := <-done:
		return o.value, o.err
	case <-ctx.Done():
		var none T
		return none, context.Cause(ctx)
	}
}

// notify is called by the producer and the saver; it never blocks.
func (f *flow) notify() {
	select {
	case f.notified <- struct{}{}:
	default:
	}
	if wake := f.wake.Load(); wake != nil {
		(*wake)()
	}
}

func (f *flow) load(ctx context.Context, id checkpoint.Identity) (checkpoint.Record, error) {
	if f.begun() {
		f.saver.rest()
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	r, err := interruptible(ctx, func() (checkpoint.Record, error) { return f.store.Load(ctx, id) })
	if err != nil && !errors.Is(err, checkpoint.ErrNone) {
		return r, fmt.Errorf("load checkpoint: %w", err)
	}
	return r, err
}

// heir is what a failed flow leaves to the next one: what the partitions have
// acknowledged, which holds as long as the checkpoint is still this one.
type heir struct {
	saved        checkpoint.Record
	acknowledged written
}

// failed tells whether the producer can never write again.
func (f *flow) failed() bool { return f.producer.Err() != nil }

// begun tells whether events may have gone through this flow.
func (f *flow) begun() bool { return f.saver != nil }

// follows tells whether the stored checkpoint is the one this flow saved last,
// so that nobody else can have been at work.
func (f *flow) follows(stored checkpoint.Record) bool {
	return f.begun() && f.saver.lastSaved().LSN == stored.LSN && f.saver.lastSaved().Timeline == stored.Timeline
}

// begin stores the very first checkpoint.
func (f *flow) begin(ctx context.Context, r checkpoint.Record) error {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	r.SavedAt = time.Now().UTC()
	if err := f.store.Save(ctx, r); err != nil {
		return fmt.Errorf("save checkpoint: %w", err)
	}
	f.resume(r)
	return nil
}

// resume makes the flow continue from a stored checkpoint.
func (f *flow) resume(r checkpoint.Record) {
	*f.tracker = *checkpoint.NewTracker(r.LSN)
	f.handed = replication.Position{}
	f.saver = newSaver(f.store, r, f.notify)
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
		if err := f.producer.Collect(); err != nil {
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
			return fmt.Errorf("last checkpoint %s was not stored in time: %w", position, f.saver.problem())
		}
		if !asked || f.saver.failed() != nil {
			asked = f.saver.save(position)
		}
	}
	return nil
}

// stop ends a flow that no stream feeds.
func (f *flow) stop(deadline time.Time) error {
	settled := f.settle(deadline, func() {})
	return errors.Join(settled, f.saveLast(deadline.Add(saveGrace)))
}
