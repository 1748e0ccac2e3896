package relay

import (
	"context"
	_ "embed"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/outboxstream/streamer/examples/patterns/outbox"
	"github.com/outboxstream/streamer/examples/patterns/service"
)

// SourceSchema creates the table of the service whose events are relayed, except
// for its outbox.
//
//go:embed source.sql
var SourceSchema string

// Topic is where these events are.
const Topic = "relay.order"

// Step is what an event carries.
type Step struct {
	Number int64 `json:"number"`
}

// Source is the load: orders that go on, step by step.
func Source(ctx context.Context, s *service.Service, n int, rate float64) error {
	return service.Load(ctx, s, "select count(*) from step", n, rate, func(ctx context.Context, number int) (fresh bool, err error) {
		order := fmt.Sprintf("order-%d", number%17)
		err = pgx.BeginFunc(ctx, s.Pool, func(tx pgx.Tx) error {
			written, err := tx.Exec(ctx, "insert into step values ($1, $2) on conflict do nothing", number, order)
			if err != nil {
				return fmt.Errorf("write step %d: %w", number, err)
			}
			if fresh = written.RowsAffected() == 1; !fresh {
				return nil
			}
			return outbox.Write(ctx, tx, "order", order, "order.continued", Step{Number: int64(number)})
		})
		return fresh, err
	})
}
