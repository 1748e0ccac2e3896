package router

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/IBM/sarama"

	"github.com/outboxstream/streamer/router/kafka"
)

// Tracker tracks what is in flight. checkpoint.Tracker is the one that counts.
type Tracker interface {
	// Open registers a batch that begins with the next event.
	Open() (ticket uint64)
	// Add counts an event put into an open batch.
	Add()
	// Finish records that all events of the batch are acknowledged.
	Finish(ticket uint64)
}

// Cluster is what a Producer needs from Kafka. An Owner is one. All methods may
// block and are called by one goroutine that may wait.
type Cluster interface {
	// Refresh fetches the metadata of a topic.
	Refresh(topic string) error
	// Partitions returns the topic's partition count as of the last refresh.
	Partitions(topic string) (int, error)
	// Leader returns the connection to the leader as of the last refresh.
	Leader(topic string, partition int32) (kafka.Connection, error)
	// Create creates a missing topic if the configuration allows it.
	Create(topic string) error
	// ID returns the producer id to write with, and its epoch.
	ID() (id int64, epoch int16)
	// Admit prepares a topic's partitions for their first event.
	Admit(topic string, partitions int) (kafka.Admission, error)
	// Renew renews the fence that keeps predecessors out, when that is due. It
	// returns the time until it is due again.
	Renew() (time.Duration, error)
	// Remembers returns how long brokers remember a producer after the time of
	// the newest record that it has written to a partition.
	Remembers() time.Duration
	// TopicSetting reads a setting of a topic.
	TopicSetting(topic, name string) (string, error)
	// Lapsed returns why nothing may be written any more, or nil. It never
	// blocks.
	Lapsed() error
}

// ProducerConfig holds the limits and times of production.
type ProducerConfig struct {
	Compression      string // none, gzip, snappy, lz4 or zstd
	CompressionLevel int    // 0 is the codec's default
	MaxBatchBytes    int    // of one batch, before compression
	MaxInFlightBytes int    // of memory in open, waiting and sent batches
	Linger           time.Duration
	RequestTimeout   time.Duration // how long the broker may wait for its replicas
	UnknownGrace     time.Duration // how long a topic may be missing or forbidden
	StopOnGrowth     bool          // refuse to continue when a topic gets more partitions
	RetryInitial     time.Duration
	RetryMax         time.Duration
	MetadataInterval time.Duration // how often partition counts are checked
	Traces           bool          // a Publication names the traces of its events
	// Found is what has been read back from Kafka. A stored checkpoint has the
	// marks of its topics.
	Found Found
	// Passage knows which events were published before. nil means none.
	Passage *Passage
	// Foreign are the events that another program has published; nil: none.
	Foreign *Foreign
	// Held reports whether a partition already has the event that is being
	// appended, where positions do not say so. nil means never.
	Held func(topic string, partition int32) bool
	Log  *slog.Logger
}

const (
	// maxInFlightBatches is per partition. The broker remembers the last five
	// batches of a producer and recognises only those when they are repeated.
	maxInFlightBatches = 5
	// maxRequestBytes bounds the batches in one request, unless a single batch
	// is larger.
	maxRequestBytes = 4 << 20
	// worthwhile is how many bytes make a request worth its own cost, and the
	// cost of a batch for each of many partitions.
	worthwhile = 1 << 20
	// youth is the maximum age of an event's record, unless brokers forget soon.
	youth = 10 * time.Minute
)

// Producer sends batches. Append, Flush, Collect, Seal and the counters belong
// to one goroutine, the one that reads the stream. Any goroutine may call
// everything else.
type Producer struct {
	config  ProducerConfig
	cluster Cluster
	router  *Router
	encoder *encoder
	codec   codec
	tracker Tracker
	notify  func() // tells the reading goroutine that Collect has something to do
	log     *slog.Logger
	observe Observer

	id    int64
	epoch int16
	// remembered is how long after its newest record a partition certainly
	// remembers this producer.
	remembered time.Duration
	youth      time.Duration

	// The reading goroutine's own.
	topics   map[string]*topic
	open     []*partition // partitions with an open batch, the oldest batch first
	chosen   []*partition // scratch of sealOldestLocked
	inFlight int          // bytes
	opened   int          // bytes of those in open batches
	events   int          // appended and not yet collected
	memory   memory       // lends open batches their space
	free     []*Batch
	freeSize int        // bytes retained by free
	buried   *partition // to which a dead letter is on its way

	ready atomic.Bool // Collect has something to do

	mu       sync.Mutex
	finished []*Batch // acknowledged, waiting for Collect
	err      error    // why production has ended
	brokers  map[kafka.Connection]*broker
	lookups  map[*partition]struct{} // partitions without a leader
	unknown  map[*topic]struct{}     // topics without a partition count
	known    []*topic
	dormant  map[string]FoundTopic // read back, but no event has arrived for them yet
	missing  map[string]Marks      // of topics that did not exist when others were read back
	unstored map[*topic]struct{}   // admitted, waiting for Stored
	disputes []dispute             // waiting for the metadata goroutine
	closed   bool
	blocked  string // why Append was last blocked

	metadata chan struct{} // wakes the metadata goroutine
	stop     chan struct{}
	running  sync.WaitGroup
}

// Observer learns what happened, for metrics. Its methods are called once per
// batch, by the reading goroutine unless stated otherwise. They must not block.
type Observer interface {
	// Published reports a batch that the broker has acknowledged.
	Published(Publication)
	// Failed reports that a topic's partition did not accept a batch. The batch
	// is sent again if that can help. Any goroutine may call Failed.
	Failed(topic string)
}

// NewProducer starts a producer with the owner's producer id. notify is called,
// from any goroutine and without a lock held, when Collect has something to do.
// notify must not block.
func NewProducer(config ProducerConfig, c Cluster, r *Router, t Tracker, o Observer, notify func()) *Producer {
	id, epoch := c.ID()
	remembers := c.Remembers()
	p := &Producer{
		remembered: remembers / 2, youth: Youth(remembers),
		config: config, cluster: c, router: r, encoder: newEncoder(r), codec: codecOf(config), tracker: t, notify: notify,
		log: config.Log, observe: o, id: id, epoch: epoch,
		topics: map[string]*topic{}, brokers: map[kafka.Connection]*broker{},
		lookups: map[*partition]struct{}{}, unknown: map[*topic]struct{}{}, unstored: map[*topic]struct{}{},
		dormant: maps.Clone(config.Found.Topics), missing: maps.Clone(config.Found.Missing),
		metadata: make(chan struct{}, 1), stop: make(chan struct{}),
		memory: memory{limit: config.MaxInFlightBytes},
	}
	p.running.Go(p.runMetadata)
	return p
}

// Youth is the maximum age of an event's record, see Producer.earliest.
// remembers is how long brokers remember a producer in a partition after the
// time of its newest record.
func Youth(remembers time.Duration) time.Duration { return min(youth, remembers/4) }

// Err returns why production has ended for good, or nil. Any goroutine may call
// it.
func (p *Producer) Err() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

// failLocked ends production for good.
func (p *Producer) failLocked(err error) {
	if p.err == nil {
		p.err = err
		p.announceLocked()
	}
}

// announceLocked wakes the reading goroutine.
func (p *Producer) announceLocked() {
	p.ready.Store(true)
	p.notify()
}

// errClosed is the error for waiting writers when the producer is closed.
var errClosed = errors.New("producer is closed")

// Close stops sending. The fate of unacknowledged records stays unknown, so the
// caller must have waited for the records that matter. The cluster must be
// closed after the producer, because that ends a send in progress.
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

// earliest returns the earliest time of an event's record in a batch that is
// opened now, in milliseconds since the Unix epoch. Younger events keep their
// commit time. Brokers forget a producer by the times of its records, not by
// their arrival (docs/adr/0010). With older times they would not recognise a
// batch that is sent again, and would let fenced predecessors in.
func (p *Producer) earliest(now time.Time) int64 { return now.Add(-p.youth).UnixMilli() }

// Write sends one record to a partition that gets no events, and returns when
// the record is acknowledged. If ctx ends before that, the record is no longer
// sent. If it was already sent, it may be written, but not after a record that
// is written later. Write may be called from any goroutine.
func (p *Producer) Write(ctx context.Context, topicName string, id int32, key, value []byte) error {
	return p.write(ctx, topicName, id, &sarama.Record{Key: key, Value: value}, time.Now().UnixMilli())
}

// write is Write with headers and a timestamp, in milliseconds since the Unix
// epoch. A timestamp that is too early is replaced.
func (p *Producer) write(ctx context.Context, topicName string, id int32, r *sarama.Record, at int64) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	done := make(chan error, 1)
	b := newBatch()
	b.addRecord(max(at, p.earliest(time.Now())), r)
	b.done = done

	p.mu.Lock()
	// A failure of the data does not end this: what was acknowledged before the
	// failure must still be stored.
	if p.closed {
		p.mu.Unlock()
		return errClosed
	}
	part := p.outsideLocked(topicName, id)
	if err := part.stopped; err != nil {
		p.mu.Unlock()
		return err
	}
	b.partition = part
	part.enqueue(b)
	p.scheduleLocked(part)
	p.mu.Unlock()

	select {
	case err := <-done:
		return err
	case <-p.stop:
		return errClosed
	case <-ctx.Done():
		p.mu.Lock()
		defer p.mu.Unlock()
		part.withdraw(b)
		return context.Cause(ctx)
	}
}
