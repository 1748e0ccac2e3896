package router

import (
	"encoding/base64"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
	"weak"

	"github.com/IBM/sarama"
	"github.com/cloudevents/sdk-go/protocol/kafka_sarama/v2"
	"github.com/cloudevents/sdk-go/v2/binding"
	cloudevents "github.com/cloudevents/sdk-go/v2/event"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/decoder"
	"github.com/outboxstream/streamer/replication"
	"github.com/outboxstream/streamer/router/wire"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// full returns an event with everything that an outbox row can have.
func full() *decoder.Event {
	e := numbered(1, "order", "order-42")
	e.Position = replication.Position{Commit: 0x15306c8, Ordinal: 3}
	for a, value := range map[decoder.Attribute]string{
		decoder.ID: "5a0c6c0e-3a3c-4bbd-9d6e-0a1b2c3d4e5f", decoder.Subject: "orders/42 – größer",
		decoder.DataSchema: "https://schemas.example/order/1", decoder.DataContentType: "application/json",
		decoder.TraceParent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", decoder.TraceState: "rojo=00f067aa0ba902b7",
		decoder.CorrelationID: "correlation 1", decoder.CausationID: "causation 1",
	} {
		e.SetAttribute(a, []byte(value))
	}
	e.Extensions = []decoder.Extension{
		{Name: "attempt", Value: []byte("-17"), Kind: decoder.Integer},
		{Name: "gift", Value: []byte("true"), Kind: decoder.Boolean},
		{Name: "nothing"},
		{Name: "tenantid", Value: []byte(`ten"ant\1`)},
	}
	e.Data = []byte(`{"id": 42, "amount": 12345678901234567890, "note": "<a&b>"}`)
	return e
}

func fullRules(mode Mode) Rules {
	rules := someRules()
	rules.Tables[0].Mode = mode
	rules.Tables[0].Extensions = []string{"attempt", "gift", "nothing", "tenantid"}
	return rules
}

func encodeOne(t testing.TB, rules Rules, e *decoder.Event) *sarama.Record {
	t.Helper()
	b := newBatch()
	encodeInto(t, encoderFor(t, rules), b, e)
	require.Equal(t, 1, b.count())
	return b.record(0)
}

func encodeError(t testing.TB, rules Rules, e *decoder.Event) error {
	t.Helper()
	b := newBatch()
	err := tryEncode(encoderFor(t, rules), b, e)
	if err != nil {
		require.Zero(t, b.count())
		require.Zero(t, b.memory)
	}
	return err
}

func headersOf(r *sarama.Record) map[string]string {
	headers := map[string]string{}
	for _, h := range r.Headers {
		headers[string(h.Key)] = string(h.Value)
	}
	return headers
}

func header(r *sarama.Record, name string) string { return headersOf(r)[name] }

// consumed returns the record as a consumer gets it.
func consumed(r *sarama.Record) *sarama.ConsumerMessage {
	return &sarama.ConsumerMessage{Headers: r.Headers, Key: r.Key, Value: r.Value, Topic: "t"}
}

// readBySDK reads a record with the CloudEvents SDK.
func readBySDK(t testing.TB, r *sarama.Record) *cloudevents.Event {
	t.Helper()
	got, err := binding.ToEvent(t.Context(), kafka_sarama.NewMessageFromConsumerMessage(consumed(r)))
	require.NoError(t, err)
	for _, name := range []string{"kafkaoffset", "kafkapartition", "kafkatopic"} {
		got.SetExtension(name, nil) // the SDK adds them
	}
	require.NoError(t, got.Validate())
	return got
}

// builtBySDK returns the event as the SDK's setters make it. In binary mode
// every extension arrives as a string.
func builtBySDK(t testing.TB, rules Rules, e *decoder.Event, value []byte) *cloudevents.Event {
	t.Helper()
	routes, err := NewRouter(rules)
	require.NoError(t, err)
	d, err := routes.Route(e)
	require.NoError(t, err)
	want := cloudevents.New()
	want.SetID(string(e.Attribute(decoder.ID)))
	want.SetSource(string(d.source))
	want.SetType(string(d.typ))
	want.SetTime(time.UnixMicro(e.Time))
	if s := subject(e); s != nil {
		want.SetSubject(string(s))
	}
	if s := e.Attribute(decoder.DataSchema); s != nil {
		want.SetDataSchema(string(s))
	}
	want.SetExtension("sequence", fmt.Sprintf("%016x-%08x", uint64(e.Position.Commit), e.Position.Ordinal))
	want.SetExtension("partitionkey", string(d.Key))
	for a, name := range map[decoder.Attribute]string{
		decoder.TraceParent: "traceparent", decoder.TraceState: "tracestate",
		decoder.CorrelationID: "correlationid", decoder.CausationID: "causationid",
	} {
		if s := e.Attribute(a); s != nil {
			want.SetExtension(name, string(s))
		}
	}
	for _, x := range e.Extensions {
		switch {
		case x.Value == nil:
		case d.Mode == Binary || x.Kind == decoder.String:
			want.SetExtension(x.Name, string(x.Value))
		case x.Kind == decoder.Boolean:
			want.SetExtension(x.Name, string(x.Value) == "true")
		default:
			var n int32
			require.NoError(t, json.Unmarshal(x.Value, &n))
			want.SetExtension(x.Name, n)
		}
	}
	if value != nil {
		want.SetDataContentType(contentTypeOf(e))
		want.DataEncoded = value // SetData would encode bytes as base64
	}
	require.NoError(t, want.Validate())
	return &want
}

func contentTypeOf(e *decoder.Event) string {
	if own := e.Attribute(decoder.DataContentType); own != nil {
		return string(own)
	}
	return map[decoder.DataKind]string{
		decoder.JSON: "application/json", decoder.Bytes: "application/octet-stream", decoder.Text: "text/plain; charset=utf-8",
		decoder.XML: "application/xml",
	}[e.DataKind]
}

func requireSameEvent(t testing.TB, want, got *cloudevents.Event) {
	t.Helper()
	require.Equal(t, want.SpecVersion(), got.SpecVersion())
	// The SDK's setters trim blanks, its JSON reader does not.
	require.Equal(t, want.ID(), strings.TrimSpace(got.ID()))
	require.Equal(t, want.Source(), got.Source())
	require.Equal(t, want.Type(), strings.TrimSpace(got.Type()))
	require.Equal(t, want.Subject(), strings.TrimSpace(got.Subject()))
	require.Equal(t, want.DataSchema(), got.DataSchema())
	require.Equal(t, want.DataContentType(), got.DataContentType())
	require.True(t, want.Time().Equal(got.Time()), "%s and %s", want.Time(), got.Time())
	require.Equal(t, want.Extensions(), got.Extensions())
	require.Equal(t, string(want.Data()), string(got.Data()))
}

// payloads returns rows that differ only in their payload.
func payloads() map[string]*decoder.Event {
	events := map[string]*decoder.Event{"full": full()}
	add := func(name string, kind decoder.DataKind, contentType string, data []byte) {
		e := numbered(3, "order", "order-42")
		e.DataKind, e.Data = kind, data
		if contentType != "" {
			e.SetAttribute(decoder.DataContentType, []byte(contentType))
		}
		events[name] = e
	}
	add("json", decoder.JSON, "", []byte("[1, {\"a\" : \"\\u0000 <>&\u2028\"}]"))
	add("json scalar", decoder.JSON, "", []byte("null"))
	add("text", decoder.Text, "", []byte("quote \" back \\ tab \t newline \r\n bell \a high ÿ 𝄞 del \x7f"))
	add("empty text", decoder.Text, "", []byte{})
	add("text that is JSON", decoder.Text, "application/json", []byte(` {"a": 1} `))
	add("xml", decoder.XML, "", []byte("<a b=\"c\">\n</a>"))
	add("text that is XML", decoder.Text, "application/xml", []byte("<a/>"))
	add("bytea", decoder.Bytes, "", []byte{0, 1, 0xfe, 0xff, '"'})
	add("empty bytea", decoder.Bytes, "", []byte{})
	add("bytea that is JSON", decoder.Bytes, "application/json", []byte(`{"a": "ü"}`))
	add("json as text", decoder.JSON, "text/plain", []byte(`{"a": 1}`))
	return events
}

func TestEncodeAsTheSDK(t *testing.T) {
	t.Parallel()
	for name, e := range payloads() {
		for _, mode := range []Mode{Binary, Structured} {
			t.Run(fmt.Sprintf("%s %s", name, mode), func(t *testing.T) {
				t.Parallel()
				rules := fullRules(mode)
				if name != "full" {
					rules.Tables[0].Extensions = nil
				}
				r := encodeOne(t, rules, e)
				want, got := builtBySDK(t, rules, e, e.Data), readBySDK(t, r)
				if mode == Structured && json.Valid(e.Data) {
					require.JSONEq(t, string(want.DataEncoded), string(got.DataEncoded))
					want.DataEncoded = got.DataEncoded // the SDK's reader compacts
				}
				requireSameEvent(t, want, got)
			})
		}
	}
}

// TestChecklist has one test for each point of the wire checklist.
func TestChecklist(t *testing.T) {
	t.Parallel()
	binary, structured := fullRules(Binary), fullRules(Structured)
	t.Run("1 key is the aggregate id's bytes", func(t *testing.T) {
		t.Parallel()
		for _, rules := range []Rules{binary, structured} {
			assert.Equal(t, "order-42", string(encodeOne(t, rules, full()).Key))
		}
	})
	t.Run("2 binary headers in a fixed order, unique, lower case, no nulls", func(t *testing.T) {
		t.Parallel()
		var names []string
		seen := map[string]bool{}
		for _, h := range encodeOne(t, binary, full()).Headers {
			names = append(names, string(h.Key))
			assert.False(t, seen[string(h.Key)], "%s twice", h.Key)
			seen[string(h.Key)] = true
			assert.NotEmpty(t, h.Value, "%s", h.Key)
			assert.Equal(t, strings.ToLower(string(h.Key)), string(h.Key))
			assert.True(t, utf8.Valid(h.Value))
		}
		assert.Equal(t, []string{
			"ce_specversion", "ce_id", "ce_source", "ce_type", "ce_time", "ce_subject", "ce_dataschema", "ce_sequence", "ce_partitionkey",
			"ce_traceparent", "ce_tracestate", "ce_correlationid", "ce_causationid", "ce_attempt", "ce_gift", "ce_tenantid",
			"content-type", "traceparent", "tracestate", wire.StreamHeader,
		}, names)
	})
	t.Run("2 a bare row has the least headers", func(t *testing.T) {
		t.Parallel()
		var names []string
		for _, h := range encodeOne(t, someRules(), numbered(1, "order", "k")).Headers {
			names = append(names, string(h.Key))
		}
		assert.Equal(t, []string{
			"ce_specversion", "ce_id", "ce_source", "ce_type", "ce_time", "ce_subject",
			"ce_sequence", "ce_partitionkey", "content-type", wire.StreamHeader,
		}, names)
	})
	t.Run("3 no ce_ header in structured mode", func(t *testing.T) {
		t.Parallel()
		var names []string
		for _, h := range encodeOne(t, structured, full()).Headers {
			names = append(names, string(h.Key))
		}
		assert.Equal(t, []string{"content-type", "traceparent", "tracestate", wire.StreamHeader}, names)
	})
	t.Run("4 time always, UTC, at most six digits", func(t *testing.T) {
		t.Parallel()
		form := regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z$`)
		for _, micro := range []int64{0, 1, -1, 999_999, 1_700_000_000_123_456, -62_135_596_800_000_000, 253_402_300_799_999_999} {
			e := full()
			e.Time = micro
			text := header(encodeOne(t, binary, e), "ce_time")
			assert.Regexp(t, form, text)
			at, err := time.Parse(time.RFC3339Nano, text)
			require.NoError(t, err)
			assert.Equal(t, micro, at.UnixMicro())
			assert.Equal(t, text, envelope(t, encodeOne(t, structured, e))["time"])
		}
	})
	t.Run("5 no JSON null and no empty member", func(t *testing.T) {
		t.Parallel()
		for _, e := range []*decoder.Event{full(), numbered(1, "order", "k")} {
			rules := structured.clone()
			if e.Extensions == nil {
				rules.Tables[0].Extensions = nil
			}
			for name, value := range envelope(t, encodeOne(t, rules, e)) {
				assert.NotNil(t, value, name)
				assert.NotEmpty(t, value, name)
			}
		}
	})
	t.Run("6 data by the type of its column", func(t *testing.T) {
		t.Parallel()
		e := numbered(1, "order", "k")
		e.Data = []byte(`{"a": 12345678901234567890}`)
		assert.Contains(t, string(encodeOne(t, withMode(Structured), e).Value),
			`"datacontenttype":"application/json","data":{"a": 12345678901234567890}}`)
		e.SetAttribute(decoder.DataContentType, []byte("application/vnd.shop+JSON; v=1"))
		assert.Contains(t, string(encodeOne(t, withMode(Structured), e).Value), `"data":{"a": 12345678901234567890}}`)
		e.DataKind, e.Data = decoder.Bytes, []byte{0xff, 0}
		e.SetAttribute(decoder.DataContentType, nil)
		members := envelope(t, encodeOne(t, withMode(Structured), e))
		assert.Equal(t, base64.StdEncoding.EncodeToString(e.Data), members["data_base64"])
		assert.Equal(t, "application/octet-stream", members["datacontenttype"])
		assert.NotContains(t, members, "data")
	})
	t.Run("7 payload bytes are untouched in binary mode", func(t *testing.T) {
		t.Parallel()
		for name, e := range payloads() {
			rules := binary.clone()
			if e.Extensions == nil {
				rules.Tables[0].Extensions = nil
			}
			assert.Equal(t, string(e.Data), string(encodeOne(t, rules, e).Value), name)
		}
	})
	t.Run("8 NULL payload by rule", testNullPayload)
	t.Run("9 integers and booleans are typed", func(t *testing.T) {
		t.Parallel()
		value := string(encodeOne(t, structured, full()).Value)
		assert.Contains(t, value, `"attempt":-17,"gift":true,"tenantid":"ten\"ant\\1"`)
		assert.Equal(t, "-17", header(encodeOne(t, binary, full()), "ce_attempt"))
		assert.Equal(t, "true", header(encodeOne(t, binary, full()), "ce_gift"))
	})
	// The decoder is responsible for (10), strings without control characters.
	t.Run("11 source and dataschema of a row by the letter of RFC 3986", testURIs)
	// The configuration is responsible for (12), the names of extensions.
	t.Run("13 sequence has a fixed width and increases", func(t *testing.T) {
		t.Parallel()
		last := ""
		for _, p := range []replication.Position{
			{},
			{Ordinal: 1},
			{Ordinal: 9},
			{Ordinal: 10},
			{Ordinal: 1<<32 - 1},
			{Commit: 1},
			{Commit: 9, Ordinal: 5},
			{Commit: 10, Ordinal: 2},
			{Commit: 1 << 40, Ordinal: 1},
			{Commit: 1<<64 - 1, Ordinal: 1<<32 - 1},
		} {
			e := full()
			e.Position = p
			text := header(encodeOne(t, binary, e), "ce_sequence")
			assert.Len(t, text, len("0000000000000000-00000000"))
			assert.Greater(t, text, last)
			assert.Equal(t, text, envelope(t, encodeOne(t, structured, e))["sequence"])
			back, err := wire.ParseSequence(text)
			require.NoError(t, err)
			assert.Equal(t, p, back)
			last = text
		}
	})
	t.Run("14 two encodings of a row are the same bytes", func(t *testing.T) {
		t.Parallel()
		for _, rules := range []Rules{binary, structured} {
			b, enc := newBatch(), encoderFor(t, rules)
			for range 50 { // the same encoder, another encoder, and a used batch
				encodeInto(t, enc, b, full())
			}
			want := dump(b.record(0), b.baseTime)
			assert.Equal(t, want, dump(b.record(49), b.baseTime))
			b.reset()
			encodeInto(t, enc, b, full())
			assert.Equal(t, want, dump(b.record(0), b.baseTime))
			assert.Equal(t, want, dump(encodeOne(t, rules, full()), recordTime(full())))
		}
	})
	inBubble(t, "15 a record above the limit is poison", func(t *testing.T) {
		m := newOrders(1, 1)
		rules := someRules()
		rules.MaxRecordBytes = 64 << 10
		e := numbered(1, "order", "k")
		e.Data = make([]byte, 64<<10+1)
		_, err := newRigWith(t, m, someConfig(), rules).append(e)
		require.ErrorContains(t, err, "kafka.max_record_bytes")
	})
}

func withMode(mode Mode) Rules {
	rules := someRules()
	rules.Tables[0].Mode = mode
	return rules
}

// envelope is a structured record's value.
func envelope(t testing.TB, r *sarama.Record) map[string]any {
	t.Helper()
	require.True(t, json.Valid(r.Value), "%s", r.Value)
	require.True(t, utf8.Valid(r.Value), "%q", r.Value)
	members := map[string]any{}
	require.NoError(t, json.Unmarshal(r.Value, &members))
	return members
}

func testNullPayload(t *testing.T) {
	t.Parallel()
	null := func(kind decoder.DataKind) *decoder.Event {
		e := numbered(1, "order", "k")
		e.Data, e.HasData, e.DataKind = nil, false, kind
		return e
	}
	rules := func(mode Mode, n NullPayload) Rules {
		r := withMode(mode)
		r.Tables[0].NullPayload = n
		return r
	}
	for _, test := range []struct {
		rule NullPayload
		kind decoder.DataKind
		want string
	}{
		{NullJSON, decoder.JSON, "null"},
		{NullJSON, decoder.Text, ""},
		{NullJSON, decoder.Bytes, ""},
		{NullObject, decoder.JSON, "{}"},
		{NullObject, decoder.Text, "{}"},
		{NullJSON, decoder.XML, ""},
	} {
		value := encodeOne(t, rules(Binary, test.rule), null(test.kind)).Value
		assert.NotNil(t, value, "a tombstone by accident")
		assert.Equal(t, test.want, string(value))
	}
	assert.Nil(t, encodeOne(t, rules(Binary, NullTombstone), null(decoder.JSON)).Value)
	assert.Nil(t, encodeOne(t, rules(Structured, NullTombstone), null(decoder.JSON)).Value)
	for _, mode := range []Mode{Binary, Structured} {
		require.ErrorIs(t, encodeError(t, rules(mode, NullReject), null(decoder.JSON)), errNullPayload)
	}
	members := envelope(t, encodeOne(t, rules(Structured, NullJSON), null(decoder.JSON)))
	assert.NotContains(t, members, "data")
	assert.NotContains(t, members, "datacontenttype")
	assert.Equal(t, map[string]any{}, envelope(t, encodeOne(t, rules(Structured, NullObject), null(decoder.JSON)))["data"])

	// An empty payload that is not NULL is never a tombstone.
	for _, data := range [][]byte{nil, {}} {
		for _, kind := range []decoder.DataKind{decoder.Text, decoder.Bytes} {
			for _, rule := range []NullPayload{NullJSON, NullObject, NullTombstone, NullReject} {
				e := numbered(1, "order", "k")
				e.Data, e.DataKind = data, kind
				value := encodeOne(t, rules(Binary, rule), e).Value
				assert.NotNil(t, value, "kind %d, %s", kind, rule)
				assert.Empty(t, value)
				assert.NotNil(t, encodeOne(t, rules(Structured, rule), e).Value)
			}
		}
		e := numbered(1, "order", "k")
		e.Data = data
		require.ErrorIs(t, encodeError(t, rules(Binary, NullTombstone), e), errEmptyJSON)
	}
}

func testURIs(t *testing.T) {
	t.Parallel()
	for source, valid := range map[string]bool{
		"/shop": true, "urn:shop:1": true, "https://user@shop.example:8080/a;b/c?d=e#f": true, "shop": true, "%41": true,
		"a b": false, "urn:x:%zz": false, "urn:x:%4": false, "/größe": false, `a\b`: false,
		"a|b": false, "<a>": false, "1a:b": false, "a#b#c": false, "[": false,
	} {
		e := full()
		e.SetAttribute(decoder.Source, []byte(source))
		for _, mode := range []Mode{Binary, Structured} {
			rules := fullRules(mode)
			rules.Tables[0].Columns = withColumn(decoder.Source, "source")
			if err := encodeError(t, rules, e); valid {
				assert.NoError(t, err, source)
			} else {
				assert.ErrorContains(t, err, "source", source)
			}
		}
	}
	for schema, valid := range map[string]bool{
		"https://schemas.example/order/1": true, "urn:schema:1": true,
		"/relative": false, "schema": false, "https:": false, "urn:a b": false, "urn:%zz": false, "//host/path": false,
	} {
		e := full()
		e.SetAttribute(decoder.DataSchema, []byte(schema))
		rules := fullRules(Binary)
		rules.Tables[0].Columns = withColumn(decoder.DataSchema, "schema")
		if err := encodeError(t, rules, e); valid {
			assert.NoError(t, err, schema)
		} else {
			assert.ErrorContains(t, err, "dataschema", schema)
		}
	}
}

// TestInterop has one test for each rule found by running other SDKs.
func TestInterop(t *testing.T) {
	t.Parallel()
	binary, structured := fullRules(Binary), fullRules(Structured)
	t.Run("I1 structured records have no ce_ header", func(t *testing.T) {
		t.Parallel()
		for _, h := range encodeOne(t, structured, full()).Headers {
			assert.False(t, strings.HasPrefix(strings.ToLower(string(h.Key)), "ce_"), "%s", h.Key)
		}
	})
	t.Run("I2 time is there without a column for it", func(t *testing.T) {
		t.Parallel()
		e := numbered(1, "order", "k")
		assert.NotEmpty(t, header(encodeOne(t, withMode(Binary), e), "ce_time"))
		assert.NotEmpty(t, envelope(t, encodeOne(t, withMode(Structured), e))["time"])
	})
	t.Run("I3 no null attributes", func(t *testing.T) {
		t.Parallel()
		e := full()
		e.SetAttribute(decoder.Subject, nil)
		e.SetAttribute(decoder.DataSchema, nil)
		for i := range e.Extensions {
			e.Extensions[i].Value = nil
		}
		for _, value := range envelope(t, encodeOne(t, structured, e)) {
			assert.NotNil(t, value)
		}
		for _, h := range encodeOne(t, binary, e).Headers {
			assert.NotEmpty(t, h.Value, "%s", h.Key)
		}
	})
	t.Run("I4 header names are ce_ and lower-case letters and digits", func(t *testing.T) {
		t.Parallel()
		form := regexp.MustCompile(`^(ce_[a-z0-9]+|content-type|traceparent|tracestate|` + wire.StreamHeader + `)$`)
		for _, h := range encodeOne(t, binary, full()).Headers {
			assert.Regexp(t, form, string(h.Key))
		}
	})
	t.Run("I5 no header twice", func(t *testing.T) {
		t.Parallel()
		for _, rules := range []Rules{binary, structured} {
			r := encodeOne(t, rules, full())
			assert.Len(t, headersOf(r), len(r.Headers))
		}
	})
	t.Run("I6 JSON is never empty", func(t *testing.T) {
		t.Parallel()
		e := full()
		e.Data = []byte{}
		for _, rules := range []Rules{binary, structured} {
			require.ErrorIs(t, encodeError(t, rules, e), errEmptyJSON)
		}
		e.HasData, e.Data = false, nil
		assert.Equal(t, "null", string(encodeOne(t, binary, e).Value))
	})
	t.Run("I7 a null value only when asked for", testNullPayload)
	t.Run("I8 content-type is always there in binary mode", func(t *testing.T) {
		t.Parallel()
		for name, e := range payloads() {
			e.Extensions = nil
			assert.Equal(t, contentTypeOf(e), header(encodeOne(t, withMode(Binary), e), "content-type"), name)
			e.HasData, e.Data = false, nil
			assert.NotEmpty(t, header(encodeOne(t, withMode(Binary), e), "content-type"), name)
		}
	})
	t.Run("I9 application/json exactly", func(t *testing.T) {
		t.Parallel()
		e := numbered(1, "order", "k")
		assert.Equal(t, "application/json", header(encodeOne(t, withMode(Binary), e), "content-type"))
		assert.Equal(t, "application/json", envelope(t, encodeOne(t, withMode(Structured), e))["datacontenttype"])
	})
	t.Run("I10 microseconds survive", func(t *testing.T) {
		t.Parallel()
		e := full()
		e.Time = 1_700_000_000_000_001
		assert.Equal(t, "2023-11-14T22:13:20.000001Z", header(encodeOne(t, binary, e), "ce_time"))
	})
	t.Run("I11 key and partitionkey are the same", func(t *testing.T) {
		t.Parallel()
		e := full()
		r := encodeOne(t, binary, e)
		assert.Equal(t, string(r.Key), header(r, "ce_partitionkey"))
		s := encodeOne(t, structured, e)
		assert.Equal(t, string(s.Key), envelope(t, s)["partitionkey"])
		e.SetAttribute(decoder.PartitionKey, []byte("own key"))
		r = encodeOne(t, binary, e)
		assert.Equal(t, "own key", string(r.Key))
		assert.Equal(t, "own key", header(r, "ce_partitionkey"))
	})
	t.Run("I12 numbers in data are passed through", func(t *testing.T) {
		t.Parallel()
		assert.Contains(t, string(encodeOne(t, structured, full()).Value), "12345678901234567890")
	})
	t.Run("I13 the data's media type is in the structured envelope", func(t *testing.T) {
		t.Parallel()
		r := encodeOne(t, structured, full())
		assert.Equal(t, "application/cloudevents+json; charset=UTF-8", header(r, "content-type"))
		assert.Equal(t, "application/json", envelope(t, r)["datacontenttype"])
	})
}

// A payload that is itself a CloudEvent would turn a binary record into a
// structured one for every consumer.
func TestEncodeWrappedCloudEvent(t *testing.T) {
	t.Parallel()
	for _, contentType := range []string{"application/cloudevents+json", "Application/CloudEvents-batch+json; charset=utf-8"} {
		e := full()
		e.SetAttribute(decoder.DataContentType, []byte(contentType))
		require.ErrorIs(t, encodeError(t, fullRules(Binary), e), errNestedEvent)
		assert.Equal(t, contentType, envelope(t, encodeOne(t, fullRules(Structured), e))["datacontenttype"])
	}
}

// A JSON document in a bytea column need not be UTF-8, but an envelope must be.
func TestEncodeBytesThatAreNearlyJSON(t *testing.T) {
	t.Parallel()
	for _, data := range []string{`"` + "\xff" + `"`, `{"a": 1`, "\xef\xbb\xbf{}", `{} {}`} {
		e := numbered(1, "order", "k")
		e.DataKind, e.Data = decoder.Bytes, []byte(data)
		e.SetAttribute(decoder.DataContentType, []byte("application/json"))
		require.ErrorIs(t, encodeError(t, withMode(Structured), e), errBadJSON, "%q", data)
		assert.Equal(t, data, string(encodeOne(t, withMode(Binary), e).Value))
	}
}

func TestEncodeMediaTypes(t *testing.T) {
	t.Parallel()
	for contentType, valid := range map[string]bool{
		"text/plain": true, "application/json; charset=utf-8": true, "a/b": true, "application/vnd.a.b+json": true,
		"json": false, "application/": false, "/json": false, "a/b c": false, "a b/c": false,
		"text/plain; charset": false, ";": false, "größe/x": false,
	} {
		e := numbered(1, "order", "k")
		e.SetAttribute(decoder.DataContentType, []byte(contentType))
		if err := encodeError(t, withMode(Binary), e); valid {
			assert.NoError(t, err, contentType)
		} else {
			assert.ErrorIs(t, err, errContentType, contentType)
		}
	}
}

// More media types than the encoder remembers are still handled correctly.
func TestEncodeManyMediaTypes(t *testing.T) {
	t.Parallel()
	enc, b := encoderFor(t, withMode(Binary)), newBatch()
	scratch := make([]byte, 0, 64)
	for i := range 2500 {
		scratch = fmt.Appendf(scratch[:0], "application/x-%d", i) // a view that changes
		e := numbered(1, "order", "k")
		e.SetAttribute(decoder.DataContentType, scratch)
		encodeInto(t, enc, b, e)
	}
	for i, r := range b.records() {
		require.Equal(t, fmt.Sprintf("application/x-%d", i), header(r, "content-type"))
	}
	assert.LessOrEqual(t, len(enc.types), 1000)
	assert.LessOrEqual(t, len(enc.media), 1000)
}

// The event's slices are views. The encoder must not keep any of them.
func TestEncodeCopies(t *testing.T) {
	t.Parallel()
	for _, mode := range []Mode{Binary, Structured} {
		rules := fullRules(mode)
		rules.Tables[0].Columns = withColumn(decoder.Topic, "topic")
		rules.Tables[0].Columns[decoder.Source], rules.Tables[0].Columns[decoder.PartitionKey] = "source", "key"
		e := full()
		want := dump(encodeOne(t, rules, e), recordTime(e))
		r := encodeOne(t, rules, e)
		for _, a := range decoder.Attributes() {
			for i := range e.Attribute(a) {
				e.Attribute(a)[i] = 'X'
			}
		}
		for _, x := range e.Extensions {
			copy(x.Value, "XXXXXXXXXXXXX")
		}
		for i := range e.Data {
			e.Data[i] = 'X'
		}
		assert.Equal(t, want, dump(r, recordTime(e)))
	}
}

// identify finds the event in both modes. An error names the event's position
// even where it cannot be read back.
func TestIdentify(t *testing.T) {
	t.Parallel()
	for _, mode := range []Mode{Binary, Structured} {
		id, position := identify(encodeOne(t, fullRules(mode), full()))
		assert.Equal(t, string(full().Attribute(decoder.ID)), id)
		assert.Equal(t, full().Position, position)
	}
	rules := withMode(Structured)
	rules.Tables[0].NullPayload = NullTombstone
	e := numbered(5, "order", "k")
	e.HasData = false
	b := newBatch()
	encodeInto(t, encoderFor(t, rules), b, e)
	b.partition = &partition{topic: &topic{name: orders}}
	p := &Producer{}
	require.ErrorContains(t, p.hopeless(b, 0, PoisonEvent, errNullPayload), e.Position.String())
}

// dump returns a record as text, with everything that is sent over the wire.
func dump(r *sarama.Record, base int64) string {
	var b strings.Builder
	fmt.Fprintf(&b, "timestamp %d\nkey %q\n", base+r.TimestampDelta.Milliseconds(), r.Key)
	for _, h := range r.Headers {
		fmt.Fprintf(&b, "%s: %q\n", h.Key, h.Value)
	}
	if r.Value == nil {
		return b.String() + "null value\n"
	}
	fmt.Fprintf(&b, "value %q\n", r.Value)
	return b.String()
}

// The records of these rows must never change: a row that is read again after
// an update of the streamer must give the same record.
func TestGolden(t *testing.T) {
	t.Parallel()
	for name, e := range payloads() {
		for _, mode := range []Mode{Binary, Structured} {
			rules := fullRules(mode)
			if e.Extensions == nil {
				rules.Tables[0].Extensions = nil
			}
			got := dump(encodeOne(t, rules, e), recordTime(e))
			path := filepath.Join("testdata", "golden", strings.ReplaceAll(name, " ", "_")+"."+string(mode)+".txt")
			if *update {
				require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
				require.NoError(t, os.WriteFile(path, []byte(got), 0o600))
			}
			want, err := os.ReadFile(path)
			require.NoError(t, err, "run with -update")
			assert.Equal(t, string(want), got, path)
		}
	}
}

// A recycled batch keeps nothing of its content, above all not a payload larger
// than its chunks.
func TestRecycledBatchLetsGo(t *testing.T) {
	t.Parallel()
	for _, mode := range []Mode{Binary, Structured} {
		enc, b := encoderFor(t, withMode(mode)), newBatch()
		b.lends = &memory{limit: 64 << 20}
		for range 10 {
			encodeInto(t, enc, b, numbered(1, "order", "k"))
		}
		e := numbered(1, "order", "k")
		e.Data = []byte(`"` + strings.Repeat("x", 4<<20) + `"`)
		encodeInto(t, enc, b, e)
		value := weak.Make(&b.record(10).Value[0])
		b.reset()
		assert.Nil(t, b.body)
		assert.Less(t, b.lends.kept, 4<<20)
		runtime.GC()
		runtime.GC()
		assert.Nil(t, value.Value(), "%s: the payload is still reachable", mode)
		runtime.KeepAlive(b)
		runtime.KeepAlive(enc)
	}
}

func TestEncodeAllocatesNothing(t *testing.T) {
	for _, mode := range []Mode{Binary, Structured} {
		enc, b, e := encoderFor(t, fullRules(mode)), newBatch(), full()
		b.lends = &memory{limit: 1 << 20}
		encode := func() {
			for range 100 {
				if err := tryEncode(enc, b, e); err != nil {
					t.Fatal(err)
				}
			}
			b.reset()
		}
		encode()
		assert.Zero(t, testing.AllocsPerRun(20, encode), "%s", mode)
	}
}
