package consume

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func headers(pairs ...string) (all []Header) {
	for n := 0; n < len(pairs); n += 2 {
		all = append(all, Header{Name: pairs[n], Value: []byte(pairs[n+1])})
	}
	return all
}

var complete = []string{"ce_specversion", "1.0", "ce_id", "7", "ce_source", "/shop", "ce_type", "placed"}

func TestEvent(t *testing.T) {
	t.Parallel()
	const structured = `{"specversion":"1.0","id":"7","source":"/shop","type":"placed","sequence":"a","data":{"n":1}}`
	for name, r := range map[string]Record{
		"binary":              {Headers: headers(append(complete, "ce_sequence", "a", "content-type", "application/json")...), Value: []byte(`{"n":1}`)},
		"structured":          {Headers: headers("content-type", "application/cloudevents+json; charset=utf-8"), Value: []byte(structured)},
		"both":                {Headers: headers(append(complete, "content-type", "application/cloudevents+json")...), Value: []byte(structured)},
		"a header twice":      {Headers: headers(append([]string{"ce_id", "6"}, append(complete, "ce_sequence", "a", "content-type", "application/json")...)...), Value: []byte(`{"n":1}`)},
		"headers of no event": {Headers: headers(append(complete, "trace", "x", "ce_sequence", "a", "content-type", "application/json")...), Value: []byte(`{"n":1}`)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e, err := r.Event()
			require.NoError(t, err)
			assert.Equal(t, []string{"7", "/shop", "placed"}, []string{e.ID(), e.Source(), e.Type()})
			assert.Equal(t, map[string]any{"sequence": "a"}, e.Extensions())
			assert.JSONEq(t, `{"n":1}`, string(e.Data()))
		})
	}
}

func TestNoEvent(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		headers []string
		value   string
		says    string
	}{
		"no headers":            {says: "neither the header ce_specversion nor a content-type"},
		"plain JSON":            {headers: []string{"content-type", "application/json"}, value: "{}", says: "no CloudEvent"},
		"unknown version":       {headers: []string{"ce_specversion", "2.0", "ce_id", "7", "ce_source", "/s", "ce_type", "t"}, says: `specversion "2.0", but this consumer knows 1.0 and 0.3`},
		"unknown, structured":   {headers: []string{"content-type", "application/cloudevents+json"}, value: `{"specversion":"2.0","id":"7","source":"/s","type":"t"}`, says: "2.0"},
		"no id":                 {headers: []string{"ce_specversion", "1.0", "ce_source", "/s", "ce_type", "t"}, says: "id"},
		"no source":             {headers: []string{"ce_specversion", "1.0", "ce_id", "7", "ce_type", "t"}, says: "source"},
		"broken JSON":           {headers: []string{"content-type", "application/cloudevents+json"}, value: "{", says: "no valid CloudEvent"},
		"a batch":               {headers: []string{"content-type", "application/cloudevents-batch+json"}, value: "[]", says: "no"},
		"an invalid time":       {headers: append([]string{"ce_time", "yesterday"}, complete...), says: "no valid CloudEvent"},
		"an unknown event type": {headers: []string{"content-type", "application/cloudevents+avro"}, value: "x", says: "no CloudEvent"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := Record{Topic: "orders", Partition: 2, Offset: 17, Headers: headers(c.headers...), Value: []byte(c.value)}
			_, err := r.Event()
			require.ErrorContains(t, err, c.says)
			assert.ErrorContains(t, err, "orders-2@17")
			assert.NotContains(t, err.Error(), "\n")
		})
	}
}

// Whatever comes is an event or an error that names the record, and what is valid
// has what claims need.
func FuzzEvent(f *testing.F) {
	f.Add("ce_specversion", "1.0", "ce_id", "7", "ce_source", "/s", "ce_type", "t", []byte("{}"))
	f.Add("content-type", "application/cloudevents+json", "", "", "", "", "", "", []byte(`{"specversion":"1.0","id":"7","source":"/s","type":"t"}`))
	f.Add("content-type", "application/cloudevents-batch+json", "", "", "", "", "", "", []byte(`[]`))
	f.Add("content-type", "application/cloudevents+json", "ce_specversion", "0.3", "ce_time", "x", "ce_", "", []byte(`{"specversion":null}`))
	f.Fuzz(func(t *testing.T, n1, v1, n2, v2, n3, v3, n4, v4 string, value []byte) {
		r := Record{Topic: "orders", Offset: 17, Headers: headers(n1, v1, n2, v2, n3, v3, n4, v4), Value: value, Timestamp: time.UnixMilli(1)}
		e, err := r.Event()
		if err != nil {
			assert.ErrorContains(t, err, "orders-0@17")
			return
		}
		assert.NotEmpty(t, e.ID())
		assert.NotEmpty(t, e.Source())
	})
}

// What a range may judge is decided by the record, and never guessed.
func TestPositionOf(t *testing.T) {
	t.Parallel()
	const stream, sequence = "00000000000000aa", "0000000000000001-00000000"
	for name, c := range map[string]struct {
		headers []string
		want    position
	}{
		"of the stream":          {[]string{"streamer-stream", stream, "ce_sequence", sequence}, position{stream, sequence, true}},
		"a replay":               {[]string{"streamer-stream", stream, "ce_sequence", sequence, "streamer-replay", "20261201T000000.000Z"}, position{stream, sequence, false}},
		"a late dead letter":     {[]string{"streamer-stream", stream, "ce_sequence", sequence, "streamer-replay", "dead-letter"}, position{}},
		"found by a take-over":   {[]string{"streamer-stream", stream, "ce_sequence", sequence, "streamer-replay", "take-over"}, position{}},
		"another producer":       {[]string{"ce_sequence", sequence}, position{}},
		"an empty stream":        {[]string{"streamer-stream", "", "ce_sequence", sequence}, position{}},
		"another sequence":       {[]string{"streamer-stream", stream, "ce_sequence", "17"}, position{}},
		"no sequence":            {[]string{"streamer-stream", stream}, position{}},
		"upper case":             {[]string{"streamer-stream", stream, "ce_sequence", "000000000000000A-00000000"}, position{}},
		"a line more":            {[]string{"streamer-stream", stream, "ce_sequence", sequence + "\n"}, position{}},
		"an empty replay's mark": {[]string{"streamer-stream", stream, "ce_sequence", sequence, "streamer-replay", ""}, position{stream, sequence, false}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := Record{Headers: headers(append(c.headers, complete...)...)}
			e, err := r.Event()
			require.NoError(t, err)
			assert.Equal(t, c.want, positionOf(&r, &e))
		})
	}
}
