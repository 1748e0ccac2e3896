package verify

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Rules say what a row of the outbox table becomes, in terms of the
// configuration.
type Rules struct {
	// Columns are the columns that are read, Types the OIDs of their types.
	Columns []string
	Types   []uint32
	// Attributes maps the names under outbox.columns to columns, or
	// column#/json/pointer. Extensions does the same for the names of extensions.
	Attributes, Extensions map[string]string
	// Defaults are the constants under outbox.defaults, by the same names.
	Defaults map[string]string
	// TimeUnit is the unit of a time that is a number, in microseconds.
	TimeUnit int64
	// Constants are the placeholders database, schema and table.
	Constants map[string]string

	Topic, Key, Type, Source string // templates
	ContentType              string
	Structured               bool
	NullPayload              string // as in outbox.null_payload
	Routes                   []Route
}

// Route is an exception for some aggregate types; empty fields fall back.
type Route struct {
	AggregateType     string
	Topic, Key        string
	Mode, NullPayload string
}

// The attributes that are compared in addition to the core of an event.
var optional = []string{"traceparent", "tracestate", "correlationid", "causationid"}

// Expectation builds rows from the values of a table. It is not for concurrent
// use.
type Expectation struct {
	rules   Rules
	origins map[string]origin // of references to columns
	routes  []expectedRoute
	typ     []piece
	source  []piece
	row     Row
	// Of the current row, in canonical form:
	text       map[string][]byte // attributes by name
	extensions map[string][]byte
	json       map[string]bool // media types seen so far
	names      []string        // of compared extensions
	payload    PayloadHash
}

type expectedRoute struct {
	pattern     string
	topic, key  []piece
	structured  bool
	nullPayload string
}

// piece is a literal or the name of a placeholder.
type piece struct {
	literal, name string
}

// NewExpectation resolves the templates.
func NewExpectation(r Rules) (*Expectation, error) {
	e := &Expectation{
		rules: r, origins: map[string]origin{}, text: map[string][]byte{}, extensions: map[string][]byte{}, json: map[string]bool{},
	}
	for _, references := range []map[string]string{r.Attributes, r.Extensions} {
		for name, reference := range references {
			found, read := r.find(reference)
			if !read {
				return nil, fmt.Errorf("column %q of %s is not read", reference, name)
			}
			e.origins[reference] = found
		}
	}
	e.typ, e.source = split(r.Type), split(r.Source)
	for _, route := range append(slices.Clip(r.Routes), Route{AggregateType: "*"}) {
		ready := expectedRoute{
			pattern:     route.AggregateType,
			topic:       split(r.Topic),
			key:         split(r.Key),
			structured:  r.Structured,
			nullPayload: r.NullPayload,
		}
		if route.Topic != "" {
			ready.topic = split(route.Topic)
		}
		if route.Key != "" {
			ready.key = split(route.Key)
		}
		if route.Mode != "" {
			ready.structured = route.Mode == "structured"
		}
		if route.NullPayload != "" {
			ready.nullPayload = route.NullPayload
		}
		e.routes = append(e.routes, ready)
	}
	e.names = r.AttributeNames()
	return e, nil
}

// AttributeNames lists the extensions that can be compared.
func (r Rules) AttributeNames() []string {
	var names []string
	for _, name := range optional {
		if r.Attributes[name] != "" {
			names = append(names, name)
		}
	}
	for name := range r.Extensions {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// split parses a template. The configuration has been checked before.
func split(template string) []piece {
	var pieces []piece
	for template != "" {
		literal, rest, found := strings.Cut(template, "{")
		if literal != "" {
			pieces = append(pieces, piece{literal: literal})
		}
		if !found {
			break
		}
		name, after, _ := strings.Cut(rest, "}")
		pieces = append(pieces, piece{name: name})
		template = after
	}
	return pieces
}

// Row is what the values of a row should become. It is valid until the next
// call. For a row that cannot become an event, only the ID is known.
func (e *Expectation) Row(values [][]byte) (*Row, error) {
	if len(values) != len(e.rules.Columns) {
		return nil, fmt.Errorf("row has %d values, but %d were requested", len(values), len(e.rules.Columns))
	}
	r := &e.row
	if err := e.read(values); err != nil {
		*r = Row{ID: e.text["id"]}
		return r, nil //nolint:nilerr // the streamer says what is wrong with the row
	}
	route := e.match()
	attributes := r.Attributes[:0]
	*r = Row{ID: e.text["id"], HasAttributes: true}
	r.Topic = e.expandOwn("topic", route.topic)
	r.Key = e.expandOwn("partition_key", route.key)
	r.Type = e.expand(e.typ)
	if r.Subject = e.text["subject"]; len(r.Subject) == 0 {
		r.Subject = e.text["aggregate_id"]
	}
	r.Source = e.expectedSource()
	r.Time = e.text["time"]
	e.data(r, route, values)
	for _, name := range e.names {
		value := e.text[name]
		if _, ok := e.rules.Extensions[name]; ok {
			value = e.extensions[name]
		}
		if !blank(value) {
			attributes = append(attributes, Attribute{name, value})
		}
	}
	r.Attributes = attributes
	return r, nil
}

// read brings the mapped columns into the form that attributes have.
func (e *Expectation) read(values [][]byte) error {
	clear(e.text)
	if id, err := e.canonical(e.rules.Attributes["id"], values); err == nil {
		e.text["id"] = id // whatever is wrong with the others
	}
	for name, constant := range e.rules.Defaults {
		e.text[name] = []byte(constant)
	}
	for name, reference := range e.rules.Attributes {
		text, err := e.attribute(name, reference, values)
		if err != nil {
			return fmt.Errorf("column %q: %w", reference, err)
		}
		if !blank(text) {
			e.text[name] = text
		}
	}
	for name, reference := range e.rules.Extensions {
		text, err := e.canonical(reference, values)
		if err != nil {
			return fmt.Errorf("column %q: %w", reference, err)
		}
		e.extensions[name] = text
	}
	return nil
}

// attribute is the text of an attribute; the payload has none.
func (e *Expectation) attribute(name, reference string, values [][]byte) ([]byte, error) {
	switch name {
	case "payload":
		return nil, nil
	case "time":
		return e.attributeTime(reference, values)
	}
	return e.canonical(reference, values)
}

func (e *Expectation) match() *expectedRoute {
	last := len(e.routes) - 1
	for i := range e.routes[:last] {
		if ok, _ := path.Match(e.routes[i].pattern, string(e.text["aggregate_type"])); ok {
			return &e.routes[i]
		}
	}
	return &e.routes[last]
}

// expandOwn is the row's own value, or the expansion of the template.
func (e *Expectation) expandOwn(name string, template []piece) []byte {
	if value := e.text[name]; len(value) > 0 {
		return value
	}
	return e.expand(template)
}

func (e *Expectation) expand(template []piece) []byte {
	var text []byte
	for _, p := range template {
		text = append(text, p.literal...)
		text = append(text, e.placeholder(p.name)...)
	}
	return text
}

func (e *Expectation) placeholder(name string) []byte {
	if name == "" {
		return nil
	}
	if constant, ok := e.rules.Constants[name]; ok {
		return []byte(constant)
	}
	if _, ok := e.rules.Extensions[name]; ok {
		return e.extensions[name]
	}
	return e.text[name]
}

// expectedSource is nil, meaning unknown, where the streamer would have to
// escape.
func (e *Expectation) expectedSource() []byte {
	if own := e.text["source"]; len(own) > 0 {
		return own
	}
	for _, p := range e.source {
		for _, c := range e.placeholder(p.name) {
			if !plainURI(c) {
				return nil
			}
		}
	}
	return e.expand(e.source)
}

func plainURI(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '.' || c == '_' || c == '~'
}

// data derives payload and media type.
func (e *Expectation) data(r *Row, route *expectedRoute, values [][]byte) {
	content, typ, err := e.content(values)
	if err != nil {
		*r = Row{ID: r.ID} // the streamer says what is wrong with the row
		return
	}
	r.ContentType = e.contentType(typ)
	json := e.isJSON(r.ContentType)
	var data []byte
	present := true
	isTombstone := route.nullPayload == "tombstone" || route.nullPayload == tombstoneIfBlank
	if route.nullPayload == tombstoneIfBlank && typ != typeBytea && isTrimmed(content) {
		content = nil
	}
	switch {
	case content != nil:
		data = content
		if route.structured && json {
			data = bytes.Trim(data, " \t\r\n") // the document's white space
		}
	case route.nullPayload == "empty_object":
		data = []byte("{}")
	case isTombstone:
		present = false
		r.Unreadable = route.structured
	case route.structured:
		present = false
	case json:
		data = []byte("null")
	}
	if route.structured && !present {
		r.ContentType = nil // there is none without data
	}
	e.payload = HashPayload(data, present)
	r.Payload = &e.payload
}

// tombstoneIfBlank is the value of outbox.null_payload with which a blank text
// counts as NULL.
const tombstoneIfBlank = "tombstone_if_blank"

// isTrimmed reports whether Java's trim leaves nothing of a text.
func isTrimmed(text []byte) bool {
	for _, c := range text {
		if c > ' ' {
			return false
		}
	}
	return true
}

func (e *Expectation) isJSON(contentType []byte) bool {
	json, known := e.json[string(contentType)]
	if !known {
		const remembered = 1000
		json = isJSON(string(contentType))
		if len(e.json) < remembered {
			e.json[string(contentType)] = json
		}
	}
	return json
}

func (e *Expectation) contentType(typ uint32) []byte {
	if own := e.text["datacontenttype"]; len(own) > 0 {
		return own
	}
	if e.rules.ContentType != "" {
		return []byte(e.rules.ContentType)
	}
	switch typ {
	case typeJSON, typeJSONB:
		return []byte("application/json")
	case typeBytea:
		return []byte("application/octet-stream")
	case typeXML:
		return []byte("application/xml")
	}
	return []byte("text/plain; charset=utf-8")
}

// Object identifiers of types whose text form is not what is published.
const (
	typeBool        = 16
	typeBytea       = 17
	typeInt8        = 20
	typeText        = 25
	typeJSON        = 114
	typeXML         = 142
	typeBpchar      = 1042
	typeVarchar     = 1043
	typeTimestamp   = 1114
	typeTimestamptz = 1184
	typeJSONB       = 3802
)

// content is the payload as bytes, nil for NULL, and the type of its column.
func (e *Expectation) content(values [][]byte) ([]byte, uint32, error) {
	reference := e.rules.Attributes["payload"]
	if reference == "" {
		return nil, 0, nil
	}
	p := e.origins[reference]
	if p.pointer != nil {
		found, err := e.inside(p, values)
		return found, typeJSON, err
	}
	if values[p.column] == nil {
		return nil, e.rules.Types[p.column], nil
	}
	return e.raw(p.column, values[p.column]), e.rules.Types[p.column], nil
}

// raw is a value as bytes.
func (e *Expectation) raw(at int, value []byte) []byte {
	if e.rules.Types[at] == typeBytea {
		if decoded, err := hex.DecodeString(strings.TrimPrefix(string(value), `\x`)); err == nil {
			return decoded
		}
	}
	return value
}

// canonical is a value as the text of a CloudEvents attribute; nil is NULL.
func (e *Expectation) canonical(reference string, values [][]byte) ([]byte, error) {
	p := e.origins[reference]
	if p.pointer != nil {
		found, err := e.inside(p, values)
		if err != nil || found == nil {
			return nil, err
		}
		return scalarText(found)
	}
	value := values[p.column]
	if value == nil {
		return nil, nil
	}
	switch e.rules.Types[p.column] {
	case typeBool:
		return strconv.AppendBool(nil, string(value) == "t"), nil
	case typeBytea:
		return []byte(base64.StdEncoding.EncodeToString(e.raw(p.column, value))), nil
	case typeTimestamp, typeTimestamptz:
		written, err := parseTime(string(value))
		return []byte(written), err
	}
	return value, nil
}

var errTime = errors.New("a time that RFC 3339 cannot express")

// parseTime reads PostgreSQL's ISO style in UTC.
func parseTime(text string) (string, error) {
	at, err := time.Parse("2006-01-02 15:04:05.999999", strings.TrimSuffix(text, "+00"))
	if err != nil {
		return "", errTime
	}
	return at.Format(time.RFC3339Nano), nil
}

// attributeTime also accepts numbers and text in ISO 8601.
func (e *Expectation) attributeTime(reference string, values [][]byte) ([]byte, error) {
	text, err := e.canonical(reference, values)
	p := e.origins[reference]
	switch typ := e.rules.Types[p.column]; {
	case err != nil || text == nil:
		return nil, err
	case p.pointer == nil && (typ == typeTimestamp || typ == typeTimestamptz):
		return text, nil
	case p.pointer == nil && (typ == typeText || typ == typeVarchar || typ == typeBpchar):
		return writtenTime(string(text))
	case p.pointer != nil && e.isText(p, values):
		return writtenTime(string(text))
	}
	return e.epoch(string(text))
}

// blank reports whether CloudEvents takes a value for empty: such an attribute
// is left out.
func blank(value []byte) bool { return len(bytes.TrimSpace(value)) == 0 }
