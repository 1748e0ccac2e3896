package router

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/IBM/sarama"

	"github.com/outboxstream/streamer/router/kafka"
)

// broker sends to one Kafka broker and handles its answers. Only its goroutine
// sends and closes. sarama's receiving goroutine only appends to answers and
// wakes it.
type broker struct {
	producer   *Producer
	connection kafka.Connection
	wake       chan struct{}

	// The goroutine's own.
	compressor compressor
	wire       []sarama.RecordBatch // of the request being sent
	blank      []*sarama.Record     // placeholders for records that are already encoded

	// Guarded by Producer.mu.
	partitions []*partition // scheduled: may have something to send, oldest first
	requests   int          // in flight
	answers    []answer
	broken     error     // the connection has failed and must be closed
	heard      time.Time // when the last answer came, or the broker was attached
	idle       bool      // nothing has been heard since the connection was idle
}

// idleFrom is how long a connection must have been unused before its end counts
// as that of an idle connection. Brokers and what is in front of them close
// those after some minutes.
const idleFrom = 30 * time.Second

// errIdle marks the end of a connection that was idle, which is no error of the
// broker: the batch is sent again at once.
var errIdle = errors.New("idle connection was closed")

// request is a set of batches that were sent together.
type request struct {
	batches []*Batch
	bytes   int
	idle    bool // sent on a connection that had been idle
}

// answer is the broker's response to a request, or the error instead of one.
type answer struct {
	request  *request
	response *sarama.ProduceResponse
	err      error
}

// idleLocked reports whether nothing is on its way to the broker or waiting for
// it. mu is held.
func (b *broker) idleLocked() bool {
	return b.requests == 0 && len(b.partitions) == 0 && b.broken == nil
}

func (b *broker) signal() {
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// scheduleLocked adds a partition with something to send to its broker's list.
func (p *Producer) scheduleLocked(part *partition) {
	switch {
	case part.broker == nil:
		p.lookUpLocked(part)
	case !part.scheduled && p.sendable(part):
		part.scheduled = true
		part.broker.partitions = append(part.broker.partitions, part)
		part.broker.signal()
	}
}

// attachLocked assigns a partition to its leader's broker.
func (p *Producer) attachLocked(part *partition, c kafka.Connection) {
	b := p.brokers[c]
	if b == nil {
		b = &broker{
			producer: p, connection: c, wake: make(chan struct{}, 1), compressor: compressor{codec: p.codec}, heard: time.Now(),
		}
		p.brokers[c] = b
		p.running.Go(b.run)
	}
	part.broker = b
	p.scheduleLocked(part)
	// A batch may have been left open because no broker was there to be idle.
	p.announceLocked()
}

// run is the broker's goroutine.
func (b *broker) run() {
	for {
		select {
		case <-b.wake:
			b.work()
		case <-b.producer.stop:
			return
		}
	}
}

// work processes the answers, then sends until nothing is left to send or
// enough is in flight.
func (b *broker) work() {
	p := b.producer
	for {
		p.mu.Lock()
		answers := b.answers
		b.answers = nil
		for _, a := range answers {
			b.settleLocked(a)
		}
		broken := b.broken != nil
		var r *request
		if !broken {
			r = b.assembleLocked()
		}
		p.mu.Unlock()
		switch {
		case broken:
			b.reopen()
			return
		case r == nil:
			return
		}
		if err := p.cluster.Lapsed(); err != nil {
			p.mu.Lock()
			p.failLocked(err)
			p.mu.Unlock()
			return
		}
		b.send(r)
	}
}

// assembleLocked takes at most one batch of each scheduled partition, as Kafka
// requires.
func (b *broker) assembleLocked() *request {
	if b.requests >= kafka.MaxRequests || b.producer.closed {
		return nil
	}
	r := &request{}
	rest := b.partitions[:0:0]
	for i, part := range b.partitions {
		if !b.producer.sendable(part) {
			part.scheduled = false
			continue
		}
		if size := part.queue[0].size; len(r.batches) > 0 && r.bytes+size > maxRequestBytes {
			rest = append(rest, b.partitions[i:]...)
			break
		}
		batch := part.take()
		r.batches = append(r.batches, batch)
		r.bytes += batch.size
		if b.producer.sendable(part) {
			rest = append(rest, part)
		} else {
			part.scheduled = false
		}
	}
	b.partitions = rest
	if len(r.batches) == 0 {
		return nil
	}
	b.idle = b.idle || b.requests == 0 && time.Since(b.heard) >= idleFrom
	r.idle = b.idle
	b.requests++
	return r
}

// send compresses and writes the request.
func (b *broker) send(r *request) {
	p := b.producer
	message := &sarama.ProduceRequest{
		RequiredAcks: sarama.WaitForAll,
		Timeout:      int32(p.config.RequestTimeout.Milliseconds()),
		// Version 8 reports which record of a batch was invalid. Versions 9 and
		// later encode everything twice.
		Version: 8,
	}
	if err := b.fill(message, r); err != nil {
		p.mu.Lock()
		p.failLocked(err) // sending it again would not help
		p.mu.Unlock()
		return
	}
	// sarama has copied everything when this returns.
	err := b.connection.AsyncProduce(message, func(response *sarama.ProduceResponse, err error) {
		b.receive(answer{r, response, err})
	})
	if err != nil {
		b.receive(answer{request: r, err: err}) // no callback will come
	}
}

// fill adds the batches to the message. The memory is reused for the next
// message.
func (b *broker) fill(message *sarama.ProduceRequest, r *request) error {
	most := 0
	for _, batch := range r.batches {
		most = max(most, batch.count())
	}
	b.blank = slices.Grow(b.blank, most)[:most]
	b.wire = slices.Grow(b.wire[:0], len(r.batches))[:len(r.batches)]
	b.compressor.reset()
	for i, batch := range r.batches {
		body, err := b.compressor.compress(batch.body)
		if err != nil {
			return err
		}
		batch.wire(&b.wire[i], body, b.compressor.codec, b.producer.id, b.producer.epoch, b.blank)
		message.AddBatch(batch.partition.topic.name, batch.partition.id, &b.wire[i])
	}
	return nil
}

// receive records an answer. It also runs on sarama's receiving goroutine.
func (b *broker) receive(a answer) {
	b.producer.mu.Lock()
	defer b.producer.mu.Unlock()
	b.answers = append(b.answers, a)
	b.signal()
}

// settleLocked passes the answer to the partitions.
func (b *broker) settleLocked(a answer) {
	b.requests--
	b.heard = time.Now()
	switch {
	case a.err == nil:
		b.idle = false
	case a.request.idle && (kafka.Closed(a.err) || errors.Is(a.err, sarama.ErrNotConnected)):
		a.err = fmt.Errorf("%w: %w", errIdle, a.err)
	}
	if a.err != nil && b.broken == nil {
		b.broken = a.err
	}
	for _, batch := range a.request.batches {
		err := a.err
		var records []sarama.ProduceResponseRecordError
		batch.sending.offset = -1
		if err == nil {
			batch.sending.offset, records, err = verdict(a.response, batch.partition)
		}
		b.producer.answeredLocked(batch, err, records)
	}
	if b.requests == 0 && b.broken == nil && len(b.producer.finished) == 0 {
		b.producer.announceLocked() // an open batch may be sent now
	}
}

// verdict returns what the response says about one partition: the offset at
// which the batch was written, if it was.
func verdict(response *sarama.ProduceResponse, part *partition) (offset int64, records []sarama.ProduceResponseRecordError, err error) {
	block := response.GetBlock(part.topic.name, part.id)
	switch {
	case block == nil:
		return -1, nil, sarama.ErrIncompleteResponse
	case block.Err == sarama.ErrNoError:
		return block.Offset, nil, nil
	}
	return -1, block.RecordErrors, block.Err
}

// reopen closes a failed connection, which brings in the outstanding answers.
// Then it makes the connection's partitions look up their leaders. The
// connection to the same broker is opened again when metadata names that
// broker.
func (b *broker) reopen() {
	p := b.producer
	_ = b.connection.Close() // the failure itself has been recorded
	p.mu.Lock()
	defer p.mu.Unlock()
	answers := b.answers
	b.answers = nil
	for _, a := range answers {
		b.settleLocked(a)
	}
	if b.requests > 0 {
		// An answer is still on its way from sarama's receiver. It will wake
		// this goroutine.
		return
	}
	cause := b.broken
	b.broken, b.idle = nil, false
	for _, t := range p.allLocked() {
		for _, part := range t.partitions {
			if part.broker == b {
				part.lastErr = cause
				p.releaseLocked(part) // those with a failed batch have had their pause
			}
		}
	}
	b.partitions = nil
}

// detachLocked makes a partition look up its leader, after a pause.
func (p *Producer) detachLocked(part *partition) {
	part.retry.next(&p.config)
	p.releaseLocked(part)
}

// releaseLocked makes a partition look up its leader.
func (p *Producer) releaseLocked(part *partition) {
	if b := part.broker; b != nil && part.scheduled {
		// If it stayed in the list, it could be in there twice. Two batches of
		// one partition in one request overwrite each other.
		b.partitions = slices.DeleteFunc(b.partitions, func(other *partition) bool { return other == part })
	}
	part.broker, part.scheduled = nil, false
	p.lookUpLocked(part)
}

// loggedLocked records where a batch was written.
func (p *Producer) loggedLocked(part *partition, b *Batch) {
	if !part.topic.admitted {
		return
	}
	w := run{base: b.sending.offset, end: b.sending.offset + int64(b.count()), last: b.last}
	again := part.suspect != nil // it may have been written before the batches after it
	if before := part.log.end; part.log.add(w) > 0 && !again {
		p.log.Error("end of a partition has moved back: the broker has lost acknowledged events, or the topic was deleted and created again",
			"topic", part.topic.name, "partition", part.id, "ended_at", before, "goes_on_at", w.base)
	}
}

// finishLocked records that every record of a batch is acknowledged.
func (p *Producer) finishLocked(b *Batch) {
	part := b.partition
	p.loggedLocked(part, b)
	if b == part.suspect {
		part.suspect = nil
	}
	if whole := b.sending.parent; whole != nil {
		if whole.sending.parts--; whole.sending.parts > 0 {
			return
		}
		b = whole
	}
	part.lastAck = earlier(time.Now(), time.UnixMilli(b.maxTime))
	if b.done != nil {
		b.done <- nil
		return
	}
	if b.last.Compare(part.acknowledged) > 0 { // an earlier batch may be acknowledged after a later one
		part.acknowledged = b.last
	}
	p.finished = append(p.finished, b)
	p.announceLocked()
}
