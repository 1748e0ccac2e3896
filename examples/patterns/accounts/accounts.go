package accounts

import (
	"context"
	_ "embed"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// Schema creates the tables.
//
//go:embed schema.sql
var Schema string

// Charge takes the money for an order from the customer's account, or reports
// that there is not enough.
func Charge(ctx context.Context, tx pgx.Tx, order, customer string, amount int64) (charged bool, err error) {
	taken, err := tx.Exec(ctx, "update account set balance = balance - $2 where customer = $1 and balance >= $2", customer, amount)
	if err != nil {
		return false, fmt.Errorf("take money for %s: %w", order, err)
	}
	state := "refused"
	if taken.RowsAffected() == 1 {
		state = "charged"
	}
	_, err = tx.Exec(ctx, "insert into charge (order_id, customer, amount, state) values ($1, $2, $3, $4)", order, customer, amount, state)
	if err != nil {
		return false, fmt.Errorf("note the charge for %s: %w", order, err)
	}
	return state == "charged", nil
}

// Refund gives the money for an order back, if it was taken. It is an error if
// nobody has tried to take it: an event can be here before the transaction that
// wrote it is visible to other sessions, because PostgreSQL's WAL has it earlier.
// Then the event comes once more, a moment later.
func Refund(ctx context.Context, tx pgx.Tx, order string) error {
	var customer, state string
	var amount int64
	err := tx.QueryRow(ctx, "select customer, amount, state from charge where order_id = $1 for update", order).Scan(&customer, &amount, &state)
	if err != nil {
		return fmt.Errorf("find the charge for %s: %w", order, err)
	}
	if state != "charged" {
		return nil
	}
	_, err = tx.Exec(ctx, `with refunded as (update charge set state = 'refunded' where order_id = $1)
		update account set balance = balance + $3 where customer = $2`, order, customer, amount)
	if err != nil {
		return fmt.Errorf("refund %s: %w", order, err)
	}
	return nil
}
