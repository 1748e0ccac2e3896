package shop

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	mathrand "math/rand/v2"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// outcome is how a transaction ended.
type outcome int

const (
	rolledBack outcome = iota
	committed
	unknown  // COMMIT was sent and not answered
	needless // another connection had completed the order; nothing was written
)

// result is what is known about one transaction.
type result struct {
	Transaction

	outcome outcome
	status  string // of the order, if committed or needless
}

// payload is the content of the events. Version lets a consumer check the
// order.
type payload struct {
	Version     int64  `json:"version"`
	OrderID     string `json:"order_id,omitempty"`
	CustomerID  string `json:"customer_id"`
	Status      string `json:"status,omitempty"`
	AmountCents int64  `json:"amount_cents,omitempty"`
}

// writer is one transaction in progress: the changes go to the tables, the
// events to the outbox.
type writer struct {
	tx          pgx.Tx
	random      *mathrand.Rand
	traceparent string
	result      result
}

// perform does a task in one transaction, which is rolled back at the end if
// abandon is set. The error, if any, is why the outcome is not the desired one.
func perform(ctx context.Context, conn *pgx.Conn, t task, random *mathrand.Rand, abandon bool) (result, error) {
	tx, err := conn.Begin(ctx)
	if err != nil {
		return result{}, fmt.Errorf("begin: %w", err)
	}
	w := writer{tx: tx, random: random, traceparent: newTraceparent()}
	switch t.kind {
	case registering:
		err = w.register(ctx, t)
	case placing:
		err = w.place(ctx, t)
	case advancing:
		err = w.advance(ctx, t)
	}
	if err != nil || abandon || w.result.outcome == needless {
		// Without an answer to the ROLLBACK the connection is abandoned, and the
		// server rolls back.
		return w.result, errors.Join(err, tx.Rollback(ctx))
	}
	w.result.outcome = committed
	if err := tx.Commit(ctx); err != nil {
		w.result.outcome = unknown
		return w.result, fmt.Errorf("commit: %w", err)
	}
	return w.result, nil
}

// register inserts all customers of the run.
func (w *writer) register(ctx context.Context, t task) error {
	for _, id := range t.customerIDs {
		_, err := w.tx.Exec(ctx, `INSERT INTO customers (id, version) VALUES ($1, 1)`, id)
		if err != nil {
			return fmt.Errorf("insert customer %s: %w", id, err)
		}
		if err := w.customerEvent(ctx, task{customerID: id}, "customer.registered", 1); err != nil {
			return err
		}
	}
	return nil
}

// place inserts a new order.
func (w *writer) place(ctx context.Context, task task) error {
	amount := 100 + w.random.Int64N(50_000)
	customerVersion, err := w.nextCustomerVersion(ctx, task.customerID)
	if err != nil {
		return err
	}
	_, err = w.tx.Exec(ctx,
		`INSERT INTO orders (id, customer_id, status, amount_cents, version) VALUES ($1, $2, $3, $4, 1)`,
		task.orderID, task.customerID, statusPlaced, amount)
	if err != nil {
		return fmt.Errorf("insert order %s: %w", task.orderID, err)
	}
	w.result.status = statusPlaced

	if err := w.orderEvent(ctx, task, payload{Version: 1, AmountCents: amount}); err != nil {
		return err
	}
	return w.customerEvent(ctx, task, "customer.order_placed", customerVersion)
}

// advance takes an order one step further, whatever its current status.
func (w *writer) advance(ctx context.Context, task task) error {
	var told payload
	err := w.tx.QueryRow(ctx, `SELECT status, version, amount_cents FROM orders WHERE id = $1 FOR UPDATE`, task.orderID).
		Scan(&w.result.status, &told.Version, &told.AmountCents)
	if err != nil {
		return fmt.Errorf("lock order %s: %w", task.orderID, err)
	}
	next, open := w.nextStatus()
	if !open {
		w.result.outcome = needless
		return nil
	}
	w.result.status = next
	told.Version++
	_, err = w.tx.Exec(ctx, `UPDATE orders SET status = $2, version = $3 WHERE id = $1`, task.orderID, next, told.Version)
	if err != nil {
		return fmt.Errorf("update order %s: %w", task.orderID, err)
	}
	if err := w.orderEvent(ctx, task, told); err != nil {
		return err
	}
	if next == statusPaid {
		return nil
	}
	customerVersion, err := w.nextCustomerVersion(ctx, task.customerID)
	if err != nil {
		return err
	}
	return w.customerEvent(ctx, task, "customer.order_closed", customerVersion)
}

func (w *writer) nextStatus() (next string, open bool) {
	switch w.result.status {
	case statusPlaced, statusPaid:
		if w.random.IntN(8) == 0 {
			return statusCancelled, true
		}
		if w.result.status == statusPlaced {
			return statusPaid, true
		}
		return statusShipped, true
	default:
		return "", false
	}
}

// nextCustomerVersion counts the customer's events. Like SELECT … FOR UPDATE,
// the UPDATE takes the row lock before it reads the version that it increments.
func (w *writer) nextCustomerVersion(ctx context.Context, customerID string) (int64, error) {
	var version int64
	err := w.tx.QueryRow(ctx, `UPDATE customers SET version = version + 1 WHERE id = $1 RETURNING version`, customerID).
		Scan(&version)
	if err != nil {
		return 0, fmt.Errorf("lock customer %s: %w", customerID, err)
	}
	return version, nil
}

func (w *writer) orderEvent(ctx context.Context, task task, told payload) error {
	told.OrderID, told.CustomerID, told.Status = task.orderID, task.customerID, w.result.status
	return w.tell(ctx, Aggregate{Type: "order", ID: task.orderID}, "order."+w.result.status, told)
}

func (w *writer) customerEvent(ctx context.Context, task task, eventType string, version int64) error {
	told := payload{Version: version, OrderID: task.orderID, CustomerID: task.customerID}
	return w.tell(ctx, Aggregate{Type: "customer", ID: task.customerID}, eventType, told)
}

// tell inserts an outbox row. The shop creates the ID, so that it knows the ID
// even when the transaction's outcome is unknown.
func (w *writer) tell(ctx context.Context, aggregate Aggregate, eventType string, told payload) error {
	id, err := uuid.NewRandom()
	if err != nil {
		return fmt.Errorf("make an event id: %w", err)
	}
	body, err := json.Marshal(told)
	if err != nil {
		return fmt.Errorf("encode payload of event %s: %w", id, err)
	}
	w.result.Events = append(w.result.Events, Event{
		ID: id, AggregateType: aggregate.Type, AggregateID: aggregate.ID, Type: eventType, Version: told.Version,
	})
	_, err = w.tx.Exec(ctx,
		`INSERT INTO outbox (id, aggregatetype, aggregateid, type, payload, traceparent) VALUES ($1, $2, $3, $4, $5, $6)`,
		id, aggregate.Type, aggregate.ID, eventType, body, w.traceparent)
	if err != nil {
		return fmt.Errorf("insert outbox row %s: %w", id, err)
	}
	return nil
}

// newTraceparent creates the trace context (W3C Trace Context, version 00,
// sampled) that a real service would take from the request that it serves.
func newTraceparent() string {
	var id [24]byte
	_, _ = rand.Read(id[:]) // never fails, as its documentation promises
	return "00-" + hex.EncodeToString(id[:16]) + "-" + hex.EncodeToString(id[16:]) + "-01"
}
