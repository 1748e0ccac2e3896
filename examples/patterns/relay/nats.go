package relay

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/outboxstream/streamer/examples/patterns/service"
)

// Stream is the stream of JetStream that gets the events, and Subjects what it has
// of each key.
const (
	Stream   = "ORDERS"
	Subjects = "orders."
)

// window is for how long JetStream recognizes what it has had. A relay that died
// has to be running again within it.
const window = 10 * time.Minute

// ToNATS relays events to JetStream.
func ToNATS(ctx context.Context, s *service.Service, server string) error {
	connection, err := nats.Connect(server, nats.MaxReconnects(-1), nats.ReconnectWait(200*time.Millisecond), nats.RetryOnFailedConnect(true))
	if err != nil {
		return fmt.Errorf("connect to NATS: %w", err)
	}
	defer connection.Close()
	client, err := jetstream.New(connection)
	if err != nil {
		return fmt.Errorf("use JetStream: %w", err)
	}
	return relay(ctx, s, "relay-nats", &natsPublisher{client: client, log: s.Log})
}

type natsPublisher struct {
	client jetstream.JetStream
	log    *slog.Logger
}

// CreateStream creates the stream. The window of duplicates is the stream's, so an
// operator sets it, not the relay.
func CreateStream(ctx context.Context, client jetstream.JetStream) error {
	_, err := client.CreateOrUpdateStream(ctx, jetstream.StreamConfig{
		Name: Stream, Subjects: []string{Subjects + ">"}, Storage: jetstream.FileStorage, Duplicates: window,
	})
	if err != nil {
		return fmt.Errorf("create stream %s: %w", Stream, err)
	}
	return nil
}

func (p *natsPublisher) publish(ctx context.Context, e event.Event) error {
	message := nats.NewMsg(subjectOf(e.Subject()))
	message.Data = e.Data()
	message.Header.Set(jetstream.MsgIDHeader, nameOf(e))
	for name, value := range attributes(e, "ce-") {
		message.Header.Set(name, value)
	}
	message.Header.Set("content-type", e.DataContentType())
	ack, err := p.client.PublishMsg(ctx, message)
	if errors.Is(err, nats.ErrMaxPayload) {
		return fmt.Errorf("event %s: %w: %w", e.ID(), errNever, err)
	}
	if err != nil {
		return fmt.Errorf("publish event %s: %w", e.ID(), err)
	}
	if ack.Duplicate {
		p.log.Info("JetStream has had this event", "id", e.ID())
	}
	return nil
}

// subjectOf makes one token of a subject of a key, whatever is in it.
func subjectOf(key string) string {
	return Subjects + strings.ReplaceAll(url.QueryEscape(key), ".", "%2E")
}
