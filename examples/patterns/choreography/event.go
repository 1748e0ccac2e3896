package choreography

import (
	"fmt"

	"github.com/cloudevents/sdk-go/v2/event"

	"github.com/outboxstream/streamer/consume"
)

// Topics, one for each service that speaks. The streamer's kafka.topic says how
// they follow from the aggregate type.
const (
	OrderTopic   = "choreography.order"
	PaymentTopic = "choreography.payment"
	StockTopic   = "choreography.stock"
)

// Types of events.
const (
	OrderPlaced     = "order.placed"
	OrderConfirmed  = "order.confirmed"
	OrderCancelled  = "order.cancelled"
	PaymentCharged  = "payment.charged"
	PaymentRefused  = "payment.refused"
	PaymentRefunded = "payment.refunded"
	StockReserved   = "stock.reserved"
	StockRefused    = "stock.refused"
)

// Order is what every event carries, so that no service has to ask another one.
type Order struct {
	ID       string `json:"id"`
	Customer string `json:"customer"`
	Amount   int64  `json:"amount"` // in cents
	Item     string `json:"item"`
	Quantity int64  `json:"quantity"`
}

// orderOf reads the order. If that fails, it will fail again.
func orderOf(e event.Event) (o Order, err error) {
	if err := e.DataAs(&o); err != nil {
		return Order{}, consume.Unhandleable(fmt.Errorf("read the order in event %s: %w", e.ID(), err))
	}
	return o, nil
}
