// Package order is what both sagas are about.
package order

import (
	"fmt"

	"github.com/cloudevents/sdk-go/v2/event"

	"github.com/outboxstream/streamer/consume"
)

// Order is what every message of a saga carries, so that no service has to ask
// another one.
type Order struct {
	ID       string `json:"id"`
	Customer string `json:"customer"`
	Amount   int64  `json:"amount"` // in cents
	Item     string `json:"item"`
	Quantity int64  `json:"quantity"`
}

// Of reads the order in an event. If that fails, it will fail again.
func Of(e event.Event) (o Order, err error) {
	if err := e.DataAs(&o); err != nil {
		return Order{}, consume.Unhandleable(fmt.Errorf("read the order in event %s: %w", e.ID(), err))
	}
	return o, nil
}

// Number returns the order of a number, always the same. All customers, items and
// quantities occur together.
func Number(n int) Order {
	quantity := int64(n%3 + 1)
	return Order{
		ID: fmt.Sprintf("order-%d", n), Customer: fmt.Sprintf("customer-%d", n*7%11),
		Item: fmt.Sprintf("item-%d", n*5%7), Quantity: quantity, Amount: quantity * 250,
	}
}
