package choreography

import (
	"context"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/jackc/pgx/v5"

	"github.com/outboxstream/streamer/consume"
	"github.com/outboxstream/streamer/examples/patterns/accounts"
	"github.com/outboxstream/streamer/examples/patterns/order"
	"github.com/outboxstream/streamer/examples/patterns/outbox"
	"github.com/outboxstream/streamer/examples/patterns/service"
)

// Payments is the payment service. It charges what is ordered, and gives back what
// could not be delivered.
func Payments(ctx context.Context, s *service.Service) error {
	return s.Consume(ctx, consume.Config{
		Name: "choreography-payments", Topics: []string{OrderTopic, StockTopic}, Types: []string{OrderPlaced, StockRefused},
	}, pay)
}

func pay(ctx context.Context, tx pgx.Tx, e event.Event) error {
	o, err := order.Of(e)
	if err != nil {
		return err
	}
	if e.Type() == StockRefused {
		if err := accounts.Refund(ctx, tx, o.ID); err != nil {
			return err
		}
		return outbox.Write(ctx, tx, "payment", o.ID, PaymentRefunded, o)
	}
	charged, err := accounts.Charge(ctx, tx, o.ID, o.Customer, o.Amount)
	if err != nil {
		return err
	}
	told := PaymentRefused
	if charged {
		told = PaymentCharged
	}
	return outbox.Write(ctx, tx, "payment", o.ID, told, o)
}
