package router

import (
	"slices"
	"time"
	"unsafe"

	"github.com/IBM/sarama"

	"github.com/outboxstream/streamer/decoder"
	"github.com/outboxstream/streamer/replication"
)

// Batch is a run of records for one partition, in stream order. The reading
// goroutine fills it; from the moment it is sealed it belongs to the Producer,
// until it is recycled.
type Batch struct {
	partition *partition
	ticket    uint64
	opened    time.Time

	first, last replication.Position
	baseTime    int64 // milliseconds, of the first record
	maxTime     int64
	oldest      int64 // commit time of the first record, microseconds
	size        int   // bytes on the wire before compression, roughly
	memory      int   // bytes this batch accounts for in memory

	slab    arena[byte]
	storage arena[sarama.Record]
	values  arena[sarama.RecordHeader]
	headers arena[*sarama.RecordHeader]
	records []*sarama.Record

	// firstSequence is given when the batch is sealed and never changes.
	firstSequence int32
	sending       flight
	done          chan<- error // for batches outside the stream, see Producer.Write
}

// recordMemory is what a record costs besides its bytes; header slots come on
// top.
const (
	recordMemory = int(unsafe.Sizeof(sarama.Record{})) + 8
	headerMemory = int(unsafe.Sizeof(sarama.RecordHeader{})) + 8
	// recordOverhead bounds what Kafka's record format adds: lengths, deltas.
	recordOverhead = 21
	// batchOverhead is the size of a record batch's own header.
	batchOverhead = 61
)

func newBatch() *Batch {
	b := &Batch{}
	b.slab.min, b.slab.max = 2<<10, 64<<10
	b.storage.min, b.storage.max = 4, 128
	b.values.min, b.values.max = 64, 2048
	b.headers.min, b.headers.max = 64, 2048
	return b
}

// reset makes a batch ready to be filled again.
func (b *Batch) reset() {
	if b.slab.reset() {
		// What was dropped must not stay reachable through old records.
		b.storage.clear()
		b.values.clear()
	}
	b.storage.reset()
	b.values.reset()
	b.headers.reset()
	clear(b.records)
	*b = Batch{slab: b.slab, storage: b.storage, values: b.values, headers: b.headers, records: b.records[:0]}
}

// retained is the memory in bytes that a recycled batch keeps.
func (b *Batch) retained() int {
	return b.slab.total + b.storage.total*recordMemory + b.values.total*int(unsafe.Sizeof(sarama.RecordHeader{})) + b.headers.total*8
}

// begin starts a record with at most n headers.
func (b *Batch) begin(e *decoder.Event, n int) writer {
	at := recordTime(e)
	if len(b.records) == 0 {
		b.first, b.baseTime, b.maxTime, b.oldest = e.Position, at, at, e.CommitTime
		b.size = batchOverhead
	}
	record := &b.storage.take(1)[0]
	*record = sarama.Record{
		TimestampDelta: time.Duration(at-b.baseTime) * time.Millisecond,
		OffsetDelta:    int64(len(b.records)),
	}
	b.maxTime = max(b.maxTime, at)
	b.last = e.Position
	return writer{batch: b, record: record, headers: b.headers.take(n)[:0], values: b.values.take(n)}
}

// end adds the record.
func (b *Batch) end(w writer) {
	b.headers.giveBack(cap(w.headers) - len(w.headers))
	b.values.giveBack(len(w.values))
	w.record.Headers = slices.Clip(w.headers)
	b.records = append(b.records, w.record)
	b.size += w.size + recordOverhead
	b.memory += w.size + recordMemory + len(w.headers)*headerMemory
}

// wire is the batch as sarama sends it.
func (b *Batch) wire(c *codec, id int64, epoch int16) *sarama.RecordBatch {
	return &sarama.RecordBatch{
		Version:          2,
		Codec:            c.codec,
		CompressionLevel: c.level,
		ProducerID:       id,
		ProducerEpoch:    epoch,
		FirstSequence:    b.firstSequence,
		LastOffsetDelta:  int32(len(b.records) - 1),
		FirstTimestamp:   time.UnixMilli(b.baseTime),
		MaxTimestamp:     time.UnixMilli(b.maxTime),
		Records:          b.records,
	}
}

// codec is how batches are compressed.
type codec struct {
	codec sarama.CompressionCodec
	level int
}

// nextSequence is the sequence number n records later; they wrap from 2³¹−1
// to 0.
func nextSequence(sequence int32, n int) int32 {
	return int32((int64(sequence) + int64(n)) & (1<<31 - 1))
}
