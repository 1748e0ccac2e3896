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
