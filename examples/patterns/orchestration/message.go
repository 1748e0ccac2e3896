package orchestration

import (
	"context"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/jackc/pgx/v5"

	"github.com/outboxstream/streamer/examples/patterns/order"
	"github.com/outboxstream/streamer/examples/patterns/service"
)

// Topics of commands and of replies.
const (
	PaymentCommands = "orchestration.payment-command"
	StockCommands   = "orchestration.stock-command"
	PaymentReplies  = "orchestration.payment-reply"
	StockReplies    = "orchestration.stock-reply"
)

// Commands.
const (
	charge  = "payment.charge"
	refund  = "payment.refund"
	reserve = "stock.reserve"
	release = "stock.release"
)

// Replies.
const (
	charged       = "payment.charged"
	chargeRefused = "payment.refused"
	refunded      = "payment.refunded"
	reserved      = "stock.reserved"
	stockRefused  = "stock.refused"
	released      = "stock.released"
)

// with lets a handler have the order.
func with(handle func(ctx context.Context, tx pgx.Tx, eventType string, o order.Order) error) service.Handler {
	return func(ctx context.Context, tx pgx.Tx, e event.Event) error {
		o, err := order.Of(e)
		if err != nil {
			return err
		}
		return handle(ctx, tx, e.Type(), o)
	}
}
