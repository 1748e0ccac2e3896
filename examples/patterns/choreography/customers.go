package choreography

import (
	"context"

	"github.com/outboxstream/streamer/examples/patterns/order"
	"github.com/outboxstream/streamer/examples/patterns/service"
)

// Customers is the load: it places order-1 to order-n, at a rate per second.
func Customers(ctx context.Context, s *service.Service, n int, rate float64) error {
	return service.Load(ctx, s, "select count(*) from orders", n, rate, func(ctx context.Context, number int) (bool, error) {
		return Place(ctx, s, order.Number(number))
	})
}
