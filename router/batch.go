package router

import (
	"fmt"
	"time"
	"unsafe"

	"github.com/IBM/sarama"

	"github.com/outboxstream/streamer/decoder"
	"github.com/outboxstream/streamer/replication"
)

// Batch is a run of records for one partition, in stream order. The reading
// goroutine fills it. Once sealed, it belongs to the Producer until it is
// recycled.
type Batch struct {
	partition *partition
	ticket    uint64
	opened    time.Time
	earliest  int64 // lower bound of the time of an event's record, in milliseconds

	first, last replication.Position
	baseTime    int64 // milliseconds, of the first record
	maxTime     int64
	oldest      int64 // commit time of the first record, microseconds
	size        int   // bytes on the wire before compression, roughly
	memory      int   // bytes in memory that this batch accounts for

	traces []Trace // of sampled events, if enabled

	body  []byte  // records in Kafka's format
	ends  []int   // where each ends in body
	lends *memory // lends the memory of body; nil outside the stream

	// firstSequence is assigned when the batch is sealed and never changes.
	firstSequence int32
	sending       flight
	done          chan<- error // for batches outside the stream, see Producer.Write
}

const (
	// recordMemory is roughly what a record takes besides its payload:
	// attributes and lengths.
	recordMemory = 256
	// batchOverhead is the size of a record batch's own header.
	batchOverhead = 61
)

func newBatch() *Batch { return &Batch{} }

// reset prepares a batch for reuse. It does not keep the body.
func (b *Batch) reset() {
	b.lends.give(b.body)
	*b = Batch{ends: b.ends[:0], traces: b.traces[:0], lends: b.lends}
}

// retained returns the memory in bytes that a recycled batch keeps.
func (b *Batch) retained() int {
	return int(unsafe.Sizeof(*b)) + cap(b.ends)*int(unsafe.Sizeof(b.ends[0])) + cap(b.traces)*int(unsafe.Sizeof(Trace{}))
}

// count returns the number of records.
func (b *Batch) count() int { return len(b.ends) }

// add appends a record with the timestamp at, in milliseconds since the Unix
// epoch. A nil value is a tombstone.
func (b *Batch) add(at int64, key, value []byte, h headers) {
	if b.count() == 0 {
		b.baseTime, b.maxTime = at, at
		b.size = batchOverhead
	}
	b.maxTime = max(b.maxTime, at)
	before := len(b.body)
	b.body = b.lends.grow(b.body, recordSpace+len(key)+len(value)+len(h.buf))
	b.body = appendRecord(b.body, at-b.baseTime, int64(b.count()), key, value, h)
	b.ends = append(b.ends, len(b.body))
	b.size += len(b.body) - before
	b.memory += len(b.body) - before
}

// addEvent appends the record of an event.
func (b *Batch) addEvent(e *decoder.Event, key, value []byte, h headers) {
	if b.count() == 0 {
		b.first, b.oldest = e.Position, e.CommitTime
	}
	b.last = e.Position
	b.add(max(recordTime(e), b.earliest), key, value, h)
}

// addRecord appends a record that is not made from an event.
func (b *Batch) addRecord(at int64, r *sarama.Record) {
	list := make([]sarama.RecordHeader, len(r.Headers))
	for i, h := range r.Headers {
		list[i] = *h
	}
	b.add(at, r.Key, r.Value, encodeHeaders(list))
}

// record reads a record back. It shares the batch's memory. Everything that add
// has written can be read. Continuing without the record would lose an event.
func (b *Batch) record(i int) *sarama.Record {
	start := 0
	if i > 0 {
		start = b.ends[i-1]
	}
	r, err := parseRecord(b.body[start:b.ends[i]])
	if err != nil {
		panic(fmt.Sprintf("router: record %d of a batch of %d: %s", i, b.count(), err)) //nolint:forbidigo // see above
	}
	return r
}

// records reads all records back.
func (b *Batch) records() []*sarama.Record {
	all := make([]*sarama.Record, b.count())
	for i := range all {
		all[i] = b.record(i)
	}
	return all
}

// refill replaces the records. The new ones may be the batch's own records,
// read back.
func (b *Batch) refill(records []*sarama.Record) {
	base := b.baseTime
	b.body, b.ends, b.memory = nil, nil, 0
	for _, r := range records {
		b.addRecord(base+r.TimestampDelta.Milliseconds(), r)
	}
}

// wire fills a sarama batch with the body as it is sent over the wire.
func (b *Batch) wire(into *sarama.RecordBatch, body []byte, c codec, id int64, epoch int16, blank []*sarama.Record) {
	*into = sarama.RecordBatch{
		Version:         2,
		Codec:           c.codec,
		ProducerID:      id,
		ProducerEpoch:   epoch,
		FirstSequence:   b.firstSequence,
		LastOffsetDelta: int32(b.count() - 1),
		FirstTimestamp:  time.UnixMilli(b.baseTime),
		MaxTimestamp:    time.UnixMilli(b.maxTime),
		Records:         blank[:b.count()], // only counted
	}
	*prepared(into) = body
}

// nextSequence returns the sequence number n records later. Sequence numbers
// wrap from 2³¹−1 to 0.
func nextSequence(sequence int32, n int) int32 {
	return int32((int64(sequence) + int64(n)) & (1<<31 - 1))
}
