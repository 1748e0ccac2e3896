package choreography

import (
	"context"
	"fmt"

	"github.com/outboxstream/streamer/examples/patterns/service"
)

// Customers is the load: it places order-1 to order-n, at a rate per second.
func Customers(ctx context.Context, s *service.Service, n int, rate float64) error {
	return service.Load(ctx, n, rate, func(ctx context.Context, number int) (bool, error) {
		return Place(ctx, s, Order{
			ID:       fmt.Sprintf("order-%d", number),
			Customer: fmt.Sprintf("customer-%d", number*7%11),
			Item:     fmt.Sprintf("item-%d", number*5%7),
			Quantity: int64(number%3 + 1),
			Amount:   int64(number%3+1) * 250,
		})
	})
}
