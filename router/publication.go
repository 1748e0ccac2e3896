package router

import (
	"encoding/hex"
	"time"
)

// Publication is a batch that the broker has acknowledged.
type Publication struct {
	Topic         string
	Partition     int32
	Events, Bytes int       // bytes before compression
	OldestCommit  time.Time // of the first event
	Opened        time.Time // when the first event was put in
	// Traces are those that sampled events belong to, mostTraces at most, where
	// ProducerConfig.Traces asks for them. They are valid during the call.
	Traces []Trace
}

// Trace is where an event comes from: trace and parent of its traceparent.
type Trace struct {
	TraceID [16]byte
	SpanID  [8]byte
}

// mostTraces bounds what a batch remembers; a span has as many links at most by
// the defaults of OpenTelemetry.
const mostTraces = 128

// trace notes the trace of an event, if that is sampled.
func (b *Batch) trace(traceparent []byte) {
	if len(b.traces) == mostTraces {
		return
	}
	if t, sampled := parseTraceParent(traceparent); sampled {
		b.traces = append(b.traces, t)
	}
}

// parseTraceParent reads version 00 of W3C Trace Context, which later versions
// begin like: version, trace, parent and flags in hexadecimal.
func parseTraceParent(text []byte) (t Trace, sampled bool) {
	const length = 2 + 1 + 32 + 1 + 16 + 1 + 2
	if len(text) < length || len(text) > length && (text[length] != '-' || string(text[:2]) == "00") {
		return t, false
	}
	var version, flags [1]byte
	for _, part := range []struct {
		into []byte
		from int
		dash bool
	}{{version[:], 0, true}, {t.TraceID[:], 3, true}, {t.SpanID[:], 36, true}, {flags[:], 53, false}} {
		end := part.from + 2*len(part.into)
		if _, err := hex.Decode(part.into, text[part.from:end]); err != nil || part.dash && text[end] != '-' {
			return t, false
		}
	}
	valid := version[0] != 0xff && t.TraceID != [16]byte{} && t.SpanID != [8]byte{}
	return t, valid && flags[0]&1 == 1
}
