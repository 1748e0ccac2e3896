package pipeline

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/outboxstream/streamer/checkpoint"
	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/internal/mutation"
	"github.com/outboxstream/streamer/internal/pgsession"
	"github.com/outboxstream/streamer/internal/wait"
	"github.com/outboxstream/streamer/replication"
	"github.com/outboxstream/streamer/router"
	"github.com/outboxstream/streamer/router/kafka"
)

// CheckpointConfig says where checkpoints are kept.
type CheckpointConfig struct {
	Store             string // kafka, postgres or file
	Interval          time.Duration
	Topic             string
	ReplicationFactor int
	DSN               func(context.Context) (string, error)
	Login             pgsession.Login // of the table's database; nil: DSN has the password
	Table             string
	Path              string
}

// flow is the Kafka side: it survives the end of a connection to PostgreSQL. It
// belongs to one history. Its fields belong to the goroutine that runs the
// pipeline, except for the saver.
type flow struct {
	history  history
	cluster  cluster
	producer *router.Producer
	passage  *router.Passage
	store    checkpoint.Store
	routes   *router.Router
	tracker  *checkpoint.Tracker
	saver    *saver
	trail    trail
	seam     *seam           // of a snapshot under way; nil otherwise
	began    replication.LSN // where reading began after the last lost connection, at or below the checkpoint
	resumed  replication.LSN // the checkpoint at that time
	outdated bool            // the checkpoint is of another history
	left     router.Point    // the last row dealt with by a predecessor in this process
	unsaved  bool            // the log already says that checkpoints cannot be stored

	eager    atomic.Bool   // the cleanup waits for idle positions to be stored
	notified chan struct{} // the producer or the saver has news
	wake     atomic.Pointer[func()]
}

// heir is what a flow leaves to the next one in this process.
type heir struct {
	history  history
	saved    resumePoint
	dealt    router.Point                      // the last row dealt with
	written  map[string][]replication.Position // see router.Producer.Written
	inFlight int                               // events whose fate is unknown
	unsaved  replication.LSN                   // the low watermark, if it is not stored
}

// newFlow creates a flow that writes as h's owner and continues from r. It does
// not write again what was found in Kafka or what a predecessor in this process
// left.
func (p *Pipeline) newFlow(h *holding, r resumePoint, found router.Found, left *heir) (*flow, error) {
	rules := p.config.Rules
	seam, err := newSeam(r, &found, rules.DeadLetterTopic)
	if err != nil {
		return nil, err
	}
	rules.Database = r.Database
	if seam != nil {
		rules.Snapshot = seam.mark
	}
	rules.StreamID, rules.Replay = p.purpose.streamID(r.Record), p.purpose.mark()
	routes, err := router.NewRouter(rules)
	if err != nil {
		return nil, err
	}
	f := &flow{
		cluster: h.cluster, store: h.store, routes: routes, notified: make(chan struct{}, 1),
		tracker: checkpoint.NewTracker(r.low), trail: newTrail(r),
	}
	var written map[string][]replication.Position
	if left != nil {
		written, f.left = left.written, left.dealt
		if left.dealt.Position.Compare(r.point.Position) > 0 {
			found.Landmarks = append(found.Landmarks, router.Landmark{Position: left.dealt.Position, Digest: left.dealt.Digest})
		}
	}
	f.passage = router.NewPassage(r.point, found, written)
	config := p.config.Producer
	if f.seam = seam; seam != nil {
		config.Held, config.StopOnGrowth = seam.held, true
		config.MaxInFlightBytes = max(config.MaxBatchBytes, config.MaxInFlightBytes/2) // the IDs of the stream take the rest
	}
	config.Found, config.Passage = router.Found{Topics: found.Topics, Missing: found.Missing}, f.passage
	if config.Foreign = h.foreign; h.foreign.Events() > manyForeign {
		config.MaxInFlightBytes = max(config.MaxBatchBytes, config.MaxInFlightBytes/2) // their IDs take the rest
	}
	f.producer = router.NewProducer(config, h.owner, routes, f.tracker, p.config.Metrics, f.notify)
	if h.topic != nil {
		h.topic.WriteWith(f.producer.Write, p.log)
	}
	return f, nil
}

// begin reads back what was published after the checkpoint in r. It stores the
// record before anything else is written. From then on the checkpoint never
// lags behind the slot, and names the producer that writes. begin owns h.
func (p *Pipeline) begin(ctx context.Context, h *holding, in history, r resumePoint, left *heir) (*flow, error) {
	found, err := p.readBack(ctx, h, r)
	if err != nil {
		h.close()
		return nil, err
	}
	if h.foreign, err = p.readForeign(ctx, h, r.Predecessor, r.LSN); err != nil {
		h.close()
		return nil, err
	}
	if err := p.countsAsBefore(h, r, found); err != nil {
		h.close()
		return nil, err
	}
	mutation.PauseBeforeWriting()
	f, err := p.newFlow(h, r, found, left)
	if err != nil {
		h.close()
		return nil, err
	}
	f.history = in
	id, epoch := h.owner.ID()
	r.Producer = checkpoint.Producer{Generation: h.generation, ID: id, Epoch: epoch}
	r.Routing, r.Tables, r.AtLeastOnce = p.config.Rules.Fingerprint(), p.config.tables(), h.atLeastOnce
	r.Topics = f.marks(r.low)
	r.SavedAt = time.Now().UTC()
	timed, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	if err := f.store.Save(timed, r.Record); err != nil {
		f.close()
		return nil, fmt.Errorf("save checkpoint: %w", err)
	}
	f.saver = newSaver(f.store, r, p.retries(), f.notify)
	return f, nil
}

// leave returns what the flow leaves to the next one.
func (f *flow) leave() *heir {
	h := &heir{
		history: f.history, saved: f.saver.lastSaved(), dealt: f.passage.LastDealt(), written: f.producer.Written(),
		inFlight: f.producer.Events(),
	}
	if f.left.Position.Compare(h.dealt.Position) > 0 {
		h.dealt = f.left // this flow has not come that far
	}
	if at := f.confirmed(); at != nil {
		h.unsaved = at.lsn
	}
	if f.fenced() {
		h.inFlight, h.unsaved = 0, 0
	}
	return h
}

// resume begins a session of the flow. It returns the LSN to read from. Every
// row after it that was dealt with must reappear in the stream.
func (f *flow) resume(slot replication.Slot) replication.LSN {
	saved := f.saver.lastSaved()
	start, again := saved.readFrom(slot)
	f.passage.Resume(saved.point, again...)
	f.trail.begin()
	f.began, f.resumed = start, saved.low
	return start
}

// moveTo notes that the server has restarted, or has begun another timeline
// while the streamer was reading it. The checkpoint has to say so before it
// advances any further.
func (f *flow) moveTo(ctx context.Context, h history) error {
	if mutation.Active(mutation.OutliveHistory) || mutation.Active(mutation.KeepTimeline) {
		return nil
	}
	if f.history.timeline != h.timeline {
		if err := f.saver.moveTo(ctx, h); err != nil {
			return err
		}
	}
	f.history = h
	return nil
}

// marks returns what a checkpoint at lsn records about the topics.
func (f *flow) marks(lsn checkpoint.LSN) map[string]checkpoint.Topic {
	topics := map[string]checkpoint.Topic{}
	for name, m := range f.producer.Marks(lsn) {
		topics[name] = checkpoint.Topic(m)
	}
	return topics
}

// collect processes acknowledgements, and admits topics that were waiting for a
// checkpoint that names them.
func (f *flow) collect() error {
	err := f.producer.Collect()
	f.trail.forget(f.saver.lastSaved().LSN)
	if !f.producer.Unstored() {
		return err
	}
	stored := map[string]router.Marks{}
	for name, t := range f.saver.lastSaved().Topics {
		stored[name] = router.Marks(t)
	}
	f.producer.Stored(stored)
	if f.producer.Unstored() && !f.saver.busy() {
		f.save(f.confirmed())
	}
	return err
}

// confirmed is the last step at or below the low watermark, or nil if that step
// is the stored checkpoint.
func (f *flow) confirmed() *step { return f.trail.below(f.tracker.Confirmed()) }

// save requests that a step be stored. Without a step, it requests that what is
// known of the topics be stored at the current checkpoint.
func (f *flow) save(at *step) {
	asked := f.saver.asked()
	lsn := asked.low
	if at != nil && at.lsn >= asked.LSN {
		lsn = at.lsn
	}
	in := historyIn(f.saver.lastSaved().Record)
	if f.passage.Proven() && !mutation.Active(mutation.KeepTimeline) {
		in = f.history // the history is now known to continue here
	}
	f.saver.save(at, f.marks(lsn), in)
}

// notify is called by the producer and the saver. It never blocks.
func (f *flow) notify() {
	ring(f.notified)
	if wake := f.wake.Load(); wake != nil {
		(*wake)()
	}
}

// load reads the stored record again.
func (f *flow) load(ctx context.Context, keep func(context.Context) error, id checkpoint.Identity) (checkpoint.Record, error) {
	ctx, cancel := context.WithTimeout(ctx, saveTimeout+answerTimeout)
	defer cancel()
	r, err := wait.TalkWhile(ctx, pingEvery, keep, func(ctx context.Context) (checkpoint.Record, error) {
		if err := f.saver.waitIdle(ctx); err != nil {
			return checkpoint.Record{}, err
		}
		ctx, cancel := context.WithTimeout(ctx, answerTimeout)
		defer cancel()
		return f.store.Load(ctx, id)
	}, nil)
	if err != nil && !errors.Is(err, checkpoint.ErrNone) {
		return r, fmt.Errorf("load checkpoint: %w", err)
	}
	return r, err
}

// fenced reports whether another instance has taken this one's place. Brokers
// then refuse whatever was in flight, and the other instance continues from
// what is published.
func (f *flow) fenced() bool { return errors.Is(f.producer.Err(), kafka.ErrFenced) }

// failed reports whether the flow cannot continue. Either its producer can
// never write again, or its store no longer takes its checkpoints because
// another instance has claimed the record.
func (f *flow) failed() bool {
	return f.producer.Err() != nil || errors.Is(f.saver.failed(), checkpoint.ErrClaimed)
}

func (f *flow) close() {
	f.producer.Close()
	if f.saver != nil {
		f.saver.close()
	}
	if f.store != nil {
		_ = f.store.Close() // everything saved is durable
	}
	f.cluster.Close()
	f.producer.Wait()
}

// waiting says what events wait for. That is the checkpoint store if it keeps
// topics out.
func (f *flow) waiting() string {
	if err := f.saver.failed(); err != nil && f.producer.Unstored() {
		return "waiting for the checkpoint store: " + err.Error()
	}
	return f.producer.Waiting()
}

// await sleeps until there is news, the deadline, or pollInterval has passed.
func (f *flow) await(deadline time.Time) {
	timer := time.NewTimer(min(pollInterval, max(0, time.Until(deadline))))
	defer timer.Stop()
	select {
	case <-f.notified:
	case <-timer.C:
	}
}

// settle seals open batches and waits until everything is acknowledged. It
// calls each while waiting. It returns a *DrainError when the deadline has
// passed.
func (f *flow) settle(deadline time.Time, each func()) error {
	f.producer.Seal()
	for {
		if err := f.collect(); err != nil {
			return err
		}
		if f.tracker.Idle() {
			return nil
		}
		if !time.Now().Before(deadline) {
			return &DrainError{Events: f.producer.Events(), Cause: f.producer.Unacknowledged()}
		}
		f.await(deadline)
		each()
	}
}

// saveLast stores the low watermark, and waits until it is stored.
func (f *flow) saveLast(deadline time.Time) error {
	at := f.confirmed()
	if at == nil {
		return nil
	}
	position := at.lsn
	f.save(at)
	for ; f.saver.lastSaved().LSN < position; f.await(deadline) {
		if err := f.saver.failed(); !time.Now().Before(deadline) || hopeless(err) {
			return &DrainError{Unsaved: position, Cause: f.saver.problem().Error()}
		}
	}
	return nil
}

// stop ends a flow that no stream feeds. nil means that nothing is in flight,
// and that the low watermark is stored.
func (f *flow) stop(deadline time.Time) error {
	settled := f.settle(deadline, func() {})
	if _, drain := errors.AsType[*DrainError](settled); settled != nil && !drain && failure.ClassOf(settled) != failure.Refused {
		settled = nil
		if events := f.producer.Events(); events > 0 { // the producer has failed: the fate of the events is unknown
			settled = &DrainError{Events: events, Cause: f.producer.Err().Error()}
		}
	}
	if unsaved := f.saveLast(deadline.Add(saveGrace)); unsaved != nil {
		return errors.Join(settled, unsaved)
	}
	if settled == nil && f.owes() {
		return &DrainError{Events: f.producer.Events(), Cause: unproven}
	}
	return settled
}

const unproven = "rows that are published have not reappeared in the stream, so the checkpoint could not advance"

// owes reports whether rows were published in this process that no checkpoint
// can cover before they have reappeared.
func (f *flow) owes() bool {
	known, saved := f.passage.LastDealt().Position, f.saver.lastSaved().point.Position
	return !f.passage.Proven() && (known.Compare(saved) > 0 || f.left.Position.Compare(saved) > 0)
}
