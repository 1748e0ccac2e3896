package router

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/decoder"
	"github.com/outboxstream/streamer/replication"
)

// isString reports whether the decoder would accept the text. The decoder
// checks all attributes for control characters and noncharacters.
func isString(text string) bool {
	for _, r := range text {
		if r < ' ' || r >= 0x7f && r <= 0x9f || r >= 0xfdd0 && r <= 0xfdef || r&0xfffe == 0xfffe {
			return false
		}
	}
	return utf8.ValidString(text)
}

// FuzzEncode compares what the SDK reads from the streamer's records with what
// the SDK's setters make of the same row.
func FuzzEncode(f *testing.F) {
	f.Add("1", "order-42", "order.placed", "", "", "tenant", []byte(`{"a": 1}`),
		uint8(1), int64(1_700_000_000_123_456), uint64(0x15306c8), uint32(1), uint8(0))
	f.Add("a b", "ü", "x", "s", "text/plain", `"\`, []byte("\"\\\n\x00"), uint8(0), int64(-1), uint64(1)<<63, uint32(1)<<31, uint8(3))
	f.Add("id", "k", "t", "s", "application/octet-stream", "", []byte{0xff, 0}, uint8(2), int64(0), uint64(0), uint32(0), uint8(5))
	f.Add("id", "k", "t", "s", "application/vnd.x+json", "<&>", []byte("[1,2]"), uint8(2), int64(0), uint64(0), uint32(0), uint8(7))
	f.Add("id", "k", "t", "s", "", "x", []byte{}, uint8(0), int64(0), uint64(0), uint32(0), uint8(255))
	f.Fuzz(func(
		t *testing.T, id, key, typ, subject, contentType, extension string, data []byte,
		kind uint8, micro int64, commit uint64, ordinal uint32, flags uint8,
	) {
		for _, text := range []string{id, key, typ, subject, contentType, extension} {
			if !isString(text) {
				t.Skip("the decoder rejects such an attribute")
			}
		}
		if id == "" || key == "" || typ == "" {
			t.Skip("the decoder rejects such a row")
		}
		for _, text := range []string{id, key, typ, subject} {
			if text != "" && strings.TrimSpace(text) == "" {
				t.Skip("the SDK treats blanks as empty")
			}
		}
		const years = 250_000_000_000_000_000
		e := &decoder.Event{
			Position: replication.Position{Commit: replication.LSN(commit), Ordinal: ordinal}, CommitTime: micro % years, Time: micro % years / 2,
			Data: data, HasData: flags&4 == 0, DataKind: decoder.DataKind(kind % 4),
			Extensions: []decoder.Extension{{Name: "x"}},
		}
		if e.DataKind == decoder.JSON && !json.Valid(data) || e.DataKind != decoder.Bytes && !utf8.Valid(data) {
			t.Skip("PostgreSQL has no such value")
		}
		for a, text := range map[decoder.Attribute]string{
			decoder.ID: id, decoder.AggregateID: key, decoder.AggregateType: "order", decoder.Type: typ,
			decoder.Subject: subject, decoder.DataContentType: contentType, decoder.CorrelationID: extension,
		} {
			if text != "" {
				e.SetAttribute(a, []byte(text))
			}
		}
		if extension != "" {
			e.Extensions[0].Value = []byte(extension)
		}
		rules := someRules()
		rules.Tables[0].Extensions = []string{"x"}
		for _, mode := range []Mode{Binary, Structured} {
			rules.Tables[0].Mode = mode
			compareWithSDK(t, rules, e)
		}
	})
}

func compareWithSDK(t *testing.T, rules Rules, e *decoder.Event) {
	t.Helper()
	enc, b := encoderFor(t, rules), newBatch()
	if err := tryEncode(enc, b, e); err != nil {
		require.Zero(t, b.count())
		return
	}
	r := b.record(0)
	for _, h := range r.Headers {
		require.NotEmpty(t, h.Value, "%s", h.Key)
	}
	require.Len(t, headersOf(r), len(r.Headers))
	require.Equal(t, string(e.Attribute(decoder.AggregateID)), string(r.Key))
	require.NotNil(t, r.Value)
	if rules.Tables[0].Mode == Binary && e.HasData {
		require.Equal(t, string(e.Data), string(r.Value))
	}
	b.reset()
	encodeInto(t, enc, b, e)
	require.Equal(t, dump(encodeOne(t, rules, e), recordTime(e)), dump(b.record(0), recordTime(e)), "repeated")
	r = b.record(0)
	written, _ := identify(r)
	require.Equal(t, string(e.Attribute(decoder.ID)), written, "including blanks")
	if rules.Tables[0].Mode == Structured {
		members := envelope(t, r)
		if compareEnvelope(t, members, e) {
			return
		}
	}
	value := e.Data
	if !e.HasData {
		value = r.Value
		if rules.Tables[0].Mode == Structured {
			value = nil
		}
	}
	got := readBySDK(t, r)
	want := builtBySDK(t, rules, e, value)
	if rules.Tables[0].Mode == Structured && json.Valid(value) && json.Valid(got.DataEncoded) {
		want.DataEncoded, got.DataEncoded = compacted(value), compacted(got.DataEncoded)
	}
	requireSameEvent(t, want, got)
}

// compareEnvelope checks what this version of the SDK reads wrongly: data of a
// +json media type. It reports whether that was the case.
func compareEnvelope(t *testing.T, members map[string]any, e *decoder.Event) bool {
	t.Helper()
	_, isText := members["data"].(string)
	if contentType, _ := members["datacontenttype"].(string); contentType == "application/json" || contentType == "text/json" ||
		isText || members["data"] == nil {
		return false
	}
	var want any
	require.NoError(t, json.Unmarshal(e.Data, &want))
	require.Equal(t, want, members["data"])
	return true
}

func compacted(value []byte) []byte {
	var b bytes.Buffer
	if json.Compact(&b, value) != nil {
		return value
	}
	return b.Bytes()
}
