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

// Tracker learns what is in flight; checkpoint.Tracker is the one that counts.
type Tracker interface {
	// Open registers a batch that begins with the next event.
	Open() (ticket uint64)
	// Add counts an event put into an open batch.
	Add()
	// Finish records that all events of the batch are acknowledged.
	Finish(ticket uint64)
}

// Cluster is what a Producer needs of Kafka; an Owner is one. All methods may
// block, and are called by one goroutine that may wait.
type Cluster interface {
	// Refresh fetches the metadata of a topic.
	Refresh(topic string) error
	// Partitions is the topic's partition count as of the last refresh.
	Partitions(topic string) (int, error)
	// Leader is the connection to the leader as of the last refresh.
	Leader(topic string, partition int32) (kafka.Connection, error)
	// Create makes a missing topic, if the configuration allows it.
	Create(topic string) error
	// ID is the producer id to write with, and its epoch.
	ID() (id int64, epoch int16)
	// Admit gets a topic's partitions ready for their first event.
	Admit(topic string, partitions int) (kafka.Admission, error)
	// Renew keeps predecessors out, when that is due, and tells when it is due
	// again.
	Renew() (time.Duration, error)
	// Remembers is how long brokers remember a producer after the time of the
	// newest record that it has written to a partition.
	Remembers() time.Duration
	// Lapsed is why nothing may be written any more, or nil. It never blocks.
	Lapsed() error
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
	// Found is what has been read back from Kafka: of its topics the marks are in a
	// stored checkpoint.
	Found Found
	// Passage knows which events were published before; nil: none.
	Passage *Passage
	Log     *slog.Logger
}

const (
	// maxInFlightBatches per partition: the broker remembers the last five
	// batches of a producer, and can tell a repeated one only among those.
	maxInFlightBatches = 5
	// maxRequestBytes of batches in one request, unless a single one is larger.
	maxRequestBytes = 4 << 20
	// worthwhile is how much makes a request that is worth its own cost, and that
	// of a batch for each of many partitions.
	worthwhile = 1 << 20
	// youth is how old the record of an event may be at most, see
	// Producer.earliest.
	youth = 10 * time.Minute
)

// Producer sends batches. Append, Flush, Collect, Seal and the counters belong
// to one goroutine, the one that reads the stream; everything else may be
// called from any.
type Producer struct {
	config  ProducerConfig
	cluster Cluster
	router  *Router
	encoder *encoder
	codec   codec
	tracker Tracker
	notify  func() // tells the reading goroutine that Collect has something
	log     *slog.Logger
	observe Observer

	id    int64
	epoch int16
	// remembered is how long after its newest record a partition surely remembers
	// this producer.
	remembered time.Duration
	youth      time.Duration

	// The reading goroutine's own.
	topics   map[string]*topic
	open     []*partition // those with an open batch
	chosen   []*partition // scratch of Flush
	inFlight int          // bytes
	opened   int          // bytes of those in open batches
	events   int          // appended and not yet collected
	memory   memory       // that open batches grow in
	free     []*Batch
	freeSize int        // bytes retained by free
	buried   *partition // where a dead letter is on its way to

	ready atomic.Bool // Collect has something

	mu       sync.Mutex
	finished []*Batch // acknowledged, waiting for Collect
	err      error    // why production has ended
	brokers  map[kafka.Connection]*broker
	lookups  map[*partition]struct{} // partitions without a leader
	unknown  map[*topic]struct{}     // topics without a partition count
	known    []*topic
	dormant  map[string]FoundTopic // read back, and no event has come for them yet
	missing  map[string]Marks      // of topics that did not exist when others were read back
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
func NewProducer(config ProducerConfig, c Cluster, r *Router, t Tracker, o Observer, notify func()) *Producer {
	id, epoch := c.ID()
	remembers := c.Remembers()
	p := &Producer{
		remembered: remembers / 2, youth: min(youth, remembers/4),
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

// Err is why production has ended for good, or nil. Any goroutine may ask.
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

// earliest is the earliest time of an event's record in a batch that is opened
// now, in milliseconds since the Unix epoch. Younger events keep the time of their
// commit. Brokers forget a producer by the times of its records, not of their
// arrival (docs/adr/0010): with older ones they would not recognise a batch that is
// sent again, and let fenced predecessors in.
func (p *Producer) earliest(now time.Time) int64 { return now.Add(-p.youth).UnixMilli() }

// Write sends one record to a partition that no event goes to, and returns when
// it is acknowledged. When ctx ends before, the record is not sent any more; if it
// was sent already, it may be written, but not behind one that is written later.
// Write may be called from any goroutine.
func (p *Producer) Write(ctx context.Context, topicName string, id int32, key, value []byte) error {
	return p.write(ctx, topicName, id, &sarama.Record{Key: key, Value: value}, time.Now().UnixMilli())
}

// write is Write with headers and a timestamp, in milliseconds since the Unix
// epoch; one that is too early is replaced.
func (p *Producer) write(ctx context.Context, topicName string, id int32, r *sarama.Record, at int64) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	done := make(chan error, 1)
	b := newBatch()
	b.addRecord(max(at, p.earliest(time.Now())), r)
	b.done = done

	p.mu.Lock()
	// A failure of the data does not end this: what was acknowledged before it
	// still has to be stored.
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
