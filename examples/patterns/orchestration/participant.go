package orchestration

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/outboxstream/streamer/consume"
	"github.com/outboxstream/streamer/examples/patterns/accounts"
	"github.com/outboxstream/streamer/examples/patterns/order"
	"github.com/outboxstream/streamer/examples/patterns/outbox"
	"github.com/outboxstream/streamer/examples/patterns/service"
	"github.com/outboxstream/streamer/examples/patterns/warehouse"
)

// Payments carries out the commands to the payment service. It knows nothing of
// stock, nor of sagas.
func Payments(ctx context.Context, s *service.Service) error {
	return s.Consume(ctx, consume.Config{Name: "orchestrated-payments", Topics: []string{PaymentCommands}}, with(pay))
}

func pay(ctx context.Context, tx pgx.Tx, command string, o order.Order) error {
	reply := refunded
	if command == refund {
		if err := accounts.Refund(ctx, tx, o.ID); err != nil {
			return err
		}
	} else {
		enough, err := accounts.Charge(ctx, tx, o.ID, o.Customer, o.Amount)
		if err != nil {
			return err
		}
		if reply = chargeRefused; enough {
			reply = charged
		}
	}
	return outbox.Write(ctx, tx, "payment-reply", o.ID, reply, o)
}

// Stock carries out the commands to the stock service.
func Stock(ctx context.Context, s *service.Service) error {
	return s.Consume(ctx, consume.Config{Name: "orchestrated-stock", Topics: []string{StockCommands}}, with(store))
}

func store(ctx context.Context, tx pgx.Tx, command string, o order.Order) error {
	reply := released
	if command == release {
		if err := warehouse.Release(ctx, tx, o.ID); err != nil {
			return err
		}
	} else {
		enough, err := warehouse.Reserve(ctx, tx, o.ID, o.Item, o.Quantity)
		if err != nil {
			return err
		}
		if reply = stockRefused; enough {
			reply = reserved
		}
	}
	return outbox.Write(ctx, tx, "stock-reply", o.ID, reply, o)
}
