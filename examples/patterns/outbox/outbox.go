package outbox

import (
	"context"
	_ "embed"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// Schema creates the table.
//
//go:embed schema.sql
var Schema string

// Write adds an event about an aggregate. data is what becomes its JSON.
func Write(ctx context.Context, tx pgx.Tx, aggregateType, aggregateID, eventType string, data any) error {
	_, err := tx.Exec(ctx, "insert into outbox (aggregatetype, aggregateid, type, payload) values ($1, $2, $3, $4)",
		aggregateType, aggregateID, eventType, data)
	if err != nil {
		return fmt.Errorf("write event %s of %s: %w", eventType, aggregateID, err)
	}
	return nil
}
