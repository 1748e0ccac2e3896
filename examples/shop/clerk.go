package shop

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
)

// transactionLimit ends a transaction that is stuck, for instance on a lock.
const transactionLimit = 30 * time.Second

// clerk does one transaction after the other over its own connection. It is not
// for concurrent use.
type clerk struct {
	connConfig    *pgx.ConnConfig
	conn          *pgx.Conn // nil before the first transaction
	random        *rand.Rand
	rollbackShare float64
	board         *board
	book          *book
}

// registerCustomers inserts the customers of this run. They must exist before
// the first order, so nothing is abandoned here.
func (c *clerk) registerCustomers(ctx context.Context) error {
	for {
		if err := c.ensureConnected(ctx); err != nil {
			return err
		}
		result, err := c.do(ctx, c.board.registration(), false)
		if err != nil || result == committed {
			return err
		}
	}
}

// work does what the board says until nothing is left or ctx ends. If there is
// a pace, each transaction waits for it before it begins.
func (c *clerk) work(ctx context.Context, pace <-chan time.Time) error {
	for mayBegin(ctx, pace) {
		if err := c.ensureConnected(ctx); err != nil {
			return unlessClosed(ctx, err)
		}
		t, found := c.board.next(c.random)
		if !found {
			return nil
		}
		if _, err := c.do(ctx, t, c.random.Float64() < c.rollbackShare); err != nil {
			return err
		}
	}
	return nil
}

// unlessClosed drops the reason for a missing connection when none is needed
// any more.
func unlessClosed(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil //nolint:nilerr // closing time is no problem
	}
	return err
}

// mayBegin waits for the pace, if there is one, and returns false when ctx has
// ended.
func mayBegin(ctx context.Context, pace <-chan time.Time) bool {
	if pace != nil {
		select {
		case <-pace:
		case <-ctx.Done():
		}
	}
	return ctx.Err() == nil
}

// do performs a task over the open connection, finds out how it ended, and
// books the outcome. An error means that this clerk cannot go on; what it did
// is booked nevertheless.
func (c *clerk) do(ctx context.Context, t task, abandon bool) (outcome, error) {
	// A transaction that has begun is finished, even if the shop closes meanwhile.
	limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), transactionLimit)
	defer cancel()
	done, err := perform(limited, c.conn, t, c.random, abandon)
	if err != nil && (c.conn.IsClosed() || curable(err)) {
		err = nil
	}
	if done.outcome == unknown {
		done.outcome, err = c.resolve(context.WithoutCancel(ctx), done.Events)
	}
	c.board.done(t, done.status, done.outcome == committed || done.outcome == needless)
	c.book.enter(t, done)
	return done.outcome, err
}

// resolve finds out what became of a transaction whose COMMIT was not answered.
//
// It inserts one of the transaction's outbox rows again. If the server is still
// working on that COMMIT, the insert waits for it at the primary key; afterwards
// the row is there, or it is not. What resolve inserts is always rolled back.
func (c *clerk) resolve(ctx context.Context, events []Event) (outcome, error) {
	for {
		if err := c.ensureConnected(ctx); err != nil {
			return unknown, fmt.Errorf("outcome of a transaction is unknown: %w", err)
		}
		limited, cancel := context.WithTimeout(ctx, transactionLimit)
		free, err := insertable(limited, c.conn, events[0])
		cancel()
		switch {
		case err == nil && free:
			return rolledBack, nil
		case err == nil:
			return committed, nil
		case !c.conn.IsClosed() && !curable(err):
			return unknown, fmt.Errorf("look up event %s: %w", events[0].ID, err)
		}
	}
}

// insertable reports whether the outbox has no row with the ID of the event.
func insertable(ctx context.Context, conn *pgx.Conn, event Event) (bool, error) {
	tx, err := conn.Begin(ctx)
	if err != nil {
		return false, err
	}
	tag, err := tx.Exec(ctx,
		`INSERT INTO outbox (id, aggregatetype, aggregateid, type) VALUES ($1, $2, $3, $4) ON CONFLICT (id) DO NOTHING`,
		event.ID, event.AggregateType, event.AggregateID, event.Type)
	if err = errors.Join(err, tx.Rollback(ctx)); err != nil {
		return false, err
	}
	return tag.RowsAffected() == 1, nil
}
