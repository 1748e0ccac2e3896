package projection

import (
	"context"
	_ "embed"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/outboxstream/streamer/examples/patterns/outbox"
	"github.com/outboxstream/streamer/examples/patterns/service"
)

// Schema creates the tables of the shop, except for its outbox.
//
//go:embed shop.sql
var Schema string

// Topics: of what happens, and of a replay.
const (
	Topic        = "projection.customer"
	RebuildTopic = "projection-rebuild.customer"
)

// Types of events.
const (
	Bought = "customer.bought"
	Paid   = "customer.paid"
)

// Movement is what an event carries.
type Movement struct {
	Item   string `json:"item,omitempty"`
	Amount int64  `json:"amount"` // in cents
}

// Shop is the load: customers buy and pay.
func Shop(ctx context.Context, s *service.Service, n int, rate float64) error {
	return service.Load(ctx, s, "select count(*) from movement", n, rate, func(ctx context.Context, number int) (fresh bool, err error) {
		customer, m, told := fmt.Sprintf("customer-%d", number*7%13), Movement{Amount: int64(number % 100)}, Paid
		if number%3 > 0 {
			m.Item, told = fmt.Sprintf("item-%d", number%50), Bought
		}
		err = pgx.BeginFunc(ctx, s.Pool, func(tx pgx.Tx) error {
			written, err := tx.Exec(ctx, "insert into movement values ($1, $2, nullif($3, ''), $4) on conflict do nothing",
				number, customer, m.Item, m.Amount)
			if err != nil {
				return fmt.Errorf("write movement %d: %w", number, err)
			}
			if fresh = written.RowsAffected() == 1; !fresh {
				return nil
			}
			return outbox.Write(ctx, tx, "customer", customer, told, m)
		})
		return fresh, err
	})
}
