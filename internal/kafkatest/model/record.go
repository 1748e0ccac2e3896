package model

import (
	"encoding/binary"
	"encoding/json"
	"reflect"
	"time"
	"unsafe"

	"github.com/IBM/sarama"
)

// Record is a record as it was written, copied as sarama's encoding would.
type Record struct {
	Key, Value []byte // nil is null
	Headers    []Header
	Time       time.Time
	Producer   int64
	Epoch      int16
	Stamp      int  // counts the records of all partitions in the order of writing
	Marker     bool // a control record: it only takes an offset
}

// Header is a header of a record.
type Header struct {
	Key   string
	Value []byte
}

// Header is the value of a header, empty if it is missing.
func (r Record) Header(key string) string {
	for _, h := range r.Headers {
		if h.Key == key {
			return string(h.Value)
		}
	}
	return ""
}

// EventID is the ID of the CloudEvent, in either mode; empty for other records.
func (r Record) EventID() string {
	if id := r.Header("ce_id"); id != "" {
		return id
	}
	var envelope struct{ ID string }
	_ = json.Unmarshal(r.Value, &envelope) // what is not JSON has no ID
	return envelope.ID
}

// batch is a batch as it was sent.
type batch struct {
	topic     string
	partition int32
	id        int64
	epoch     int16
	first     int32
	newest    time.Time
	records   []Record
	fault     Fault
}

// readLocked copies a request and determines what will go wrong with it.
func (m *Cluster) readLocked(request *sarama.ProduceRequest) *call {
	c := &call{}
	for topic, partitions := range Contents(request) {
		for id, records := range partitions {
			b := readBatch(topic, id, records.RecordBatch)
			c.batches = append(c.batches, b)
			p := m.partition(topic, id)
			if p == nil {
				continue
			}
			f := m.Faults[Place{topic, id, p.Arrivals}]
			p.Arrivals++
			switch f.Kind {
			case CutBefore, CutAfter, Ghost, RefuseSend, Stall:
				c.cut = f
			case Slow:
				c.slow = true
			default:
				b.fault = f
			}
		}
	}
	return c
}

// Contents returns the contents of a request, which sarama does not export.
func Contents(request *sarama.ProduceRequest) map[string]map[int32]sarama.Records {
	field := reflect.ValueOf(request).Elem().FieldByName("records")
	return *(*map[string]map[int32]sarama.Records)(field.Addr().UnsafePointer())
}

// encoded is where sarama keeps the records of a batch once they are encoded.
func encoded(b *sarama.RecordBatch) []byte {
	field := reflect.ValueOf(b).Elem().FieldByName("compressedRecords")
	return *(*[]byte)(unsafe.Pointer(field.UnsafeAddr()))
}

// readBatch reads an uncompressed batch. The broker refuses a batch that is no
// run of records.
func readBatch(topic string, id int32, from *sarama.RecordBatch) *batch {
	b := &batch{
		topic:     topic,
		partition: id,
		id:        from.ProducerID,
		epoch:     from.ProducerEpoch,
		first:     from.FirstSequence,
		newest:    from.MaxTimestamp,
	}
	for rest := (reader{rest: encoded(from)}); len(rest.rest) > 0; {
		one := reader{rest: rest.bytes()}
		r, offset := one.record(from.FirstTimestamp)
		if rest.failed || one.failed || offset != int64(len(b.records)) {
			b.fault = Fault{ErrorBefore, sarama.ErrInvalidMessage}
			return b
		}
		r.Producer, r.Epoch = b.id, b.epoch
		b.records = append(b.records, r)
	}
	if len(b.records) != len(from.Records) || int(from.LastOffsetDelta) != len(from.Records)-1 {
		b.fault = Fault{ErrorBefore, sarama.ErrInvalidMessage}
	}
	return b
}

// reader reads Kafka's record format 2, see
// https://kafka.apache.org/documentation/#record. It copies what it hands out.
type reader struct {
	rest   []byte
	failed bool
}

func (r *reader) record(base time.Time) (read Record, offset int64) {
	if len(r.rest) > 0 {
		r.rest = r.rest[1:] // attributes: none
	}
	read.Time = base.Add(time.Duration(r.number()) * time.Millisecond)
	offset = r.number()
	read.Key, read.Value = r.bytes(), r.bytes()
	for range r.number() {
		if r.failed {
			break
		}
		read.Headers = append(read.Headers, Header{Key: string(r.bytes()), Value: r.bytes()})
	}
	r.failed = r.failed || len(r.rest) > 0
	return read, offset
}

func (r *reader) number() int64 {
	n, size := binary.Varint(r.rest)
	if size <= 0 {
		r.failed, r.rest = true, nil
		return 0
	}
	r.rest = r.rest[size:]
	return n
}

func (r *reader) bytes() []byte {
	n := r.number()
	switch {
	case n < 0 || r.failed:
		return nil
	case n > int64(len(r.rest)):
		r.failed, r.rest = true, nil
		return nil
	}
	b := append([]byte{}, r.rest[:n]...)
	r.rest = r.rest[n:]
	return b
}
