package choreography

import (
	"context"
	_ "embed"
	"fmt"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/jackc/pgx/v5"

	"github.com/outboxstream/streamer/consume"
	"github.com/outboxstream/streamer/examples/patterns/order"
	"github.com/outboxstream/streamer/examples/patterns/outbox"
	"github.com/outboxstream/streamer/examples/patterns/service"
)

// OrderSchema creates the table of orders.
//
//go:embed order.sql
var OrderSchema string

// Orders is the order service.
func Orders(ctx context.Context, s *service.Service) error {
	return s.Consume(ctx, consume.Config{
		Name: "choreography-orders", Topics: []string{PaymentTopic, StockTopic},
		Types: []string{PaymentRefused, PaymentRefunded, StockReserved},
	}, finish)
}

// Place takes an order, and reports whether it is new. A customer who did not get
// an answer sends the order again, with the same ID: then nothing happens.
func Place(ctx context.Context, s *service.Service, o order.Order) (fresh bool, err error) {
	err = pgx.BeginFunc(ctx, s.Pool, func(tx pgx.Tx) error {
		placed, err := tx.Exec(ctx, `insert into orders (id, customer, amount, item, quantity, state)
			values ($1, $2, $3, $4, $5, 'placed') on conflict (id) do nothing`, o.ID, o.Customer, o.Amount, o.Item, o.Quantity)
		if err != nil {
			return fmt.Errorf("place order %s: %w", o.ID, err)
		}
		if fresh = placed.RowsAffected() == 1; !fresh {
			return nil
		}
		return outbox.Write(ctx, tx, "order", o.ID, OrderPlaced, o)
	})
	return fresh, err
}

// finish gives an order its end.
func finish(ctx context.Context, tx pgx.Tx, e event.Event) error {
	o, err := order.Of(e)
	if err != nil {
		return err
	}
	state, told := "cancelled", OrderCancelled
	if e.Type() == StockReserved {
		state, told = "confirmed", OrderConfirmed
	}
	changed, err := tx.Exec(ctx, "update orders set state = $2, reason = $3 where id = $1 and state = 'placed'", o.ID, state, e.Type())
	if err != nil {
		return fmt.Errorf("finish order %s: %w", o.ID, err)
	}
	if changed.RowsAffected() != 1 { // or its transaction is not visible yet: see accounts.Refund
		return fmt.Errorf("event %s of order %s, which has ended or was never placed", e.Type(), o.ID)
	}
	return outbox.Write(ctx, tx, "order", o.ID, told, o)
}
