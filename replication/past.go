package replication

import (
	"context"
	"fmt"

	"github.com/outboxstream/streamer/internal/failure"
)

// longestName is NAMEDATALEN - 1, in bytes; PostgreSQL truncates longer names.
const longestName = 63

// RewindSlot is the name of the slot that lags behind a slot on purpose, so
// that the WAL in between can be read again.
func RewindSlot(slot string) string { return suffixed(slot, "_rewind") }

// ReplaySlot is the name of the slot that a replay reads.
func ReplaySlot(slot string) string { return suffixed(slot, "_replay") }

// suffixed truncates a slot's name where the suffix would not fit.
func suffixed(slot, suffix string) string {
	return slot[:min(len(slot), longestName-len(suffix))] + suffix
}

// Of returns a Control for another slot, over the same connection.
func (c *Control) Of(slot string) *Control {
	config := c.config
	config.Slot = slot
	return c.With(config)
}

// With returns a Control with another configuration, over the same connection.
func (c *Control) With(config Config) *Control { return &Control{conn: c.conn, config: config} }

// Config is the configuration with which the connection was opened.
func (c *Control) Config() Config { return c.config }

// SlotName is the name of the configured slot.
func (c *Control) SlotName() string { return c.config.Slot }

// CopySlotSQL creates a slot at the position of another one.
func CopySlotSQL(from, to string) string {
	return "SELECT pg_copy_logical_replication_slot(" + quoteLiteral(from) + ", " + quoteLiteral(to) + ")"
}

// CopySlot creates a slot at the position of this one, which may be in use.
func (c *Control) CopySlot(ctx context.Context, to string) error {
	if _, err := c.conn.Exec(ctx, CopySlotSQL(c.config.Slot, to)); err != nil {
		return explainCopy(fmt.Errorf("copy slot %q to %q: %w", c.config.Slot, to, err))
	}
	return nil
}

func explainCopy(err error) error {
	switch sqlState(err) {
	case "53400":
		return failure.Refuse(failure.Advise(err, "raise max_replication_slots and restart PostgreSQL, or drop an unused slot"))
	case "42501":
		return failure.Refuse(failure.Advise(err, "ALTER ROLE … REPLICATION (on Amazon RDS: GRANT rds_replication TO …)"))
	}
	return err
}

// AdvanceSlot moves the slot forward. The WAL below the new position can no
// longer be read through the slot. The server reads the WAL in between for the
// move.
func (c *Control) AdvanceSlot(ctx context.Context, to LSN) error {
	if _, err := c.conn.Exec(ctx, "select from pg_replication_slot_advance($1, $2::text::pg_lsn)", c.config.Slot, to.String()); err != nil {
		return fmt.Errorf("move %w", c.explainInUse(err))
	}
	return nil
}

// explainInUse adds the slot's name, and says that waiting helps if the slot is
// in use.
func (c *Control) explainInUse(err error) error {
	switch sqlState(err) {
	case "55006":
		return fmt.Errorf("slot %q: %w: %w", c.config.Slot, ErrSlotActive, err)
	case "42704":
		return fmt.Errorf("slot %q: %w: %w", c.config.Slot, ErrSlotMissing, err)
	}
	return fmt.Errorf("slot %q: %w", c.config.Slot, err)
}

// DropSlot drops the slot and frees the WAL that it retains.
func (c *Control) DropSlot(ctx context.Context) error {
	if _, err := c.conn.Exec(ctx, "select pg_drop_replication_slot($1)", c.config.Slot); err != nil {
		return fmt.Errorf("drop %w", c.explainInUse(err))
	}
	return nil
}
