package router

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
	"unsafe"

	"github.com/IBM/sarama"

	"github.com/outboxstream/streamer/decoder"
	"github.com/outboxstream/streamer/replication"
)

// StreamHeader carries the identity of the stream a record belongs to, so that
// a later start can tell our records from others in the same topic. It is no
// CloudEvents attribute.
const StreamHeader = "streamer-stream"

// sequenceLength is 16 hex digits of commit LSN, a dash and 8 of ordinal.
const sequenceLength = 16 + 1 + 8

// appendSequence appends the position in a form whose order as text is the
// order of the stream.
func appendSequence(b []byte, p replication.Position) []byte {
	const digits = "0123456789abcdef"
	for shift := 60; shift >= 0; shift -= 4 {
		b = append(b, digits[p.Commit>>shift&15])
	}
	b = append(b, '-')
	for shift := 28; shift >= 0; shift -= 4 {
		b = append(b, digits[p.Ordinal>>shift&15])
	}
	return b
}

// ParseSequence reads the position back from a sequence attribute.
func ParseSequence(text string) (replication.Position, error) {
	var p replication.Position
	if len(text) != sequenceLength || text[16] != '-' {
		return p, fmt.Errorf("sequence %q is not of the form %s", text, "0000000000000000-00000000")
	}
	commit, err1 := strconv.ParseUint(text[:16], 16, 64)
	ordinal, err2 := strconv.ParseUint(text[17:], 16, 32)
	if err := errors.Join(err1, err2); err != nil {
		return p, fmt.Errorf("sequence %q: %w", text, err)
	}
	return replication.Position{Commit: replication.LSN(commit), Ordinal: uint32(ordinal)}, nil
}

// headerKey is the name of a record header, shared by all records.
func headerKey(name string) []byte { return []byte(name) }

var (
	keySpecVersion   = headerKey("ce_specversion")
	keyID            = headerKey("ce_id")
	keySource        = headerKey("ce_source")
	keyType          = headerKey("ce_type")
	keyTime          = headerKey("ce_time")
	keySubject       = headerKey("ce_subject")
	keyDataSchema    = headerKey("ce_dataschema")
	keySequence      = headerKey("ce_sequence")
	keyPartitionKey  = headerKey("ce_partitionkey")
	keyTraceParent   = headerKey("ce_traceparent")
	keyTraceState    = headerKey("ce_tracestate")
	keyCorrelationID = headerKey("ce_correlationid")
	keyCausationID   = headerKey("ce_causationid")
	keyContentType   = headerKey("content-type")
	plainTraceParent = headerKey("traceparent")
	plainTraceState  = headerKey("tracestate")

	specVersion = &sarama.RecordHeader{Key: keySpecVersion, Value: []byte("1.0")}

	structuredType = &sarama.RecordHeader{Key: keyContentType, Value: []byte("application/cloudevents+json; charset=UTF-8")}
)

// optionalAttributes go out after the core ones, in this order.
var optionalAttributes = []struct {
	attribute decoder.Attribute
	name      string // in structured mode
	key       []byte // in binary mode
}{
	{decoder.TraceParent, "traceparent", keyTraceParent},
	{decoder.TraceState, "tracestate", keyTraceState},
	{decoder.CorrelationID, "correlationid", keyCorrelationID},
	{decoder.CausationID, "causationid", keyCausationID},
}

// maxHeaders bounds the headers of a record, without extensions.
const maxHeaders = 18

var (
	errNullPayload = errors.New("payload is NULL and outbox.null_payload is \"reject\": correct the application, or choose json_null, empty_object or tombstone")
	errEmptyJSON   = errors.New("payload is empty but declared as JSON, which no consumer can parse: correct the application or cloudevents.datacontenttype")
	errBadJSON     = errors.New("payload is declared as JSON but is not valid JSON, which would break the structured envelope: correct the application or cloudevents.datacontenttype")
	errContentType = errors.New("datacontenttype is not a media type such as application/json")
	errNestedEvent = errors.New("datacontenttype is that of a CloudEvent, for which every consumer would take a record in binary mode: choose mode structured for this route, or another datacontenttype")
)

// encoder writes events into batches. Constant headers are made once.
type encoder struct {
	router     *Router
	extensions [][]byte // header keys, in the order of Event.Extensions
	stream     *sarama.RecordHeader
	source     *sarama.RecordHeader // nil unless constant
	types      map[string]*sarama.RecordHeader
	json       []byte // scratch for structured mode
	media      map[string]mediaType
}

type mediaType struct{ valid, json, event bool }

func newEncoder(r *Router) *encoder {
	e := &encoder{router: r, types: map[string]*sarama.RecordHeader{}, media: map[string]mediaType{}}
	e.stream = &sarama.RecordHeader{Key: headerKey(StreamHeader), Value: []byte(r.rules.StreamID)}
	for _, name := range r.rules.Extensions {
		e.extensions = append(e.extensions, headerKey("ce_"+name))
	}
	if source, ok := r.source.constant(); ok && r.rules.Columns[decoder.Source] == "" {
		e.source = &sarama.RecordHeader{Key: keySource, Value: []byte(source)}
	}
	return e
}

// data applies the rules for NULL and empty payloads. present is false where
// there is no data at all.
func (enc *encoder) data(e *decoder.Event, d *Destination, media mediaType) (value []byte, present bool, err error) {
	if e.HasData {
		if len(e.Data) == 0 && media.json {
			return nil, false, errEmptyJSON
		}
		if e.Data == nil {
			return []byte{}, true, nil // empty, but no tombstone
		}
		return e.Data, true, nil
	}
	switch d.NullPayload {
	case NullObject:
		return []byte("{}"), true, nil
	case NullTombstone:
		return nil, false, nil
	case NullJSON:
		if d.Mode == Structured {
			return nil, false, nil
		}
		if media.json {
			return []byte("null"), true, nil
		}
		return []byte{}, true, nil
	default:
		return nil, false, errNullPayload
	}
}

// contentType is the event's media type and what it means for us.
func (enc *encoder) contentType(e *decoder.Event) (string, mediaType, error) {
	name := enc.router.contentType(e)
	if own := e.Attribute(decoder.DataContentType); own != nil {
		name = view(own)
	}
	media, known := enc.media[name]
	if !known {
		const remembered = 1000
		name = strings.Clone(name)
		parsed, _, err := mime.ParseMediaType(name)
		media = mediaType{
			valid: err == nil && strings.Contains(parsed, "/") && strings.TrimSpace(name) == name,
			json:  strings.HasSuffix(parsed, "/json") || strings.HasSuffix(parsed, "+json"),
			event: strings.HasPrefix(parsed, "application/cloudevents"),
		}
		if len(enc.media) < remembered {
			enc.media[name] = media
		}
	}
	if !media.valid {
		return "", media, errContentType
	}
	return name, media, nil
}

// view is the bytes as a string, without a copy. It must not outlive them.
func view(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// encode writes the event into the batch and returns the record's size in
// bytes, roughly as it goes over the wire before compression. Errors say why
// the row cannot be sent; the batch is then unchanged.
func (enc *encoder) encode(b *Batch, e *decoder.Event, d *Destination) error {
	name, media, err := enc.contentType(e)
	if err != nil {
		return err
	}
	if media.event && d.Mode == Binary {
		return errNestedEvent
	}
	value, present, err := enc.data(e, d, media)
	if err != nil {
		return err
	}
	if d.Mode == Structured {
		return enc.structured(b, e, d, name, media, value, present)
	}
	enc.binary(b, e, d, name, value)
	return nil
}

// binary writes a record in binary content mode: attributes as headers, the
// payload as it is. The order of headers is fixed.
func (enc *encoder) binary(b *Batch, e *decoder.Event, d *Destination, contentType string, value []byte) {
	w := b.begin(e, maxHeaders+len(e.Extensions))
	w.shared(specVersion)
	w.header(keyID, e.Attribute(decoder.ID))
	if enc.source != nil {
		w.shared(enc.source)
	} else {
		w.header(keySource, d.source)
	}
	w.header(keyType, d.typ)
	w.time(keyTime, e.Time)
	w.header(keySubject, subject(e))
	w.header(keyDataSchema, d.dataSchema)
	w.sequence(keySequence, e)
	key := w.bytes(d.Key)
	w.own(keyPartitionKey, key)
	for _, o := range optionalAttributes {
		w.header(o.key, e.Attribute(o.attribute))
	}
	for i := range e.Extensions {
		w.header(enc.extensions[i], e.Extensions[i].Value)
	}
	w.shared(enc.constant(contentType))
	w.header(plainTraceParent, e.Attribute(decoder.TraceParent))
	w.header(plainTraceState, e.Attribute(decoder.TraceState))
	w.shared(enc.stream)
	w.record.Key = key
	w.record.Value = w.bytes(value)
	b.end(w)
}

// constant is the shared content-type header of this name.
func (enc *encoder) constant(contentType string) *sarama.RecordHeader {
	if h := enc.types[contentType]; h != nil {
		return h
	}
	h := &sarama.RecordHeader{Key: keyContentType, Value: []byte(contentType)}
	const remembered = 1000
	if len(enc.types) < remembered {
		enc.types[string(h.Value)] = h
	}
	return h
}

func subject(e *decoder.Event) []byte {
	if own := e.Attribute(decoder.Subject); own != nil {
		return own
	}
	return e.Attribute(decoder.AggregateID)
}

// structured writes a record in structured content mode: one JSON document,
// and no ce_ header at all, because some consumers take any for binary mode.
func (enc *encoder) structured(b *Batch, e *decoder.Event, d *Destination, contentType string, media mediaType, value []byte, present bool) error {
	if present && media.json && e.DataKind != decoder.JSON && (!json.Valid(value) || !utf8.Valid(value)) {
		return errBadJSON
	}
	j := enc.json[:0]
	j = append(j, `{"specversion":"1.0"`...)
	j = appendMember(j, "id", e.Attribute(decoder.ID))
	if enc.source != nil {
		j = appendMember(j, "source", enc.source.Value)
	} else {
		j = appendMember(j, "source", d.source)
	}
	j = appendMember(j, "type", d.typ)
	j = append(j, `,"time":"`...)
	j = append(decoder.AppendTime(j, e.Time), '"')
	j = appendMember(j, "subject", subject(e))
	j = appendMember(j, "dataschema", d.dataSchema)
	j = append(j, `,"sequence":"`...)
	j = append(appendSequence(j, e.Position), '"')
	j = appendMember(j, "partitionkey", d.Key)
	for _, o := range optionalAttributes {
		j = appendMember(j, o.name, e.Attribute(o.attribute))
	}
	for _, x := range e.Extensions {
		j = appendExtension(j, x)
	}
	if present {
		j = append(j, `,"datacontenttype":`...)
		j = appendString(j, contentType)
		j = appendData(j, e, media, value)
	}
	j = append(j, '}')
	enc.json = j[:0]
	tombstone := !present && d.NullPayload == NullTombstone

	w := b.begin(e, 6)
	w.shared(structuredType)
	if tombstone { // nothing else says which event it was
		w.header(keyID, e.Attribute(decoder.ID))
		w.sequence(keySequence, e)
	}
	w.header(plainTraceParent, e.Attribute(decoder.TraceParent))
	w.header(plainTraceState, e.Attribute(decoder.TraceState))
	w.shared(enc.stream)
	w.record.Key = w.bytes(d.Key)
	if !tombstone {
		w.record.Value = w.bytes(j)
	}
	b.end(w)
	return nil
}

// appendData writes the data member: the JSON value itself for JSON content,
// base64 for a bytea column, else a string.
func appendData(j []byte, e *decoder.Event, media mediaType, value []byte) []byte {
	switch {
	case media.json:
		j = append(j, `,"data":`...)
		return append(j, value...)
	case e.DataKind == decoder.Bytes && e.HasData:
		j = append(j, `,"data_base64":"`...)
		j = base64.StdEncoding.AppendEncode(j, value)
		return append(j, '"')
	}
	j = append(j, `,"data":`...)
	return appendString(j, view(value))
}

// appendMember writes a string attribute; an absent one is left out, never
// null.
func appendMember(j []byte, name string, value []byte) []byte {
	if len(value) == 0 {
		return j
	}
	j = append(j, ',', '"')
	j = append(j, name...)
	j = append(j, '"', ':')
	return appendString(j, view(value))
}

func appendExtension(j []byte, x decoder.Extension) []byte {
	if x.Value == nil || x.Kind == decoder.String {
		return appendMember(j, x.Name, x.Value)
	}
	j = append(j, ',', '"')
	j = append(j, x.Name...)
	j = append(j, '"', ':')
	return append(j, x.Value...) // a number or true or false
}

// appendString writes a JSON string. Only what JSON requires is escaped; the
// text is valid UTF-8 by the decoder's checks.
func appendString(j []byte, text string) []byte {
	const digits = "0123456789abcdef"
	j = append(j, '"')
	for i := range len(text) {
		switch c := text[i]; {
		case c == '"' || c == '\\':
			j = append(j, '\\', c)
		case c >= ' ' || c >= utf8.RuneSelf:
			j = append(j, c)
		case c == '\n':
			j = append(j, '\\', 'n')
		case c == '\r':
			j = append(j, '\\', 'r')
		case c == '\t':
			j = append(j, '\\', 't')
		default:
			j = append(j, '\\', 'u', '0', '0', digits[c>>4], digits[c&15])
		}
	}
	return append(j, '"')
}

// writer fills one record of a batch.
type writer struct {
	batch   *Batch
	record  *sarama.Record
	headers []*sarama.RecordHeader
	values  []sarama.RecordHeader // room for the headers that are not shared
	size    int
}

// bytes copies into the batch's slab. nil stays nil.
func (w *writer) bytes(b []byte) []byte {
	if b == nil {
		return nil
	}
	w.size += len(b) + 2
	kept := w.batch.slab.take(len(b))
	copy(kept, b)
	return kept
}

func (w *writer) header(key, value []byte) {
	if len(value) > 0 {
		w.own(key, w.bytes(value))
	}
}

// own adds a header whose value already lives in the slab.
func (w *writer) own(key, value []byte) {
	h := &w.values[0]
	w.values = w.values[1:]
	h.Key, h.Value = key, value
	w.headers = append(w.headers, h)
	w.size += len(key) + 2
}

func (w *writer) shared(h *sarama.RecordHeader) {
	w.headers = append(w.headers, h)
	w.size += len(h.Key) + len(h.Value) + 4
}

func (w *writer) time(key []byte, micro int64) {
	const longest = len("2006-01-02T15:04:05.999999999Z") // package time writes nine digits before it cuts
	room := w.batch.slab.take(longest)
	text := decoder.AppendTime(room[:0], micro)
	w.batch.slab.giveBack(longest - len(text))
	w.size += len(text)
	w.own(key, text)
}

func (w *writer) sequence(key []byte, e *decoder.Event) {
	text := appendSequence(w.batch.slab.take(sequenceLength)[:0], e.Position)
	w.size += len(text)
	w.own(key, text)
}

// recordTime is the commit time in Kafka's milliseconds: a record that is sent
// again after a crash is the same, byte for byte.
func recordTime(e *decoder.Event) int64 {
	return e.CommitTime / int64(time.Millisecond/time.Microsecond)
}
