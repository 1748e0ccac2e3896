package verify

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"time"

	"github.com/outboxstream/streamer/router/kafka"
	"github.com/outboxstream/streamer/router/wire"
)

// The headers of a dead letter that hold the row's ID and the source that its
// event would have had.
const (
	deadLetterID     = "streamer-event-id"
	deadLetterSource = "streamer-source"
)

// event is a record as a consumer reads it. Its slices are views.
type event struct {
	stream, replay, deadLetter bool // whether the headers are present

	streamID         []byte
	replayID         []byte
	snapshot         bool
	rowID, rowSource []byte // of a dead letter

	id, typ, source, subject, time, contentType, sequence []byte

	data       []byte
	hasData    bool
	tombstone  bool // structured mode without a value: it has no ID
	structured bool
}

// late is the minimum by which the record of an event that was published late
// is later than the event.
const late = time.Minute

// committed is roughly when the event was committed, given the time of its
// record. An event that was published late has a later record (docs/adr/0010).
// Then the event's own time is used, which is that of the commit, or of the
// row.
func (e *event) committed(recorded time.Time) time.Time {
	var own time.Time
	if own.UnmarshalText(e.time) != nil || recorded.Sub(own) < late {
		return recorded
	}
	return own
}

var errNoEvent = errors.New("record carries the stream's identity, but is not a CloudEvent")

// readHeaders reads the headers, which in binary mode hold everything but the
// data. Extensions are added to others.
func (e *event) readHeaders(headers []kafka.LogHeader, others *attributeSet) {
	*e = event{}
	for _, h := range headers {
		switch name := string(h.Key); name { // no copy: the compiler takes care of that
		case "ce_id":
			e.id = h.Value
		case "ce_type":
			e.typ = h.Value
		case "ce_source":
			e.source = h.Value
		case "ce_subject":
			e.subject = h.Value
		case "ce_time":
			e.time = h.Value
		case "ce_sequence":
			e.sequence = h.Value
		case "ce_" + wire.ReplayExtension: // what the event is does not depend on these two
		case "ce_" + wire.SnapshotExtension:
			e.snapshot = true
		case "content-type":
			e.contentType = h.Value
		case wire.StreamHeader:
			e.stream, e.streamID = true, h.Value
		case wire.ReplayHeader:
			e.replay, e.replayID = true, h.Value
		case wire.DeadLetterHeader:
			e.deadLetter = true
		case deadLetterID:
			e.rowID = h.Value
		case deadLetterSource:
			e.rowSource = h.Value
		default:
			if extension, ok := strings.CutPrefix(name, "ce_"); ok {
				others.add(extension, h.Value)
			}
		}
	}
	e.structured = bytes.HasPrefix(e.contentType, []byte("application/cloudevents"))
}

// read reads the rest from the value.
func (e *event) read(value []byte, others *attributeSet) error {
	if !e.structured {
		e.data, e.hasData = value, value != nil
		if len(e.id) == 0 || len(e.sequence) == 0 && !e.replay {
			return errNoEvent
		}
		return nil
	}
	if value == nil {
		e.tombstone = true
		return nil
	}
	return e.readDocument(value, others)
}

func (e *event) readDocument(value []byte, others *attributeSet) error {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(value, &members); err != nil {
		return errNoEvent // the JSON error would quote the payload
	}
	e.contentType = nil
	for name, raw := range members {
		var into *[]byte
		switch name {
		case "id":
			into = &e.id
		case "type":
			into = &e.typ
		case "source":
			into = &e.source
		case "subject":
			into = &e.subject
		case "time":
			into = &e.time
		case "sequence":
			into = &e.sequence
		case "datacontenttype":
			into = &e.contentType
		case wire.SnapshotExtension:
			e.snapshot = true
			continue
		case "data", "data_base64", wire.ReplayExtension:
			continue
		default:
			others.add(name, plain(raw))
			continue
		}
		*into = plain(raw)
	}
	if len(e.id) == 0 || len(e.sequence) == 0 && !e.replay {
		return errNoEvent
	}
	return e.readData(members)
}

// readData reverts the encoding of a payload in structured mode.
func (e *event) readData(members map[string]json.RawMessage) error {
	if raw, ok := members["data_base64"]; ok {
		decoded, err := base64.StdEncoding.DecodeString(string(plain(raw)))
		if err != nil {
			return errNoEvent
		}
		e.data, e.hasData = decoded, true
		return nil
	}
	raw, ok := members["data"]
	if !ok {
		return nil
	}
	e.data, e.hasData = raw, true
	if !isJSON(string(e.contentType)) {
		e.data = plain(raw)
	}
	return nil
}

// plain is the text of a JSON string, and any other value as written.
func plain(raw json.RawMessage) []byte {
	var text string
	if len(raw) > 0 && raw[0] == '"' && json.Unmarshal(raw, &text) == nil {
		return []byte(text)
	}
	return raw
}
