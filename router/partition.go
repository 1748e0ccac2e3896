package router

import (
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/IBM/sarama"
	"github.com/cenkalti/backoff/v5"

	"github.com/outboxstream/streamer/replication"
	"github.com/outboxstream/streamer/router/kafka"
)

// topic is a topic to which events are routed.
type topic struct {
	name        string
	partitioner *kafka.Partitioner

	// partitions is written by the metadata goroutine before ready is set, and
	// by the reading goroutine when the topic has grown. Both hold mu.
	partitions  []*partition
	ready       atomic.Bool
	grown       atomic.Int32               // the new partition count, or 0
	hopeless    atomic.Pointer[topicFault] // why rows for it are poison
	deadLetters bool                       // never changes
	row         string                     // names the first row for it; never changes

	// Guarded by Producer.mu.
	id          string               // Kafka's, empty where there is none
	admitted    bool                 // partitions have their marks
	larger      FoundTopic           // the topic after it has grown
	mixed       replication.Position // see FoundTopic.Mixed
	retry       retry
	lastErr     error
	missing     time.Time // since when the topic is unknown or forbidden
	createTried bool
	createErr   error // why it could not be created, and never will be
}

// topicFault is why rows for a topic can never be published.
type topicFault struct {
	class  PoisonClass
	reason error
}

// partitionOf returns the partition of a key.
func (t *topic) partitionOf(key []byte) *partition {
	return t.partitions[t.partitioner.Of(key, len(t.partitions))]
}

// partition is where order is kept. Its batches move from open through queue
// and sent to the broker's acknowledgement. They never overtake each other.
type partition struct {
	topic *topic
	id    int32

	// The reading goroutine's own.
	open *Batch
	last replication.Position // position of the last appended event

	// Guarded by Producer.mu.
	queue        []*Batch  // sealed, waiting to be sent
	sent         []*Batch  // sent, oldest first; acknowledged ones leave from the front
	sequence     int32     // of the next record to be sealed
	broker       *broker   // the leader's, or nil while the leader is being looked up
	scheduled    bool      // in the broker's list
	failing      bool      // a sent batch has failed: nothing is sent until all are answered
	suspect      *Batch    // the last batch that has failed and may have been written; see window
	stopped      error     // why nothing is sent any more, or nil
	lastAck      time.Time // or the newest record's own time, if earlier: brokers use that
	acknowledged replication.Position
	log          partitionLog
	retry        retry
	lastErr      error
	missing      time.Time // since when the broker says unknown or forbidden
}

// flight is what is known about a batch on its way.
type flight struct {
	answered  bool
	uncertain bool  // an attempt may have been written
	offset    int64 // of the first record, from the last answer; -1 if the broker does not say
	err       error // of the last answer; nil after success
	parent    *Batch
	parts     int // halves of this batch not yet acknowledged
}

// retry spaces attempts with jitter, without a limit.
type retry struct {
	backoff *backoff.ExponentialBackOff
	at      time.Time // not before
}

// next sets the time of the next attempt. The first one is immediate: brokers
// close idle connections, and then a new connection is enough.
func (r *retry) next(c *ProducerConfig) {
	if r.backoff == nil {
		r.backoff = backoff.NewExponentialBackOff()
		r.backoff.InitialInterval, r.backoff.MaxInterval = c.RetryInitial, c.RetryMax
		r.backoff.Reset()
		r.at = time.Now()
		return
	}
	r.at = time.Now().Add(r.backoff.NextBackOff())
}

// postpone moves the next attempt to a time, unless it is later already.
func (r *retry) postpone(to time.Time) {
	if r.at.Before(to) {
		r.at = to
	}
}

func (r *retry) reset() { r.backoff, r.at = nil, time.Time{} }

// enqueue assigns a batch its permanent sequence numbers and queues it.
func (part *partition) enqueue(b *Batch) {
	b.firstSequence = part.sequence
	part.sequence = nextSequence(part.sequence, b.count())
	part.queue = append(part.queue, b)
}

// withdraw takes a batch out of the queue and gives its sequence numbers to the
// batches after it. If an attempt to send one of them may have been written,
// their numbers are used up. withdraw then does neither and reports false.
func (part *partition) withdraw(b *Batch) bool {
	i := slices.Index(part.queue, b)
	if i < 0 || slices.ContainsFunc(part.queue[i:], func(b *Batch) bool { return b.sending.uncertain }) {
		return false
	}
	part.queue = slices.Delete(part.queue, i, i+1)
	part.sequence = b.firstSequence
	for _, behind := range part.queue[i:] {
		behind.firstSequence = part.sequence
		part.sequence = nextSequence(part.sequence, behind.count())
	}
	return true
}

// window returns how many batches may be on their way at once. Without a recent
// acknowledgement the broker may not know this producer and would not reject a
// gap, so a single batch goes first. Batches that are sent again also go one at
// a time: new batches alongside them would make the broker forget that it has
// them.
func (part *partition) window(remembered time.Duration) int {
	if part.suspect != nil || part.lastAck.IsZero() || time.Since(part.lastAck) > remembered {
		return 1
	}
	return maxInFlightBatches
}

// sendable reports whether the broker may take a batch now.
func (p *Producer) sendable(part *partition) bool {
	return !part.failing && part.stopped == nil && len(part.queue) > 0 && len(part.sent) < part.window(p.remembered)
}

// take moves the next batch from queue to sent.
func (part *partition) take() *Batch {
	b := part.queue[0]
	part.queue = part.queue[1:]
	if len(part.queue) == 0 {
		part.queue = nil
	}
	part.sent = append(part.sent, b)
	b.sending.answered, b.sending.err = false, nil
	return b
}

// settled reports whether every sent batch has been answered.
func (part *partition) settled() bool {
	for _, b := range part.sent {
		if !b.sending.answered {
			return false
		}
	}
	return true
}

// split cuts a batch that is too large into halves. Every record keeps its
// sequence number, so the batches after it do not change.
func (b *Batch) split() [2]*Batch {
	middle := b.count() / 2
	whole := b
	if b.sending.parent != nil {
		whole = b.sending.parent
		whole.sending.parts++
	} else {
		b.sending.parts = 2
	}
	var halves [2]*Batch
	all := b.records()
	for i, records := range [][]*sarama.Record{all[:middle], all[middle:]} {
		halves[i] = &Batch{
			partition: b.partition, first: b.first, last: b.last, baseTime: b.baseTime, oldest: b.oldest,
			firstSequence: nextSequence(b.firstSequence, i*middle), sending: flight{parent: whole, uncertain: b.sending.uncertain},
		}
		halves[i].refill(records)
	}
	return halves
}

func (part *partition) String() string {
	return fmt.Sprintf("topic %q partition %d", part.topic.name, part.id)
}
