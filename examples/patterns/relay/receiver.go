package relay

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/outboxstream/streamer/examples/patterns/service"
)

// ReceiverSchema creates the tables of the receiver.
//
//go:embed receiver.sql
var ReceiverSchema string

// Receive is a service that knows RabbitMQ only. It notes each message ID in the
// transaction of its effect, and acknowledges after the commit.
func Receive(ctx context.Context, s *service.Service, server string) error {
	for ctx.Err() == nil {
		if err := receive(ctx, s, server); err != nil {
			s.Log.Warn("will connect again", "error", err)
			select {
			case <-time.After(200 * time.Millisecond):
			case <-ctx.Done():
			}
		}
	}
	return nil
}

func receive(ctx context.Context, s *service.Service, server string) (err error) {
	connection, channel, err := dial(server)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, connection.Close()) }()
	const ahead = 50
	if err := channel.Qos(ahead, 0, false); err != nil {
		return fmt.Errorf("limit what is sent ahead: %w", err)
	}
	messages, err := channel.ConsumeWithContext(ctx, Queue, "", false, false, false, false, nil)
	if err != nil {
		return fmt.Errorf("consume %s: %w", Queue, err)
	}
	for message := range messages {
		if err := handle(ctx, s, message); err != nil {
			return err
		}
		if err := message.Ack(false); err != nil {
			return fmt.Errorf("acknowledge %s: %w", message.MessageId, err)
		}
	}
	return nil
}

func handle(ctx context.Context, s *service.Service, message amqp.Delivery) error {
	return pgx.BeginFunc(ctx, s.Pool, func(tx pgx.Tx) error {
		var repeats int
		err := tx.QueryRow(ctx, `insert into received as r (message_id) values ($1)
			on conflict (message_id) do update set repeats = r.repeats + 1 returning repeats`, message.MessageId).Scan(&repeats)
		if err != nil {
			return fmt.Errorf("note message %s: %w", message.MessageId, err)
		}
		if repeats > 0 {
			return nil
		}
		var step Step
		if err := json.Unmarshal(message.Body, &step); err != nil {
			return fmt.Errorf("read message %s: %w", message.MessageId, err)
		}
		order, _ := message.Headers["cloudEvents_subject"].(string)
		_, err = tx.Exec(ctx, "insert into arrival (order_id, step) values ($1, $2)", order, step.Number)
		return err
	})
}
