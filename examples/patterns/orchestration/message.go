package orchestration

import (
	"context"
	"fmt"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/jackc/pgx/v5"

	"github.com/outboxstream/streamer/consume"
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

// Order is what commands and replies carry.
type Order struct {
	ID       string `json:"id"`
	Customer string `json:"customer"`
	Amount   int64  `json:"amount"` // in cents
	Item     string `json:"item"`
	Quantity int64  `json:"quantity"`
}

// with lets a handler have the order.
func with(handle func(ctx context.Context, tx pgx.Tx, eventType string, o Order) error) func(context.Context, pgx.Tx, event.Event) error {
	return func(ctx context.Context, tx pgx.Tx, e event.Event) error {
		var o Order
		if err := e.DataAs(&o); err != nil {
			return consume.Unhandleable(fmt.Errorf("read the order in event %s: %w", e.ID(), err))
		}
		return handle(ctx, tx, e.Type(), o)
	}
}
