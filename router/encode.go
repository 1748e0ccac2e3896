package router

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"mime"
	"strings"
	"time"
	"unicode/utf8"
	"unsafe"

	"github.com/outboxstream/streamer/decoder"
	"github.com/outboxstream/streamer/router/wire"
)

// The names of headers that the streamer reads back.
const (
	headerID       = "ce_id"
	headerSource   = "ce_source"
	headerSequence = "ce_sequence"
)

var (
	keySpecVersion   = headerKey("ce_specversion")
	keyID            = headerKey(headerID)
	keySource        = headerKey(headerSource)
	keyType          = headerKey("ce_type")
	keyTime          = headerKey("ce_time")
	keySubject       = headerKey("ce_subject")
	keyDataSchema    = headerKey("ce_dataschema")
	keySequence      = headerKey(headerSequence)
	keyPartitionKey  = headerKey("ce_partitionkey")
	keyTraceParent   = headerKey("ce_traceparent")
	keyTraceState    = headerKey("ce_tracestate")
	keyCorrelationID = headerKey("ce_correlationid")
	keyCausationID   = headerKey("ce_causationid")
	keyContentType   = headerKey("content-type")
	plainTraceParent = headerKey("traceparent")
	plainTraceState  = headerKey("tracestate")
	keySnapshotKey   = headerKey(wire.SnapshotKeyHeader)

	// lateHeader marks what a former publisher has left out, for consumers only: it
	// is in its place in the stream of this one.
	lateHeader     = constantHeader(headerKey("ce_"+wire.ReplayExtension), wire.ReplayTakeOver)
	specVersion    = constantHeader(keySpecVersion, "1.0")
	structuredType = constantHeader(keyContentType, "application/cloudevents+json; charset=UTF-8")
)

// optionalAttributes are written after the core attributes, in this order.
var optionalAttributes = []struct {
	attribute decoder.Attribute
	name      string     // in structured mode
	key       wireHeader // in binary mode
}{
	{decoder.TraceParent, "traceparent", keyTraceParent},
	{decoder.TraceState, "tracestate", keyTraceState},
	{decoder.CorrelationID, "correlationid", keyCorrelationID},
	{decoder.CausationID, "causationid", keyCausationID},
}

var (
	errNullPayload = errors.New("payload is NULL and outbox.null_payload is \"reject\": " +
		"correct the application, or choose json_null, empty_object or tombstone")
	errEmptyJSON = errors.New("payload is empty but declared as JSON, which no consumer can parse: " +
		"correct the application or cloudevents.datacontenttype")
	errBadJSON = errors.New("payload is declared as JSON but is not valid JSON, which would break the structured envelope: " +
		"correct the application or cloudevents.datacontenttype")
	errContentType = errors.New("datacontenttype is not a media type such as application/json")
	errNestedEvent = errors.New("datacontenttype is that of a CloudEvent, for which every consumer would take a record in binary mode: " +
		"choose mode structured for this route, or another datacontenttype")
)

// encoder writes events into batches. Constant headers are encoded once.
type encoder struct {
	router *Router
	tables []tableHeaders
	stream wireHeader
	replay []wireHeader // the attribute and the header that mark a replay; none otherwise
	late   bool         // the next event comes after later ones of its key
	// snapshot is the attribute that marks a row from before the stream; nil
	// otherwise.
	snapshot wireHeader
	types    map[string]wireHeader
	// extensions are keys of extensions of messages, by name.
	extensions map[string]wireHeader
	json       []byte // scratch for structured mode
	scratch    []byte // for headers
	quoted     []byte // for the value of a header
	media      map[string]mediaType
}

// tableHeaders are what is the same for all rows of a table.
type tableHeaders struct {
	extensions []wireHeader // names, in the order of Event.Extensions
	headers    []wireHeader // names, in the order of Event.Headers
	source     wireHeader   // nil unless constant
	sourceText []byte       // likewise
}

type mediaType struct{ valid, json, event bool }

func newEncoder(r *Router) *encoder {
	e := &encoder{router: r, types: map[string]wireHeader{}, extensions: map[string]wireHeader{}, media: map[string]mediaType{}}
	e.stream = constantHeader(headerKey(wire.StreamHeader), r.rules.StreamID)
	if mark := r.rules.Replay; mark != "" {
		e.replay = []wireHeader{constantHeader(headerKey("ce_"+wire.ReplayExtension), mark), constantHeader(headerKey(wire.ReplayHeader), mark)}
	}
	if mark := r.rules.Snapshot; mark != "" {
		e.snapshot = constantHeader(headerKey("ce_"+wire.SnapshotExtension), mark)
	}
	for _, t := range r.tables {
		var same tableHeaders
		for _, name := range t.Extensions {
			same.extensions = append(same.extensions, headerKey("ce_"+name))
		}
		for _, name := range t.Headers {
			same.headers = append(same.headers, headerKey(name))
		}
		if source, ok := t.source.constant(); ok && t.Columns[decoder.Source] == "" {
			same.source, same.sourceText = constantHeader(keySource, source), []byte(source)
		}
		e.tables = append(e.tables, same)
	}
	return e
}

// data applies the rules for NULL and empty payloads. present is false if there
// is no data at all.
func (enc *encoder) data(e *decoder.Event, d *Destination, media mediaType) (value []byte, present bool, err error) {
	if e.HasData && (d.NullPayload != NullOrBlankTombstone || !isBlankText(e)) {
		if len(e.Data) == 0 && media.json {
			return nil, false, errEmptyJSON
		}
		if e.Data == nil {
			return []byte{}, true, nil // empty, but not a tombstone
		}
		return e.Data, true, nil
	}
	switch d.NullPayload {
	case NullObject:
		return []byte("{}"), true, nil
	case NullTombstone, NullOrBlankTombstone:
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

// contentType returns the event's media type and what it means for the encoder.
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

// view returns the bytes as a string without a copy. The string must not
// outlive the bytes.
func view(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// encode writes the event into the batch. An error says why the row cannot be
// sent. The batch is then unchanged.
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
// payload unchanged. The order of headers is fixed.
func (enc *encoder) binary(b *Batch, e *decoder.Event, d *Destination, contentType string, value []byte) {
	h := headers{buf: enc.scratch[:0]}
	table := &enc.tables[e.Table]
	h.constant(specVersion)
	h.add(keyID, e.Attribute(decoder.ID))
	if table.source != nil {
		h.constant(table.source)
	} else {
		h.add(keySource, d.source)
	}
	h.add(keyType, d.typ)
	h.time(e)
	h.add(keySubject, subject(e))
	h.add(keyDataSchema, d.dataSchema)
	enc.sequence(&h, e)
	h.buf = appendBytes(append(h.buf, keyPartitionKey...), d.Key) // even if it is empty
	h.count++
	for _, o := range optionalAttributes {
		h.add(o.key, e.Attribute(o.attribute))
	}
	for i := range e.Extensions {
		x := &e.Extensions[i]
		if i < len(table.extensions) {
			h.add(table.extensions[i], x.Value)
		} else { // of a message
			h.add(enc.extensionKey(x.Name), x.Value)
		}
	}
	h.constant(enc.typeHeader(contentType))
	h.add(plainTraceParent, e.Attribute(decoder.TraceParent))
	h.add(plainTraceState, e.Attribute(decoder.TraceState))
	h.constant(enc.stream)
	for _, mark := range enc.replay {
		h.constant(mark)
	}
	if enc.late {
		h.constant(lateHeader)
	}
	if enc.snapshot != nil {
		h.constant(enc.snapshot)
		h.add(keySnapshotKey, e.SnapshotKey)
	}
	enc.ownHeaders(&h, e)
	b.addEvent(e, d.Key, value, h)
	enc.scratch = h.buf
}

// extensionKey returns the key of the header of an extension that no
// configuration names.
func (enc *encoder) extensionKey(name string) wireHeader {
	if key := enc.extensions[name]; key != nil {
		return key
	}
	key := headerKey("ce_" + name)
	const remembered = 1000
	if len(enc.extensions) < remembered {
		enc.extensions[strings.Clone(name)] = key
	}
	return key
}

// typeHeader returns the content-type header with this value.
func (enc *encoder) typeHeader(contentType string) wireHeader {
	if h := enc.types[contentType]; h != nil {
		return h
	}
	h := constantHeader(keyContentType, contentType)
	const remembered = 1000
	if len(enc.types) < remembered {
		enc.types[strings.Clone(contentType)] = h
	}
	return h
}

func subject(e *decoder.Event) []byte {
	if own := e.Attribute(decoder.Subject); own != nil {
		return own
	}
	return e.Attribute(decoder.AggregateID)
}

// structured writes a record in structured content mode: one JSON document and
// no ce_ header, because some consumers take any ce_ header for binary mode.
func (enc *encoder) structured(
	b *Batch, e *decoder.Event, d *Destination, contentType string, media mediaType, value []byte, present bool,
) error {
	if present && media.json && e.DataKind != decoder.JSON && (!json.Valid(value) || !utf8.Valid(value)) {
		return errBadJSON
	}
	j := enc.json[:0]
	j = append(j, `{"specversion":"1.0"`...)
	j = appendMember(j, "id", e.Attribute(decoder.ID))
	if table := &enc.tables[e.Table]; table.source != nil {
		j = appendMember(j, "source", table.sourceText)
	} else {
		j = appendMember(j, "source", d.source)
	}
	j = appendMember(j, "type", d.typ)
	j = append(j, `,"time":"`...)
	j = append(decoder.AppendTime(j, e.Time), '"')
	j = appendMember(j, "subject", subject(e))
	j = appendMember(j, "dataschema", d.dataSchema)
	if !enc.router.rules.Unsequenced {
		j = append(j, `,"sequence":"`...)
		j = append(wire.AppendSequence(j, e.Position), '"')
	}
	j = appendMember(j, "partitionkey", d.Key)
	for _, o := range optionalAttributes {
		j = appendMember(j, o.name, e.Attribute(o.attribute))
	}
	for _, x := range e.Extensions {
		j = appendExtension(j, x)
	}
	j = appendMember(j, wire.ReplayExtension, []byte(enc.replayMark()))
	j = appendMember(j, wire.SnapshotExtension, []byte(enc.router.rules.Snapshot))
	if present {
		j = append(j, `,"datacontenttype":`...)
		j = appendString(j, contentType)
		j = appendData(j, e, media, value)
	}
	j = append(j, '}')
	enc.json = j[:0]
	tombstone := !present && (d.NullPayload == NullTombstone || d.NullPayload == NullOrBlankTombstone)

	h := headers{buf: enc.scratch[:0]}
	h.constant(structuredType)
	if tombstone { // nothing else says which event it was
		h.add(keyID, e.Attribute(decoder.ID))
		enc.sequence(&h, e)
		j = nil
	}
	h.add(plainTraceParent, e.Attribute(decoder.TraceParent))
	h.add(plainTraceState, e.Attribute(decoder.TraceState))
	h.constant(enc.stream)
	if len(enc.replay) > 0 {
		h.constant(enc.replay[1])
	}
	h.add(keySnapshotKey, e.SnapshotKey)
	enc.ownHeaders(&h, e)
	b.addEvent(e, d.Key, j, h)
	enc.scratch = h.buf
	return nil
}

// replayMark is why an event is published after later ones of its key; empty: it
// is not.
func (enc *encoder) replayMark() string {
	if enc.late {
		return wire.ReplayTakeOver
	}
	return enc.router.rules.Replay
}

// appendData writes the data member: the JSON value itself for JSON content,
// base64 for a bytea column, otherwise a string.
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

// appendMember writes a string attribute. An absent attribute is left out,
// never null.
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
	return append(j, x.Value...) // a number, true or false
}

// appendString writes a JSON string. It escapes only what JSON requires. The
// decoder has checked that the text is valid UTF-8.
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

func (h *headers) time(e *decoder.Event) {
	h.growing(keyTime, func(b []byte) []byte { return decoder.AppendTime(b, e.Time) })
}

// sequence adds the position if it is known.
func (enc *encoder) sequence(h *headers, e *decoder.Event) {
	if !enc.router.rules.Unsequenced {
		h.growing(keySequence, func(b []byte) []byte { return wire.AppendSequence(b, e.Position) })
	}
}

// recordTime returns the commit time in Kafka's milliseconds. The record of an
// event that is published late has a later time, see Producer.earliest.
func recordTime(e *decoder.Event) int64 {
	return e.CommitTime / int64(time.Millisecond/time.Microsecond)
}
