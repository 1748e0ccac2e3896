package warehouse

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

// Reserve puts goods aside for an order, or reports that there are not enough.
func Reserve(ctx context.Context, tx pgx.Tx, order, item string, quantity int64) (reserved bool, err error) {
	taken, err := tx.Exec(ctx, "update item set available = available - $2 where name = $1 and available >= $2", item, quantity)
	if err != nil {
		return false, fmt.Errorf("take goods for %s: %w", order, err)
	}
	state := "refused"
	if taken.RowsAffected() == 1 {
		state = "reserved"
	}
	_, err = tx.Exec(ctx, "insert into reservation (order_id, item, quantity, state) values ($1, $2, $3, $4)", order, item, quantity, state)
	if err != nil {
		return false, fmt.Errorf("note the reservation for %s: %w", order, err)
	}
	return state == "reserved", nil
}

// Release puts the goods of an order back, if they were reserved.
func Release(ctx context.Context, tx pgx.Tx, order string) error {
	_, err := tx.Exec(ctx, `with released as (
			update reservation set state = 'released' where order_id = $1 and state = 'reserved' returning item, quantity)
		update item set available = available + released.quantity from released where item.name = released.item`, order)
	if err != nil {
		return fmt.Errorf("release the goods of %s: %w", order, err)
	}
	return nil
}
