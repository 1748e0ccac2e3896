package decoder

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"unicode/utf8"
)

// The members of a CloudEvent in JSON that are no attribute of an Event (JSON
// Event Format for CloudEvents 1.0.2, section 3).
const (
	memberVersion = "specversion"
	memberData    = "data"
	memberBase64  = "data_base64"
)

// memberAttributes are the members that become attributes. They are the columns
// of MessageColumns, by their last part.
var memberAttributes = map[string]Attribute{
	"id": ID, "source": Source, "type": Type, "time": Time, "subject": AggregateID, "aggregatetype": AggregateType,
	"dataschema": DataSchema, "datacontenttype": DataContentType, "partitionkey": PartitionKey,
	"traceparent": TraceParent, "tracestate": TraceState, "correlationid": CorrelationID, "causationid": CausationID,
}

// ownMembers are extensions that only the streamer sets.
var ownMembers = []string{"sequence", "replay", "snapshot"}

// MessageColumns is the mapping of messages: which member of the content holds
// what.
func MessageColumns() map[Attribute]string {
	columns := map[Attribute]string{Payload: Content + "#/" + memberData}
	for member, a := range memberAttributes {
		columns[a] = Content + "#/" + member
	}
	return columns
}

var (
	errNoEvent = errors.New("content is not a CloudEvent in JSON format: correct the application that writes messages with this prefix, " +
		"or choose a prefix that no one else uses")
	errVersion   = errors.New("value is not 1.0, the version of CloudEvents that is known" + remedy)
	errNoText    = errors.New("value is not a string" + remedy)
	errNoInteger = errors.New("value is a number that is not a whole number of 32 bits, which CloudEvents does not allow: " +
		"write it as a string")
	errNoValue   = errors.New("value is an object or an array, which CloudEvents does not allow for an attribute" + remedy)
	errTwice     = errors.New("member is there twice" + remedy)
	errOwn       = errors.New("this extension is set by the streamer: leave it out")
	errName      = errors.New("names of attributes are lower-case letters and digits, as CloudEvents wants them" + remedy)
	errNoBase64  = errors.New("value is not base64" + remedy)
	errBothData  = errors.New("the event has data as well" + remedy)
	errNoJSON    = errors.New("value is not a string, although datacontenttype is not JSON" + remedy)
	errMissing   = errors.New("member is missing, every CloudEvent has it" + remedy)
	errNoType    = errors.New("member is missing: write the extension, or set outbox.defaults.aggregate_type")
	errNoSubject = errors.New("member is missing: write it, because it is the key of the record, or set outbox.defaults.aggregate_id")
)

// eventReader reads the CloudEvent of a message.
type eventReader struct {
	*Decoder
	seen         [attributeCount]bool
	version      bool
	data, base64 []byte // JSON text of the members; nil: there is none
}

// readEvent builds the event from a message.
func (d *Decoder) readEvent() error {
	content := d.row.values[0].bytes
	if !json.Valid(content) {
		return errNoEvent
	}
	d.event.Extensions = d.event.Extensions[:0]
	r := eventReader{Decoder: d}
	s := scan{rest: content}
	if s.peek() != '{' {
		return errNoEvent
	}
	s.skip()
	var problem error // the first one is reported at the end, when the event's ID is known
	for key, member := s.next(); key != nil; key, member = s.next() {
		if err := r.member(key, member); err != nil && problem == nil {
			problem = err
		}
	}
	d.row.extensions = d.event.Extensions // so that their memory is used again
	if problem == nil {
		problem = r.complete()
	}
	if problem == nil {
		problem = r.payload()
	}
	return problem
}

// member takes a member of the document.
func (r *eventReader) member(key, raw []byte) (err error) {
	var name []byte
	if name, r.scratch, err = unquoted(key, r.scratch); err != nil {
		return errName
	}
	switch string(name) {
	case memberVersion:
		err = r.checkVersion(raw)
	case memberData:
		err = once(&r.data, raw)
	case memberBase64:
		err = once(&r.base64, raw)
	default:
		if a, known := memberAttributes[string(name)]; known {
			err = r.attribute(a, raw)
		} else {
			err = r.extension(name, raw)
		}
	}
	if err != nil {
		const longest = 40
		return fmt.Errorf("member %q: %w", name[:min(len(name), longest)], err)
	}
	return nil
}

func (r *eventReader) checkVersion(raw []byte) error {
	if r.version {
		return errTwice
	}
	if r.version = string(raw) == `"1.0"`; !r.version {
		return errVersion
	}
	return nil
}

// once keeps the text of a member. As elsewhere, null is as if it were missing.
func once(into *[]byte, raw []byte) error {
	if *into != nil {
		return errTwice
	}
	if raw[0] != 'n' {
		*into = raw
	}
	return nil
}

// attribute takes an attribute, which is a string.
func (r *eventReader) attribute(a Attribute, raw []byte) error {
	if r.seen[a] {
		return errTwice
	}
	r.seen[a] = true
	if raw[0] == 'n' {
		return nil
	}
	text, err := r.text(raw)
	if err != nil {
		return err
	}
	if a == Time {
		r.event.Time, err = parseTime(text)
		return err
	}
	if err := checkString(text); err != nil {
		return err
	}
	if !blank(text) {
		r.event.attributes[a] = text
	}
	return nil
}

// text is what a JSON string stands for.
func (r *eventReader) text(raw []byte) (text []byte, err error) {
	if raw[0] != '"' {
		return nil, errNoText
	}
	text, r.scratch, err = unquoted(raw, r.scratch)
	return text, err
}

// extension takes an attribute that CloudEvents does not define.
func (r *eventReader) extension(name, raw []byte) error {
	e := &r.event
	switch {
	case slices.Contains(ownMembers, string(name)):
		return errOwn
	case len(name) == 0 || len(bytes.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789")) > 0:
		return errName
	case slices.ContainsFunc(e.Extensions, func(x Extension) bool { return x.Name == string(name) }):
		return errTwice
	}
	text, kind, err := r.scalar(raw)
	if err == nil {
		err = checkString(text)
	}
	if err != nil {
		return err
	}
	if blank(text) {
		text = nil
	}
	e.Extensions = slices.Grow(e.Extensions, 1)
	next := &e.Extensions[:len(e.Extensions)+1][len(e.Extensions)]
	if next.Name != string(name) { // most messages have the same ones
		next.Name = string(name)
	}
	next.Value, next.Kind = text, kind
	e.Extensions = e.Extensions[:len(e.Extensions)+1]
	return nil
}

// scalar is the value of an extension in its canonical string form.
func (r *eventReader) scalar(raw []byte) (text []byte, kind ExtensionKind, err error) {
	switch raw[0] {
	case 'n':
		return nil, String, nil
	case '"':
		text, err = r.text(raw)
		return text, String, err
	case 't', 'f':
		return raw, Boolean, nil
	case '{', '[':
		return nil, String, errNoValue
	}
	number, err := strconv.ParseInt(string(raw), 10, 64)
	if err != nil || number < math.MinInt32 || number > math.MaxInt32 {
		return nil, Integer, errNoInteger
	}
	return raw, Integer, nil
}

// complete makes sure that nothing is missing that every event needs.
func (r *eventReader) complete() error {
	if !r.version {
		return fmt.Errorf("member %q: %w", memberVersion, errMissing)
	}
	for _, needed := range []struct {
		a       Attribute
		member  string
		missing error
	}{
		{ID, "id", errMissing},
		{Source, "source", errMissing},
		{Type, "type", errMissing},
		{AggregateType, "aggregatetype", errNoType},
		{AggregateID, "subject", errNoSubject},
	} {
		switch {
		case r.event.attributes[needed.a] != nil:
		case r.seen[needed.a] && needed.missing == errMissing: //nolint:errorlint // it is never wrapped
			return fmt.Errorf("member %q: %w", needed.member, errEmpty)
		default:
			return fmt.Errorf("member %q: %w", needed.member, needed.missing)
		}
	}
	return nil
}

// payload takes the data. What it is depends on datacontenttype; without one it
// is JSON (section 3.1 of the format).
func (r *eventReader) payload() error {
	e := &r.event
	e.DataKind = JSON
	switch {
	case r.base64 != nil && r.data != nil:
		return fmt.Errorf("member %q: %w", memberBase64, errBothData)
	case r.base64 != nil:
		return r.decodeBase64()
	case r.data == nil:
		return nil
	case e.attributes[DataContentType] == nil:
		e.attributes[DataContentType] = mediaJSON
	case !isJSON(e.attributes[DataContentType]):
		e.DataKind = Text
	}
	e.Data, e.HasData = r.data, true
	if e.DataKind == Text {
		var err error
		if e.Data, err = r.text(r.data); errors.Is(err, errNoText) {
			err = errNoJSON
		}
		if err != nil {
			return fmt.Errorf("member %q: %w", memberData, err)
		}
	}
	if !utf8.Valid(e.Data) {
		return fmt.Errorf("member %q: %w", memberData, errEncoding)
	}
	return nil
}

func (r *eventReader) decodeBase64() error {
	text, err := r.text(r.base64)
	if err == nil {
		start := len(r.scratch)
		if r.scratch, err = base64.StdEncoding.AppendDecode(r.scratch, text); err != nil {
			err = errNoBase64
		}
		r.event.Data, r.event.HasData, r.event.DataKind = r.scratch[start:], true, Bytes
	}
	if err != nil {
		return fmt.Errorf("member %q: %w", memberBase64, err)
	}
	return nil
}

var mediaJSON = []byte("application/json")

// isJSON reports whether the media type says that data is JSON.
func isJSON(media []byte) bool {
	kind, _, _ := bytes.Cut(media, []byte{';'})
	kind = bytes.ToLower(bytes.TrimSpace(kind))
	return bytes.HasSuffix(kind, []byte("/json")) || bytes.HasSuffix(kind, []byte("+json"))
}
