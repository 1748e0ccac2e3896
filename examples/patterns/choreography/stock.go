package choreography

import (
	"context"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/jackc/pgx/v5"

	"github.com/outboxstream/streamer/consume"
	"github.com/outboxstream/streamer/examples/patterns/order"
	"github.com/outboxstream/streamer/examples/patterns/outbox"
	"github.com/outboxstream/streamer/examples/patterns/service"
	"github.com/outboxstream/streamer/examples/patterns/warehouse"
)

// Stock is the stock service. It reserves what is paid.
func Stock(ctx context.Context, s *service.Service) error {
	return s.Consume(ctx, consume.Config{
		Name: "choreography-stock", Topics: []string{PaymentTopic}, Types: []string{PaymentCharged},
	}, reserve)
}

func reserve(ctx context.Context, tx pgx.Tx, e event.Event) error {
	o, err := order.Of(e)
	if err != nil {
		return err
	}
	reserved, err := warehouse.Reserve(ctx, tx, o.ID, o.Item, o.Quantity)
	if err != nil {
		return err
	}
	told := StockRefused
	if reserved {
		told = StockReserved
	}
	return outbox.Write(ctx, tx, "stock", o.ID, told, o)
}
