package router

import (
	"strconv"
	"time"

	"github.com/IBM/sarama"

	"github.com/outboxstream/streamer/router/wire"
)

// Verb is what was done about a dead letter.
type Verb string

// The verbs.
const (
	// Retried letters have been published to their own topic.
	Retried Verb = "retried"
	// Dropped letters will not be published.
	Dropped Verb = "dropped"
)

// Resolution is the decision about a dead letter. It is a record in the same
// partition of the dead letter topic.
type Resolution struct {
	Verb Verb
	By   string // who decided
	At   time.Time
}

// The headers of a resolution. A resolution must not carry StreamHeader,
// because it is not part of the stream.
const (
	resolutionVerb     = "streamer-resolved"
	resolutionStream   = "streamer-resolved-stream"
	resolutionSequence = "streamer-resolved-sequence"
	resolutionOffset   = "streamer-resolved-offset"
	resolutionBy       = "streamer-resolved-by"
	resolutionAt       = "streamer-resolved-at"
)

// record returns the record of the resolution of a letter with this key.
func (r Resolution) record(l Letter, key []byte) *sarama.Record {
	header := func(name, value string) *sarama.RecordHeader {
		return &sarama.RecordHeader{Key: []byte(name), Value: []byte(value)}
	}
	return &sarama.Record{Key: key, Headers: []*sarama.RecordHeader{
		header(resolutionVerb, string(r.Verb)),
		header(resolutionStream, l.StreamID),
		header(resolutionSequence, wire.FormatSequence(l.Position)),
		header(resolutionOffset, strconv.FormatInt(l.Offset, 10)),
		header(resolutionBy, r.By),
		header(resolutionAt, r.At.UTC().Format(time.RFC3339)),
		header(wire.ReplayHeader, wire.ReplayResolution),
	}}
}

// parseResolution reads a resolution back. ok is false for every other record.
// An unknown verb of a later version resolves as well.
func parseResolution(headers []*sarama.RecordHeader) (of row, r *Resolution, ok bool) {
	r = &Resolution{}
	var err error
	for _, h := range headers {
		switch text := string(h.Value); string(h.Key) {
		case resolutionVerb:
			r.Verb = Verb(text)
		case resolutionStream:
			of.stream = text
		case resolutionSequence:
			of.at, err = wire.ParseSequence(text)
		case resolutionBy:
			r.By = text
		case resolutionAt:
			r.At, _ = time.Parse(time.RFC3339, text) // for display only
		}
		if err != nil {
			return of, nil, false
		}
	}
	return of, r, r.Verb != "" && of != row{}
}
