package router

import (
	"testing"

	"github.com/IBM/sarama"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/decoder"
)

// odd has every character that Jackson writes in a way of its own.
const odd = "q\"\\ \t\n\r\b\f\x01\x1f\x7f ü \u2028 😀 </a>"

// withHeaders is an event with headers of its own, and the rules for them.
func withHeaders(c Compatibility) (Rules, *decoder.Event) {
	rules := someRules()
	rules.Compatibility, rules.Tables[0].NullPayload = c, NullTombstone
	rules.Tables[0].Headers = []string{"id", "aText", "attempt", "blank", "nothing"}
	e := numbered(1, "order", "order-42")
	e.Headers = []decoder.Header{
		{Value: []byte("1")}, {Value: []byte(odd)}, {Value: []byte("-17"), Bare: true}, {Value: []byte{}}, {},
	}
	return rules, e
}

// ownOf are the headers that begin with the given one.
func ownOf(r *sarama.Record, first string) (own []sarama.RecordHeader) {
	for _, h := range r.Headers {
		if own != nil || string(h.Key) == first {
			own = append(own, *h)
		}
	}
	return own
}

// The values were written by Debezium 3.4.3 and 3.6.1 on Kafka Connect 4.1, and
// by Debezium Server 3.0.0.
func TestHeadersAsDebezium(t *testing.T) {
	t.Parallel()
	for flavour, want := range map[Compatibility][]sarama.RecordHeader{
		NotCompatible: {
			{Key: []byte("id"), Value: []byte("1")},
			{Key: []byte("aText"), Value: []byte(odd)},
			{Key: []byte("attempt"), Value: []byte("-17")},
		},
		DebeziumConnect: {
			{Key: []byte("id"), Value: []byte("1")},
			{Key: []byte("aText"), Value: []byte(odd)},
			{Key: []byte("attempt"), Value: []byte("-17")},
			{Key: []byte("blank"), Value: []byte{}},
			{Key: []byte("nothing")},
		},
		DebeziumServer: {
			{Key: []byte("id"), Value: []byte(`"1"`)},
			{Key: []byte("aText"), Value: []byte("\"q\\\"\\\\ \\t\\n\\r\\b\\f\\u0001\\u001F\x7f ü \u2028 \\uD83D\\uDE00 </a>\"")},
			{Key: []byte("attempt"), Value: []byte("-17")},
			{Key: []byte("blank"), Value: []byte(`""`)},
			{Key: []byte("nothing"), Value: []byte("null")},
		},
	} {
		rules, e := withHeaders(flavour)
		got := encodeOne(t, rules, e)
		assert.Equal(t, want, ownOf(got, "id"), flavour)
		bare := encodeOne(t, withoutHeaders(rules), numbered(1, "order", "order-42"))
		assert.Equal(t, bare.Headers, got.Headers[:len(got.Headers)-len(want)], "the others are the same")
		assert.Equal(t, bare.Value, got.Value)
		assert.Equal(t, "event-1", readBySDK(t, got).ID(), "a CloudEvent all the same")
	}
}

func withoutHeaders(rules Rules) Rules {
	rules = rules.clone()
	rules.Compatibility, rules.Tables[0].Headers = NotCompatible, nil
	return rules
}

// In structured mode headers of its own stand beside the document.
func TestHeadersInStructuredMode(t *testing.T) {
	t.Parallel()
	rules, e := withHeaders(NotCompatible)
	rules.Tables[0].Mode, rules.Tables[0].NullPayload = Structured, NullJSON
	got := encodeOne(t, rules, e)
	assert.Len(t, ownOf(got, "id"), 3)
	assert.Equal(t, encodeOne(t, withoutHeaders(rules), numbered(1, "order", "order-42")).Value, got.Value)
}

// What says where events go is the same with other headers.
func TestHeadersAreNotInTheFingerprint(t *testing.T) {
	t.Parallel()
	rules, _ := withHeaders(DebeziumServer)
	assert.Equal(t, withoutHeaders(rules).Fingerprint(), rules.Fingerprint())
}

// As with Debezium's route.tombstone.on.empty.payload, which trims as Java does.
func TestBlankPayloadIsATombstone(t *testing.T) {
	t.Parallel()
	for payload, isTombstone := range map[string]bool{
		"": true, " \t\r\n\x00\x1f": true, "x": false, " x ": false, "\u00a0": false, "null": false,
	} {
		rules, e := withHeaders(DebeziumConnect)
		rules.Tables[0].NullPayload = NullOrBlankTombstone
		e.DataKind, e.Data = decoder.Text, []byte(payload)
		assert.Equal(t, isTombstone, encodeOne(t, rules, e).Value == nil, "%q", payload)
		rules.Tables[0].NullPayload = NullTombstone
		assert.NotNil(t, encodeOne(t, rules, e).Value, "%q", payload)
		rules.Tables[0].NullPayload, e.DataKind = NullOrBlankTombstone, decoder.Bytes
		assert.NotNil(t, encodeOne(t, rules, e).Value, "%q", payload)
		e.HasData = false
		assert.Nil(t, encodeOne(t, rules, e).Value)
	}
}

func TestPreviewShowsHeaders(t *testing.T) {
	t.Parallel()
	rules, e := withHeaders(DebeziumConnect)
	routes, err := NewRouter(rules)
	require.NoError(t, err)
	shown, err := routes.Preview(e, func(string) (int, error) { return 1, nil })
	require.NoError(t, err)
	texts := map[string]string{}
	for _, h := range shown.Headers {
		if h.Value != nil {
			texts[h.Name] = *h.Value
		}
	}
	assert.Len(t, shown.Headers, 5)
	assert.Equal(t, map[string]string{"id": "1", "aText": odd, "attempt": "-17", "blank": ""}, texts)
}

// BenchmarkEncodeAsDebezium measures the cost of an event with two headers.
func BenchmarkEncodeAsDebezium(b *testing.B) {
	for _, flavour := range []Compatibility{DebeziumConnect, DebeziumServer} {
		b.Run(string(flavour), func(b *testing.B) {
			rules := someRules()
			rules.Compatibility, rules.Tables[0].Headers = flavour, []string{"id", "eventType"}
			enc, batch, events := encoderFor(b, rules), newBatch(), benchEvents(1000)
			for _, e := range events {
				e.Headers = []decoder.Header{{Value: e.Attribute(decoder.ID)}, {Value: e.Attribute(decoder.Type)}}
			}
			batch.lends = &memory{limit: 4 << 20}
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				if n++; n%1000 == 0 {
					batch.reset()
				}
				if err := tryEncode(enc, batch, events[n%1000]); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
