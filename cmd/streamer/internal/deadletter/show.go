package deadletter

import (
	"bytes"
	"context"
	"encoding/json"
	"unicode/utf8"

	"github.com/outboxstream/streamer/cmd/streamer/internal/console"
	"github.com/outboxstream/streamer/cmd/streamer/internal/site"
	"github.com/outboxstream/streamer/decoder"
	"github.com/outboxstream/streamer/router"
)

type showCommand struct {
	ID  string `arg:"" help:"Partition and offset (0:17), event ID or position."`
	Raw bool   `help:"Print the payload's bytes and nothing else."`
}

// Help is shown by streamer dead-letters show --help.
func (showCommand) Help() string {
	return `Prints a dead letter with its headers, key and payload. This exposes the data of the
row. Values that are not text are in base64.

Examples:
  streamer dead-letters show 0:17
  streamer dead-letters show --raw 0:17 | jq .`
}

// Run is the command.
func (command showCommand) Run(ctx context.Context, load site.Configuration, std console.Streams) error {
	box, err := openLetters(ctx, load, std)
	if err != nil {
		return err
	}
	defer box.close()
	l, err := box.find(command.ID)
	if err != nil {
		return err
	}
	opened, headers, err := l.Open(ctx, box.client)
	if err != nil {
		return err
	}
	if command.Raw {
		_, err := std.Out.Write(payloadBytes(opened.Payload))
		return err
	}
	return std.JSON(openLetter(l, opened, headers))
}

// openedLetter is a dead letter with the contents of the row.
type openedLetter struct {
	Letter
	Key     *shownValue   `json:"key"`
	Headers []shownHeader `json:"headers"`
	Payload *shownValue   `json:"payload"`
}

type shownHeader struct {
	Name string `json:"name"`
	shownValue
}

// shownValue holds JSON if the column's type is JSON, text if it is text, and
// bytes otherwise.
type shownValue struct {
	JSON   json.RawMessage `json:"json,omitempty"`
	Text   *string         `json:"text,omitempty"`
	Base64 []byte          `json:"base64,omitempty"`
}

func openLetter(l router.Letter, d router.DeadLetter, headers []router.RawHeader) openedLetter {
	o := openedLetter{Letter: Describe(l), Key: showBytes(d.Key), Payload: showPayload(d.Payload)}
	for _, h := range headers {
		o.Headers = append(o.Headers, shownHeader{h.Name, *showBytes(append([]byte{}, h.Value...))})
	}
	return o
}

// showBytes returns nil for Kafka's null.
func showBytes(b []byte) *shownValue {
	if b == nil {
		return nil
	}
	if utf8.Valid(b) {
		text := string(b)
		return &shownValue{Text: &text}
	}
	return &shownValue{Base64: b}
}

const jsonOID, jsonbOID = 114, 3802

// payloadBytes returns the payload without the version byte with which
// PostgreSQL's binary format of jsonb begins.
func payloadBytes(c decoder.Column) []byte {
	if c.Binary && c.TypeOID == jsonbOID {
		return bytes.TrimPrefix(c.Bytes, []byte{1})
	}
	return c.Bytes
}

// showPayload returns nil for NULL.
func showPayload(c decoder.Column) *shownValue {
	if c.Null {
		return nil
	}
	text := payloadBytes(c)
	if (c.TypeOID == jsonOID || c.TypeOID == jsonbOID) && json.Valid(text) {
		return &shownValue{JSON: text}
	}
	return showBytes(append([]byte{}, text...))
}
