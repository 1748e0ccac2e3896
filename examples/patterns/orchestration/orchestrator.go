package orchestration

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/outboxstream/streamer/consume"
	"github.com/outboxstream/streamer/examples/patterns/order"
	"github.com/outboxstream/streamer/examples/patterns/outbox"
	"github.com/outboxstream/streamer/examples/patterns/service"
)

// Schema creates the table of sagas.
//
//go:embed saga.sql
var Schema string

// Orchestrate is the orchestrator. patience is how long a step may take before the
// saga goes back.
func Orchestrate(ctx context.Context, s *service.Service, patience time.Duration) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	watched := make(chan error, 1)
	go func() {
		defer cancel()
		watched <- service.Every(ctx, 100*time.Millisecond, func(ctx context.Context) error { return giveUp(ctx, s) })
	}()
	err := s.Consume(ctx, consume.Config{
		Name: "orchestrator", Topics: []string{PaymentReplies, StockReplies},
	}, with(func(ctx context.Context, tx pgx.Tx, reply string, o order.Order) error {
		return hear(ctx, tx, reply, o, patience)
	}))
	cancel()
	return errors.Join(err, <-watched)
}

// transition is what a reply leads to.
type transition struct{ to, command string }

// transitions are by the step and the reply that it waits for. Whatever is not here
// comes too late.
var transitions = map[[2]string]transition{
	{"charging", charged}:       {"reserving", reserve},
	{"charging", chargeRefused}: {"cancelled", ""},
	{"reserving", reserved}:     {"confirmed", ""},
	{"reserving", stockRefused}: {"refunding", refund},
	{"releasing", released}:     {"refunding", refund},
	{"refunding", refunded}:     {"cancelled", ""},
}

// hear takes a reply.
func hear(ctx context.Context, tx pgx.Tx, reply string, o order.Order, patience time.Duration) error {
	var step string
	if err := tx.QueryRow(ctx, "select step from saga where order_id = $1 for update", o.ID).Scan(&step); err != nil {
		return fmt.Errorf("read saga %s: %w", o.ID, err)
	}
	next, expected := transitions[[2]string{step, reply}]
	if !expected {
		_, err := tx.Exec(ctx, "update saga set late = late + 1 where order_id = $1", o.ID)
		return err
	}
	return move(ctx, tx, o, next, patience)
}

// move brings a saga to a step, and says what is to be done there. Only the way
// forward has a deadline: the way back has to be gone to its end.
func move(ctx context.Context, tx pgx.Tx, o order.Order, next transition, patience time.Duration) error {
	_, err := tx.Exec(ctx, `update saga set step = $2, deadline = case when $2 = 'reserving' then now() + $3::interval end
		where order_id = $1`, o.ID, next.to, patience)
	if err != nil {
		return fmt.Errorf("move saga %s to %s: %w", o.ID, next.to, err)
	}
	if next.command == "" {
		return nil
	}
	to := "payment-command"
	if next.command == reserve || next.command == release {
		to = "stock-command"
	}
	return outbox.Write(ctx, tx, to, o.ID, next.command, o)
}

// giveUp turns sagas back whose deadline has passed. Several orchestrators share
// the work: each takes rows that no other one has locked.
func giveUp(ctx context.Context, s *service.Service) error {
	return pgx.BeginFunc(ctx, s.Pool, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `update saga set timeouts = timeouts + 1 where order_id in (
				select order_id from saga where deadline < now() order by deadline limit 100 for update skip locked)
			returning order_id, customer, amount, item, quantity`)
		if err != nil {
			return fmt.Errorf("look for deadlines: %w", err)
		}
		late, err := pgx.CollectRows(rows, pgx.RowToStructByPos[order.Order])
		if err != nil {
			return fmt.Errorf("look for deadlines: %w", err)
		}
		for _, o := range late {
			if err := move(ctx, tx, o, transition{"releasing", release}, 0); err != nil {
				return err
			}
		}
		return nil
	})
}

// Customers is the load: it begins sagas.
func Customers(ctx context.Context, s *service.Service, n int, rate float64, patience time.Duration) error {
	return service.Load(ctx, s, "select count(*) from saga", n, rate, func(ctx context.Context, number int) (fresh bool, err error) {
		o := order.Number(number)
		err = pgx.BeginFunc(ctx, s.Pool, func(tx pgx.Tx) error {
			begun, err := tx.Exec(ctx, `insert into saga (order_id, customer, amount, item, quantity, step, deadline)
				values ($1, $2, $3, $4, $5, 'charging', now() + $6::interval) on conflict do nothing`,
				o.ID, o.Customer, o.Amount, o.Item, o.Quantity, patience)
			if err != nil {
				return fmt.Errorf("begin saga %s: %w", o.ID, err)
			}
			if fresh = begun.RowsAffected() == 1; !fresh {
				return nil
			}
			return outbox.Write(ctx, tx, "payment-command", o.ID, charge, o)
		})
		return fresh, err
	})
}
