package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// copySlot lets the server decode the WAL in SQL and discards what it sends.
func copySlot(ctx context.Context, o options) (err error) {
	conn, err := pgconn.Connect(ctx, o.dsn)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer func() { err = errors.Join(err, conn.Close(context.WithoutCancel(ctx))) }()
	function, changes := "pg_logical_slot_peek_binary_changes", "NULL"
	if o.changes > 0 {
		function, changes = "pg_logical_slot_get_binary_changes", strconv.Itoa(o.changes)
	}
	sql := fmt.Sprintf("COPY (SELECT data FROM %s(%s, %s, %s, 'proto_version', '1', 'publication_names', %s)) TO STDOUT (FORMAT binary)",
		function, quote(o.slot), quote(o.end), changes, quote(o.publication))
	for {
		tag, err := conn.CopyTo(ctx, nothing{}, sql)
		if err != nil {
			return fmt.Errorf("copy from slot %q: %w", o.slot, err)
		}
		if o.changes == 0 || tag.RowsAffected() == 0 {
			return nil
		}
	}
}

// nothing is io.Discard without the detour over a pool of buffers.
type nothing struct{}

func (nothing) Write(p []byte) (int, error) { return len(p), nil }

func quote(text string) string { return "'" + strings.ReplaceAll(text, "'", "''") + "'" }
