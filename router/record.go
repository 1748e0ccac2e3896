package router

import (
	"encoding/binary"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"time"
	"unsafe"

	"github.com/IBM/sarama"
)

// appendLength appends the length of b in Kafka's record format. The length of
// nil is -1.
func appendLength(to, b []byte) []byte {
	if b == nil {
		return binary.AppendVarint(to, -1)
	}
	return binary.AppendVarint(to, int64(len(b)))
}

// appendBytes appends the length of b and b itself.
func appendBytes(to, b []byte) []byte { return append(appendLength(to, b), b...) }

// wireHeader is a record header, or its name alone, as it is sent over the
// wire.
type wireHeader []byte

func headerKey(name string) wireHeader { return appendBytes(nil, []byte(name)) }

func constantHeader(key wireHeader, value string) wireHeader {
	return appendBytes(slices.Clone(key), []byte(value))
}

// headers collects the headers of one record.
type headers struct {
	buf   []byte
	count int
}

// add adds a header that has a value.
func (h *headers) add(key wireHeader, value []byte) {
	if len(value) > 0 {
		h.buf = appendBytes(append(h.buf, key...), value)
		h.count++
	}
}

func (h *headers) constant(whole wireHeader) {
	h.buf = append(h.buf, whole...)
	h.count++
}

// growing adds a header whose value write appends. The value has at most 63
// bytes, so its length takes one byte.
func (h *headers) growing(key wireHeader, write func([]byte) []byte) {
	h.buf = append(append(h.buf, key...), 0)
	start := len(h.buf)
	h.buf = write(h.buf)
	h.buf[start-1] = byte(len(h.buf)-start) << 1
	h.count++
}

// encodeHeaders encodes headers unchanged, with and without a value.
func encodeHeaders(list []sarama.RecordHeader) (h headers) {
	for _, one := range list {
		h.buf = appendBytes(appendBytes(h.buf, one.Key), one.Value)
		h.count++
	}
	return h
}

// recordSpace is the maximum size of a record besides key, value and headers:
// attributes and six numbers.
const recordSpace = 1 + 6*binary.MaxVarintLen64

// appendRecord appends a record in Kafka's format 2, see
// https://kafka.apache.org/documentation/#record.
func appendRecord(to []byte, timestampDelta, offsetDelta int64, key, value []byte, h headers) []byte {
	var front [1 + 3*binary.MaxVarintLen64]byte // attributes (none), deltas, length of the key
	begin := binary.AppendVarint(binary.AppendVarint(front[:1], timestampDelta), offsetDelta)
	begin = appendLength(begin, key)
	var middle, count [binary.MaxVarintLen64]byte
	valueLength := appendLength(middle[:0], value)
	headerCount := binary.AppendVarint(count[:0], int64(h.count))
	to = binary.AppendVarint(to, int64(len(begin)+len(key)+len(valueLength)+len(value)+len(headerCount)+len(h.buf)))
	to = append(append(to, begin...), key...)
	to = append(append(to, valueLength...), value...)
	return append(append(to, headerCount...), h.buf...)
}

var errBadRecord = errors.New("record of the streamer cannot be read back")

// parseRecord reads a record back. It shares the memory of data.
func parseRecord(data []byte) (*sarama.Record, error) {
	p := recordParser{rest: data}
	p.number() // length
	if len(p.rest) > 0 {
		p.rest = p.rest[1:] // attributes
	}
	r := &sarama.Record{TimestampDelta: time.Duration(p.number()) * time.Millisecond, OffsetDelta: p.number()}
	r.Key, r.Value = p.bytes(), p.bytes()
	for range p.number() {
		if p.failed {
			break
		}
		r.Headers = append(r.Headers, &sarama.RecordHeader{Key: p.bytes(), Value: p.bytes()})
	}
	if p.failed || len(p.rest) > 0 {
		return nil, errBadRecord
	}
	return r, nil
}

type recordParser struct {
	rest   []byte
	failed bool
}

func (p *recordParser) number() int64 {
	n, size := binary.Varint(p.rest)
	if size <= 0 {
		p.failed, p.rest = true, nil
		return 0
	}
	p.rest = p.rest[size:]
	return n
}

func (p *recordParser) bytes() []byte {
	n := p.number()
	switch {
	case n < 0 || p.failed:
		return nil
	case n > int64(len(p.rest)):
		p.failed, p.rest = true, nil
		return nil
	}
	b := p.rest[:n:n]
	p.rest = p.rest[n:]
	return b
}

// preparedAt is where sarama keeps the records of a batch once it has encoded
// and compressed them. sarama has no other way to take encoded records, and
// encoding them twice costs more than everything else. A version of sarama
// without the field fails here at once.
var preparedAt = func() uintptr {
	field, ok := reflect.TypeFor[sarama.RecordBatch]().FieldByName("compressedRecords")
	if !ok || field.Type != reflect.TypeFor[[]byte]() {
		panic(fmt.Sprintf("router: this version of sarama keeps encoded records elsewhere: %v", field)) //nolint:forbidigo // at init
	}
	return field.Offset
}()

// prepared returns the field at preparedAt of a batch.
func prepared(b *sarama.RecordBatch) *[]byte {
	return (*[]byte)(unsafe.Add(unsafe.Pointer(b), preparedAt))
}
