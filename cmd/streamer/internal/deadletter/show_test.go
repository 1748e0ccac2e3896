package deadletter

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/decoder"
)

const byteaOID, textOID = 17, 25

func TestShowPayload(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		column decoder.Column
		want   string // as JSON
	}{
		"NULL":                    {decoder.Column{Null: true, TypeOID: jsonbOID}, `null`},
		"json":                    {decoder.Column{TypeOID: jsonOID, Bytes: []byte(`{"a":  1.10}`)}, `{"json": {"a": 1.10}}`},
		"jsonb":                   {decoder.Column{TypeOID: jsonbOID, Bytes: []byte(`"x"`)}, `{"json": "x"}`},
		"jsonb in binary format":  {decoder.Column{TypeOID: jsonbOID, Binary: true, Bytes: []byte("\x01{\"a\": 1}")}, `{"json": {"a": 1}}`},
		"json in binary format":   {decoder.Column{TypeOID: jsonOID, Binary: true, Bytes: []byte(`[]`)}, `{"json": []}`},
		"jsonb of the future":     {decoder.Column{TypeOID: jsonbOID, Binary: true, Bytes: []byte("\x02{}")}, `{"text": "\u0002{}"}`},
		"json that is none":       {decoder.Column{TypeOID: jsonOID, Bytes: []byte(`{`)}, `{"text": "{"}`},
		"text that looks like it": {decoder.Column{TypeOID: textOID, Bytes: []byte(`{}`)}, `{"text": "{}"}`},
		"empty text":              {decoder.Column{TypeOID: textOID, Bytes: nil}, `{"text": ""}`},
		"bytes":                   {decoder.Column{TypeOID: byteaOID, Binary: true, Bytes: []byte{0xff, 1}}, `{"base64": "/wE="}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := json.Marshal(showPayload(c.column))
			require.NoError(t, err)
			assert.JSONEq(t, c.want, string(got))
		})
	}
}

func TestShowBytes(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		bytes []byte
		want  string
	}{
		"Kafka's null": {nil, `null`},
		"nothing":      {[]byte{}, `{"text": ""}`},
		"text":         {[]byte("ä"), `{"text": "ä"}`},
		"no text":      {[]byte("\xff"), `{"base64": "/w=="}`},
	} {
		got, err := json.Marshal(showBytes(c.bytes))
		require.NoError(t, err)
		assert.JSONEq(t, c.want, string(got), name)
	}
}

// shown is what show prints, for comparisons.
type shown struct {
	ID, State string
	Key       *struct{ Text, Base64 string }
	Payload   *struct {
		JSON         json.RawMessage
		Text, Base64 string
	}
	Headers []struct{ Name, Text, Base64 string }
}

// show runs the command and parses what it prints.
func (r *rig) show(id string) (s shown) {
	r.t.Helper()
	got := r.run(showCommand{ID: id})
	require.NoError(r.t, got.err)
	require.NoError(r.t, json.Unmarshal([]byte(got.out), &s), got.out)
	return s
}

func TestShow(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	null := order("a", 2, "k").with("note", "\xff")
	null.payload = nil
	binary := order("a", 3, "k")
	binary.binary, binary.payload = true, []byte("\x01{\"html\": \"<a&b>\"}")
	r.bury(order("a", 1, "key"), null, binary)

	first := r.list(true)[0]
	for _, id := range []string{"0:0", topic + ":0:0", "event-1", first.Position} {
		s := r.show(id)
		assert.Equal(t, "0:0", s.ID, id)
		assert.Equal(t, "open", s.State, id)
		assert.Equal(t, "key", s.Key.Text, id)
		assert.JSONEq(t, `{"n": 1}`, string(s.Payload.JSON), id)
		assert.Contains(t, s.Headers, struct{ Name, Text, Base64 string }{Name: "streamer-column-aggregatetype", Text: "order"}, id)
	}
	assert.Equal(t, `{"n": 1}`, r.run(showCommand{ID: "0:0", Raw: true}).out)

	s := r.show("event-2")
	assert.Nil(t, s.Payload)
	assert.Contains(t, s.Headers, struct{ Name, Text, Base64 string }{Name: "streamer-column-note", Base64: "/w=="})
	raw := r.run(showCommand{ID: "event-2", Raw: true})
	require.NoError(t, raw.err)
	assert.Empty(t, raw.out)

	assert.Contains(t, r.run(showCommand{ID: "event-3"}).out, `"<a&b>"`, "as the row has it")
	assert.JSONEq(t, `{"html": "<a&b>"}`, r.run(showCommand{ID: "event-3", Raw: true}).out)

	requireRefused(t, r.run(showCommand{ID: "0:4711"}), topic, `no dead letter "0:4711"`)
}
