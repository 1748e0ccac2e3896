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
	Opened        time.Time // when the first event was added
	// Traces are the traces of sampled events, at most mostTraces, if
	// ProducerConfig.Traces asks for them. They are valid during the call.
	Traces []Trace
}

// Trace is the origin of an event: trace and parent of its traceparent.
type Trace struct {
	TraceID [16]byte
	SpanID  [8]byte
}

// mostTraces bounds the traces that a batch remembers. OpenTelemetry's defaults
// allow a span the same number of links.
const mostTraces = 128

// trace records the trace of an event if the trace is sampled.
func (b *Batch) trace(traceparent []byte) {
	if len(b.traces) == mostTraces {
		return
	}
	if t, sampled := parseTraceParent(traceparent); sampled {
		b.traces = append(b.traces, t)
	}
}

// parseTraceParent reads version 00 of W3C Trace Context: version, trace,
// parent and flags in hexadecimal. Later versions begin with the same fields.
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
