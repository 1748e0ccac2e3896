package router

import (
	"bytes"
	"context"
	"encoding/json"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/IBM/sarama"
	"github.com/cloudevents/sdk-go/protocol/kafka_sarama/v2"
	"github.com/cloudevents/sdk-go/v2/binding"
	cloudevents "github.com/cloudevents/sdk-go/v2/event"

	"github.com/outboxstream/streamer/router/kafka"
)

// Rendering is a readable record. It is a JSON object with the CloudEvent in
// its JSON format, whatever mode the record has. It also holds the place where
// the record is or would go. The CloudEvents SDK reads the record, as a
// consumer would.
type Rendering struct {
	Topic string `json:"topic"`
	// Partition is nil while the topic's partition count is not known.
	Partition *int32 `json:"partition"`
	// Offset is nil for a record that is not in Kafka.
	Offset    *int64    `json:"offset,omitempty"`
	Timestamp time.Time `json:"timestamp"`
	// Key is the record's key. A key that is not UTF-8 is in KeyBase64.
	Key       *string `json:"key,omitempty"`
	KeyBase64 []byte  `json:"key_base64,omitempty"`

	Event json.RawMessage `json:"event,omitempty"`
	// Headers are those that belong neither to the event nor to the streamer.
	Headers []PlainHeader `json:"headers,omitempty"`
	// NotACloudEvent is set, and Event is not, if the SDK does not accept the
	// record as a CloudEvent.
	NotACloudEvent *RawRecord `json:"not_a_cloudevent,omitempty"`

	// Type is the event's type, for filters.
	Type string `json:"-"`
	// Mode is the record's content mode, if it is not in Kafka yet.
	Mode Mode `json:"-"`
}

// RawRecord is a record that is not a CloudEvent. A nil Value is Kafka's null.
type RawRecord struct {
	Reason  string      `json:"reason"`
	Headers []RawHeader `json:"headers,omitempty"`
	Value   []byte      `json:"value_base64"`
}

// RawHeader is a header of a RawRecord.
type RawHeader struct {
	Name  string `json:"name"`
	Value []byte `json:"value_base64"`
}

// PlainHeader is a header as text. A nil Value is Kafka's null.
type PlainHeader struct {
	Name  string  `json:"name"`
	Value *string `json:"value"`
}

// Tail follows topics like kafka.Client.Tail and renders each record.
func Tail(ctx context.Context, c *kafka.Client, o kafka.TailOptions, visit func(Rendering) error) error {
	return c.Tail(ctx, o, func(topic string, partition int32, offset int64, at time.Time, r *sarama.Record) error {
		rendering := render(topic, at, r.Key, r.Value, r.Headers)
		rendering.Partition, rendering.Offset = &partition, &offset
		return visit(rendering)
	})
}

func render(topic string, at time.Time, key, value []byte, headers []*sarama.RecordHeader) Rendering {
	r := Rendering{Topic: topic, Timestamp: at.UTC()}
	switch text := string(key); {
	case key == nil:
	case utf8.Valid(key):
		r.Key = &text
	default:
		r.KeyBase64 = bytes.Clone(key)
	}
	event, text, err := readEvent(value, headers)
	if err == nil {
		r.Event, r.Type, r.Headers = text, event.Type(), plainHeaders(headers)
		return r
	}
	r.NotACloudEvent = &RawRecord{Reason: err.Error(), Value: bytes.Clone(value)}
	for _, h := range headers {
		r.NotACloudEvent.Headers = append(r.NotACloudEvent.Headers, RawHeader{Name: string(h.Key), Value: bytes.Clone(h.Value)})
	}
	return r
}

// plainHeaders leaves out what the event shows, and what only the streamer reads.
func plainHeaders(headers []*sarama.RecordHeader) (plain []PlainHeader) {
	for _, h := range headers {
		switch name := strings.ToLower(string(h.Key)); {
		case name == "content-type", name == "traceparent", name == "tracestate", strings.HasPrefix(name, "ce_"),
			strings.HasPrefix(name, "streamer-"):
			continue
		}
		shown := PlainHeader{Name: strings.ToValidUTF8(string(h.Key), "�")}
		if h.Value != nil {
			text := strings.ToValidUTF8(string(h.Value), "�")
			shown.Value = &text
		}
		plain = append(plain, shown)
	}
	return plain
}

// readEvent reads a record with the SDK. The text is the event's JSON format.
func readEvent(value []byte, headers []*sarama.RecordHeader) (*cloudevents.Event, json.RawMessage, error) {
	byName := make(map[string][]byte, len(headers))
	for _, h := range headers {
		byName[string(bytes.ToLower(h.Key))] = h.Value
	}
	message := kafka_sarama.NewMessage(value, string(byName["content-type"]), byName)
	event, err := binding.ToEvent(context.Background(), message)
	if err != nil {
		return nil, nil, err
	}
	if err := event.Validate(); err != nil {
		return nil, nil, err
	}
	text, err := json.Marshal(event)
	return event, text, err
}
