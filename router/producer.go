package router

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/IBM/sarama"

	"github.com/outboxstream/streamer/decoder"
	"github.com/outboxstream/streamer/replication"
)

// Tracker learns what is in flight; checkpoint.Tracker is the one that counts.
type Tracker interface {
	// Open registers a batch that begins with the next event.
	Open() (ticket uint64)
	// Add counts an event put into an open batch.
	Add()
	// Finish records that all events of the batch are acknowledged.
	Finish(ticket uint64)
}

// cluster is what the Producer needs of Kafka. All methods may block, and are
// called by one goroutine that may wait.
type cluster interface {
	// Refresh fetches the metadata of a topic.
	Refresh(topic string) error
	// Partitions is the topic's partition count as of the last refresh.
	Partitions(topic string) (int, error)
	// Leader is the connection to the leader as of the last refresh.
	Leader(topic string, partition int32) (connection, error)
	// Create makes a missing topic, if the configuration allows it.
	Create(topic string) error
	// ID is the producer id to write with, and its epoch.
	ID() (id int64, epoch int16)
	// Admit gets a topic's partitions ready for their first event.
	Admit(topic string, partitions int) (FoundTopic, error)
	// Renew keeps predecessors out, when that is due, and tells when it is due
	// again.
	Renew() (time.Duration, error)
	// Lapsed is why nothing may be written any more, or nil. It never blocks.
	Lapsed() error
}

// connection is a *sarama.Broker.
type connection interface {
	AsyncProduce(*sarama.ProduceRequest, sarama.ProduceCallback) error
	Close() error
}

// ProducerConfig bounds and times production.
type ProducerConfig struct {
	Compression      string // none, gzip, snappy, lz4 or zstd
	CompressionLevel int    // 0 is the codec's default
	MaxBatchBytes    int    // of one batch, before compression
	MaxRecordBytes   int    // of one record; 0 leaves it to the broker
	MaxInFlightBytes int    // of memory in open, waiting and sent batches
	Linger           time.Duration
	RequestTimeout   time.Duration // how long the broker may wait for its replicas
	UnknownGrace     time.Duration // how long a topic may be missing or forbidden
	StopOnGrowth     bool          // refuse to go on when a topic gets more partitions
	RetryInitial     time.Duration
	RetryMax         time.Duration
	MetadataInterval time.Duration // how often partition counts are looked at
	Traces           bool          // a Publication names the traces of its events
	// Written is what a predecessor has had acknowledged, from its Written:
	// those events are skipped.
	Written map[string]map[int32]replication.Position
	// Found is what has been read back from Kafka: those events are skipped, too.
	Found Found
	Log   *slog.Logger
}

const (
	// maxInFlightBatches per partition: the broker remembers the last five
	// batches of a producer, and can tell a repeated one only among those.
	maxInFlightBatches = 5
	// maxRequests in flight per connection. sarama's Broker blocks, holding its
	// lock, when all MaxOpenRequests are taken, and metadata shares the
	// connection, so we stay below MaxOpenRequests - 1.
	maxRequests = 4
	// maxRequestBytes of batches in one request, unless a single one is larger.
	maxRequestBytes = 4 << 20
	// worthwhile is how much makes a request that is worth its own cost, and that
	// of a batch for each of many partitions.
	worthwhile = 1 << 20
	// producerMemory is how long after its last batch a partition surely
	// remembers a producer. Brokers forget after 24 h (producer.id.expiration.ms),
	// counted from the time of the newest record, not of its arrival.
	producerMemory = 12 * time.Hour
)

// Producer sends batches. Append, Flush, Collect, Seal and the counters belong
// to one goroutine, the one that reads the stream; everything else may be
// called from any.
type Producer struct {
	config  ProducerConfig
	cluster cluster
	router  *Router
	encoder *encoder
	codec   codec
	tracker Tracker
	notify  func() // tells the reading goroutine that Collect has something
	log     *slog.Logger
	observe Observer

	id    int64
	epoch int16

	// The reading goroutine's own.
	topics   map[string]*topic
	open     []*partition // those with an open batch
	chosen   []*partition // scratch of Flush
	inFlight int          // bytes
	opened   int          // bytes of those in open batches
	events   int          // appended and not yet collected
	memory   memory       // that open batches grow in
	free     []*Batch
	freeSize int         // bytes retained by free
	resuming *resumption // nil once everything read back has come by again
	buried   *partition  // where a dead letter is on its way to

	ready atomic.Bool // Collect has something

	mu       sync.Mutex
	finished []*Batch // acknowledged, waiting for Collect
	err      error    // why production has ended
	brokers  map[connection]*broker
	lookups  map[*partition]struct{} // partitions without a leader
	unknown  map[*topic]struct{}     // topics without a partition count
	known    []*topic
	dormant  map[string]FoundTopic // read back, and no event has come for them yet
	unstored map[*topic]struct{}   // admitted, waiting for Stored
	closed   bool
	blocked  string // why Append was last blocked

	metadata chan struct{} // wakes the metadata goroutine
	stop     chan struct{}
	running  sync.WaitGroup
}

// Observer is told what happened, for metrics. Its methods are called once per
// batch, by the reading goroutine where nothing else is said, and must not
// block.
type Observer interface {
	// Published reports a batch that the broker has acknowledged.
	Published(Publication)
	// Failed reports that a topic's partition did not take a batch, which will be
	// sent again if that can help. Any goroutine may call it.
	Failed(topic string)
}

// NewProducer starts a producer with the owner's id. notify is called, from
// any goroutine and without a lock held, when Collect has something to do; it
// must not block.
func NewProducer(config ProducerConfig, c cluster, r *Router, t Tracker, o Observer, notify func()) *Producer {
	id, epoch := c.ID()
	p := &Producer{
		config: config, cluster: c, router: r, encoder: newEncoder(r), codec: codecOf(config), tracker: t, notify: notify,
		log: config.Log, observe: o, id: id, epoch: epoch,
		topics: map[string]*topic{}, brokers: map[connection]*broker{},
		lookups: map[*partition]struct{}{}, unknown: map[*topic]struct{}{}, unstored: map[*topic]struct{}{},
		dormant: maps.Clone(config.Found.Topics), resuming: newResumption(config.Found),
		metadata: make(chan struct{}, 1), stop: make(chan struct{}),
		memory: memory{limit: config.MaxInFlightBytes},
	}
	p.running.Go(p.runMetadata)
	return p
}

// Result is what became of an event given to Append.
type Result int

const (
	// Appended means that the event is in a batch and will be sent.
	Appended Result = iota
	// Blocked means not now; see Producer.Waiting for the reason. The caller
	// tries again with the same event when it has been notified and Collect
	// has run.
	Blocked
	// Skipped means that the partition already has the event.
	Skipped
)

// PoisonError is an event that Kafka or CloudEvents will never take.
type PoisonError struct {
	Position replication.Position
	EventID  string
	Class    PoisonClass
	Reason   error
	// Late tells that the broker said so, after events behind it had been
	// appended: the producer cannot go on.
	Late bool
}

func (e *PoisonError) Error() string {
	return fmt.Sprintf("outbox row %q at %s: %s", e.EventID, e.Position, e.Reason)
}

func (e *PoisonError) Unwrap() error { return e.Reason }

func poison(e *decoder.Event, class PoisonClass, reason error) error {
	return &PoisonError{Position: e.Position, EventID: string(e.Attribute(decoder.ID)), Class: class, Reason: reason}
}

// Append puts an event into the batch of its partition. It copies what it
// needs. An error is a *PoisonError, or ErrOtherHistory.
func (p *Producer) Append(e *decoder.Event) (Result, error) {
	if p.buried != nil && p.burying() {
		return p.block(waitingForDeadLetter)
	}
	d, err := p.router.Route(e)
	if err != nil {
		return Appended, poison(e, PoisonRoute, err)
	}
	if limit := p.config.MaxRecordBytes; limit > 0 && len(e.Data) > limit {
		return Appended, poison(e, PoisonSize, fmt.Errorf("payload of %d bytes is larger than kafka.max_record_bytes (%d): raise it together with the topic's max.message.bytes, or publish a reference", len(e.Data), limit))
	}
	t := p.topic(d.Topic)
	if !t.ready.Load() {
		if hopeless := t.hopeless.Load(); hopeless != nil {
			return Appended, poison(e, PoisonTopic, *hopeless)
		}
		return p.block("waiting for the metadata of a topic")
	}
	if t.grown.Load() != 0 && !p.grow(t) {
		return p.block("waiting for a topic with new partitions to drain")
	}
	part := t.partitionOf(d.Key)
	if p.resuming != nil {
		if published, err := p.passed(e.Position, string(e.Attribute(decoder.ID)), part); err != nil || published {
			return Skipped, err
		}
	}
	if e.Position.Compare(part.written) <= 0 {
		return Skipped, nil
	}
	size := len(e.Data) + recordMemory
	if p.inFlight > 0 && p.inFlight+size > p.config.MaxInFlightBytes {
		p.sealAll()
		return p.block(waitingForBroker)
	}
	if part.open != nil && part.open.size+size > p.config.MaxBatchBytes {
		p.seal(part)
	}
	return p.add(part, e, &d)
}

func (p *Producer) block(why string) (Result, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.blocked = why
	return Blocked, nil
}

// add encodes the event into the partition's open batch.
func (p *Producer) add(part *partition, e *decoder.Event, d *Destination) (Result, error) {
	b := part.open
	fresh := b == nil
	if fresh {
		b = p.take()
	}
	before := b.memory
	if err := p.encoder.encode(b, e, d); err != nil {
		if fresh {
			p.recycle(b)
		}
		return Appended, poison(e, PoisonEvent, err)
	}
	if p.config.Traces {
		b.trace(e.Attribute(decoder.TraceParent))
	}
	if fresh {
		p.place(part, b)
	}
	p.count(part, b, before, e.Position)
	if b.size >= p.config.MaxBatchBytes {
		p.seal(part)
	}
	return Appended, nil
}

// place makes b the partition's open batch.
func (p *Producer) place(part *partition, b *Batch) {
	b.partition, b.opened = part, time.Now()
	b.ticket = p.tracker.Open()
	part.open = b
	p.open = append(p.open, part)
}

// count notes an event that was put into a batch of so much memory before.
func (p *Producer) count(part *partition, b *Batch, before int, at replication.Position) {
	p.tracker.Add()
	p.inFlight += b.memory - before
	p.opened += b.memory - before
	p.events++
	part.written = at
}

// passed tells whether the event was published before this start.
func (p *Producer) passed(at replication.Position, eventID string, part *partition) (bool, error) {
	if p.resuming == nil {
		return false, nil
	}
	published, err := p.resuming.pass(at, eventID, part)
	if p.resuming.over() {
		p.resuming = nil
	}
	return published, err
}

// take gives an empty batch.
func (p *Producer) take() *Batch {
	if n := len(p.free); n > 0 {
		b := p.free[n-1]
		p.free = p.free[:n-1]
		p.freeSize -= b.retained()
		return b
	}
	b := newBatch()
	b.lends = &p.memory
	return b
}

// recycle keeps a batch for the next, up to half of what may be in flight for
// all of them.
func (p *Producer) recycle(b *Batch) {
	b.reset()
	if size := b.retained(); p.freeSize+size <= p.config.MaxInFlightBytes/2 {
		p.free = append(p.free, b)
		p.freeSize += size
	}
}

// Flush seals every open batch whose broker has nothing else to do, so that it
// leaves at once; the others grow until a request returns. This is Nagle's
// rule, and needs no clock.
//
// While the stream is flowing, more is sure to come: then nothing leaves before
// it is worth a request, and Flush reports that it holds batches back.
func (p *Producer) Flush(flowing bool) (held bool) {
	if len(p.open) == 0 {
		return false
	}
	if flowing && p.opened < worthwhile {
		return true
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	idle := func(part *partition) bool { return part.broker != nil && part.broker.idle() && p.lingered(part.open) }
	// All are chosen before the first is sealed, because that ends the idleness.
	p.chosen = p.chosen[:0]
	rest := p.open[:0]
	for _, part := range p.open {
		if idle(part) {
			p.chosen = append(p.chosen, part)
		} else {
			rest = append(rest, part)
		}
	}
	p.open = rest
	for _, part := range p.chosen {
		p.sealLocked(part)
	}
	return false
}

func (p *Producer) lingered(b *Batch) bool {
	return p.config.Linger == 0 || time.Since(b.opened) >= p.config.Linger
}

// Seal closes every open batch, whatever the brokers are doing: for stopping.
func (p *Producer) Seal() { p.sealAll() }

func (p *Producer) sealAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, part := range p.open {
		p.sealLocked(part)
	}
	p.open = p.open[:0]
}

// seal closes the open batch of one partition.
func (p *Producer) seal(part *partition) {
	for i, other := range p.open {
		if other == part {
			p.open = append(p.open[:i], p.open[i+1:]...)
			break
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sealLocked(part)
}

// sealLocked gives the open batch its sequence numbers and queues it.
func (p *Producer) sealLocked(part *partition) {
	b := part.open
	part.open = nil
	p.opened -= b.memory
	part.enqueue(b)
	p.schedule(part)
}

// Ready tells that Collect has something to do. It costs one atomic load.
func (p *Producer) Ready() bool { return p.ready.Load() }

// Collect takes notice of acknowledged batches and returns why production has
// ended, if it has.
func (p *Producer) Collect() error {
	p.ready.Store(false)
	p.mu.Lock()
	finished, err := p.finished, p.err
	p.finished = nil
	p.mu.Unlock()
	for _, b := range finished {
		p.tracker.Finish(b.ticket)
		p.inFlight -= b.memory
		p.events -= b.count()
		if p.observe != nil {
			p.observe.Published(Publication{
				Topic: b.partition.topic.name, Partition: b.partition.id, Events: b.count(), Bytes: b.size,
				OldestCommit: time.UnixMicro(b.oldest), Opened: b.opened, Traces: b.traces,
			})
		}
		p.recycle(b)
	}
	return err
}

// Err is why production has ended for good, or nil. Any goroutine may ask.
func (p *Producer) Err() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

// InFlight is the memory in bytes of everything not yet acknowledged.
func (p *Producer) InFlight() int { return p.inFlight }

// Accepts tells whether there is room for events again: half of what may be in
// flight is free, and no topic is being looked up.
func (p *Producer) Accepts() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.inFlight <= p.config.MaxInFlightBytes/2 && len(p.unknown)+len(p.unstored) == 0
}

// Events is the number of events not yet acknowledged.
func (p *Producer) Events() int { return p.events }

// Oldest is when the oldest event was committed that is not yet acknowledged,
// and false if there is none. Like Events it knows what Collect has seen.
func (p *Producer) Oldest() (oldest time.Time, inFlight bool) {
	if p.events == 0 {
		return time.Time{}, false
	}
	first := int64(math.MaxInt64)
	consider := func(b *Batch) {
		if b != nil && b.done == nil {
			first = min(first, b.oldest)
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, b := range p.finished {
		consider(b)
	}
	for _, t := range p.known {
		for _, part := range t.partitions {
			consider(part.open)
			for _, b := range part.sent {
				consider(b)
			}
			for _, b := range part.queue {
				consider(b)
			}
		}
	}
	if first == math.MaxInt64 {
		return time.Time{}, false
	}
	return time.UnixMicro(first), true
}

// waitingForBroker is why something stays in flight.
const waitingForBroker = "waiting for the broker to acknowledge"

// Waiting says what Append was last blocked by.
func (p *Producer) Waiting() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.blocked + p.trouble()
}

// Unacknowledged says why what has been appended is still in flight.
func (p *Producer) Unacknowledged() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return waitingForBroker + p.trouble()
}

// trouble is the end of a sentence that names a topic and what is wrong with
// it, or nothing. mu is held.
func (p *Producer) trouble() string {
	for part := range p.lookups {
		if part.lastErr != nil {
			return fmt.Sprintf(": topic %q partition %d: %s", part.topic.name, part.id, part.lastErr)
		}
	}
	for t := range p.unknown {
		if t.lastErr != nil {
			return fmt.Sprintf(": topic %q: %s", t.name, t.lastErr)
		}
	}
	return ""
}

// Written tells, for each partition written to, the highest position handed to
// it. A successor of this producer must not write those again; what is not yet
// acknowledged is not in it.
func (p *Producer) Written() map[string]map[int32]replication.Position {
	p.mu.Lock()
	defer p.mu.Unlock()
	written := map[string]map[int32]replication.Position{}
	for name, partitions := range p.config.Written {
		written[name] = maps.Clone(partitions) // of topics that no event has come for, too
	}
	for _, t := range p.known {
		if !t.admitted {
			continue // not of the stream
		}
		// All of them, so that their number can be told.
		for _, part := range t.partitions {
			if written[t.name] == nil {
				written[t.name] = map[int32]replication.Position{}
			}
			written[t.name][part.id] = part.acknowledged
		}
	}
	return written
}

// fail ends production for good. mu is held.
func (p *Producer) fail(err error) {
	if p.err == nil {
		p.err = err
		p.announce()
	}
}

// announce wakes the reading goroutine. mu is held.
func (p *Producer) announce() {
	p.ready.Store(true)
	p.notify()
}

// errClosed is what waiting writers get when the producer is closed.
var errClosed = errors.New("producer is closed")

// Close stops sending. What has not been acknowledged stays unknown; the
// caller has waited for what matters. The cluster must be closed after it, as
// that ends a send in progress.
func (p *Producer) Close() {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return
	}
	p.closed = true
	if p.err == nil {
		p.err = errClosed
	}
	p.mu.Unlock()
	close(p.stop)
}

// Wait returns when all goroutines of the producer have ended, after Close.
func (p *Producer) Wait() { p.running.Wait() }

// Write sends one record to a partition that no event goes to, and returns when
// it is acknowledged. It may be called from any goroutine.
func (p *Producer) Write(ctx context.Context, topicName string, id int32, key, value []byte) error {
	return p.write(ctx, topicName, id, &sarama.Record{Key: key, Value: value}, time.Now().UnixMilli())
}

// write is Write with headers and a timestamp, in milliseconds since the Unix
// epoch.
func (p *Producer) write(ctx context.Context, topicName string, id int32, r *sarama.Record, at int64) error {
	done := make(chan error, 1)
	b := newBatch()
	b.addRecord(at, r)
	b.done = done

	p.mu.Lock()
	// A failure of the data does not end this: what was acknowledged before it
	// still has to be stored.
	if p.closed {
		p.mu.Unlock()
		return errClosed
	}
	part := p.outside(topicName, id)
	b.partition = part
	part.enqueue(b)
	p.schedule(part)
	p.mu.Unlock()

	select {
	case err := <-done:
		return err
	case <-p.stop:
		return errClosed
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
