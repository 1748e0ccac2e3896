package workload

import (
	"context"
	_ "embed"
	"fmt"

	"github.com/jackc/pgx/v5"
)

//go:embed schema.sql
var schema string

// overhead is roughly by how much a payload is longer than its filler.
const overhead = 110

// Prepare creates the tables and the publication of the workload in a new
// database.
func (w Workload) Prepare(ctx context.Context, conn *pgx.Conn) error {
	if _, err := conn.Exec(ctx, schema); err != nil {
		return fmt.Errorf("create the schema of workload %s: %w", w.Name, err)
	}
	_, err := conn.Exec(ctx, "INSERT INTO filler SELECT n, random_text('seed' || n, $1) FROM generate_series(0, 1023) n",
		max(0, w.PayloadBytes-overhead))
	if err != nil {
		return fmt.Errorf("create the fillers of workload %s: %w", w.Name, err)
	}
	if _, err := conn.Exec(ctx, "ANALYZE filler"); err != nil {
		return fmt.Errorf("analyze the fillers of workload %s: %w", w.Name, err)
	}
	return nil
}

// Load writes all rows of a catch-up and returns the end of the WAL after it.
func (w Workload) Load(ctx context.Context, conn *pgx.Conn) (end string, err error) {
	_, err = conn.Exec(ctx, "CALL write_load($1, $2, $3, $4)", w.Rows, w.PerTransaction, w.OthersPerRow, w.Types)
	if err != nil {
		return "", fmt.Errorf("write workload %s: %w", w.Name, err)
	}
	if err := conn.QueryRow(ctx, "SELECT pg_current_wal_flush_lsn()::text").Scan(&end); err != nil {
		return "", fmt.Errorf("end of the log: %w", err)
	}
	return end, nil
}
