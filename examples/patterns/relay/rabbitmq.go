package relay

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/cloudevents/sdk-go/v2/event"
	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/outboxstream/streamer/examples/patterns/service"
)

// Queue is the queue that gets the events.
const Queue = "orders"

// ToRabbitMQ relays events to a queue of RabbitMQ.
func ToRabbitMQ(ctx context.Context, s *service.Service, server string) error {
	p := &rabbitPublisher{server: server}
	defer p.forget()
	return relay(ctx, s, "relay-rabbitmq", p)
}

// rabbitPublisher connects when it has to, and again after a failure.
type rabbitPublisher struct {
	server string

	mu         sync.Mutex
	connection *amqp.Connection
	channel    *amqp.Channel
}

func (p *rabbitPublisher) publish(ctx context.Context, e event.Event) error {
	channel, err := p.open()
	if err != nil {
		return err
	}
	headers := amqp.Table{}
	for name, value := range attributes(e, "cloudEvents_") {
		headers[name] = value
	}
	sent, err := channel.PublishWithDeferredConfirmWithContext(ctx, "", Queue, false, false, amqp.Publishing{
		MessageId: nameOf(e), DeliveryMode: amqp.Persistent, ContentType: e.DataContentType(), Headers: headers, Body: e.Data(),
	})
	if err != nil {
		p.forget()
		return fmt.Errorf("publish event %s: %w", e.ID(), err)
	}
	confirmed, err := sent.WaitContext(ctx)
	if err == nil && !confirmed {
		err = errors.New("the broker did not confirm it")
	}
	if err != nil {
		p.forget()
		return fmt.Errorf("publish event %s: %w", e.ID(), err)
	}
	return nil
}

// open returns a channel that confirms, and makes sure that the queue is there: a
// message for none is confirmed, too.
func (p *rabbitPublisher) open() (*amqp.Channel, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.channel != nil && !p.channel.IsClosed() {
		return p.channel, nil
	}
	connection, channel, err := dial(p.server)
	if err != nil {
		return nil, err
	}
	if err := channel.Confirm(false); err != nil {
		return nil, errors.Join(fmt.Errorf("ask RabbitMQ for confirmations: %w", err), connection.Close())
	}
	p.connection, p.channel = connection, channel
	return channel, nil
}

// forget closes the connection: the next event opens another one.
func (p *rabbitPublisher) forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.connection != nil {
		_ = p.connection.Close()
		p.connection, p.channel = nil, nil
	}
}

// dial connects to RabbitMQ and declares the queue. One consumer of the queue at a
// time gets its messages, so that they stay in order.
func dial(server string) (*amqp.Connection, *amqp.Channel, error) {
	connection, err := amqp.Dial(server)
	if err != nil {
		return nil, nil, fmt.Errorf("connect to RabbitMQ: %w", err)
	}
	channel, err := connection.Channel()
	if err == nil {
		_, err = channel.QueueDeclare(Queue, true, false, false, false, amqp.Table{"x-single-active-consumer": true})
	}
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("declare queue %s: %w", Queue, err), connection.Close())
	}
	return connection, channel, nil
}
