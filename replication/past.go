package replication

import (
	"context"
	"fmt"

	"github.com/outboxstream/streamer/internal/failure"
)

// longestName is NAMEDATALEN - 1, in bytes; PostgreSQL cuts longer names.
const longestName = 63

// RewindSlot is the name of the slot that stays behind a slot on purpose, so
// that the log of the time in between can be read again.
func RewindSlot(slot string) string { return suffixed(slot, "_rewind") }

// ReplaySlot is the name of the slot that a replay reads.
func ReplaySlot(slot string) string { return suffixed(slot, "_replay") }

// suffixed cuts a slot's name where the suffix would not fit.
func suffixed(slot, suffix string) string {
	return slot[:min(len(slot), longestName-len(suffix))] + suffix
}

// Of asks about another slot, over the same connection.
func (c *Control) Of(slot string) *Control {
	config := c.config
	config.Slot = slot
	return c.With(config)
}

// With asks with another configuration, over the same connection.
func (c *Control) With(config Config) *Control { return &Control{conn: c.conn, config: config} }

// Config is what the connection was opened with.
func (c *Control) Config() Config { return c.config }

// SlotName is the slot that is asked about.
func (c *Control) SlotName() string { return c.config.Slot }

// CopySlotSQL makes a slot that stands where another stands.
func CopySlotSQL(from, to string) string {
	return "SELECT pg_copy_logical_replication_slot(" + quoteLiteral(from) + ", " + quoteLiteral(to) + ")"
}

// CopySlot makes a slot that stands where this one stands; somebody may be
// reading this one.
func (c *Control) CopySlot(ctx context.Context, to string) error {
	if _, err := c.conn.Exec(ctx, CopySlotSQL(c.config.Slot, to)); err != nil {
		return explainCopy(fmt.Errorf("copy slot %q to %q: %w", c.config.Slot, to, err))
	}
	return nil
}

func explainCopy(err error) error {
	switch sqlState(err) {
	case "53400":
		return failure.Refuse(fmt.Errorf("%w: raise max_replication_slots and restart PostgreSQL, or drop a slot that nobody uses", err))
	case "42501":
		return failure.Refuse(fmt.Errorf("%w: ALTER ROLE … REPLICATION (on Amazon RDS: GRANT rds_replication TO …)", err))
	}
	return err
}

// AdvanceSlot moves the slot forward; what lies below cannot be read through it
// any more. The server reads the log in between for that.
func (c *Control) AdvanceSlot(ctx context.Context, to LSN) error {
	if _, err := c.conn.Exec(ctx, "select from pg_replication_slot_advance($1, $2::text::pg_lsn)", c.config.Slot, to.String()); err != nil {
		return fmt.Errorf("move %w", c.explainInUse(err))
	}
	return nil
}

// explainInUse names the slot, and tells that waiting helps where somebody uses
// it.
func (c *Control) explainInUse(err error) error {
	switch sqlState(err) {
	case "55006":
		return fmt.Errorf("slot %q: %w: %w", c.config.Slot, ErrSlotActive, err)
	case "42704":
		return fmt.Errorf("slot %q: %w: %w", c.config.Slot, ErrSlotMissing, err)
	}
	return fmt.Errorf("slot %q: %w", c.config.Slot, err)
}

// DropSlot drops the slot, and frees the log that it keeps.
func (c *Control) DropSlot(ctx context.Context) error {
	if _, err := c.conn.Exec(ctx, "select pg_drop_replication_slot($1)", c.config.Slot); err != nil {
		return fmt.Errorf("drop %w", c.explainInUse(err))
	}
	return nil
}
