package shop

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
)

// The states of an order, and the last word of its event types.
const (
	statusPlaced    = "placed"
	statusPaid      = "paid"
	statusShipped   = "shipped"
	statusCancelled = "cancelled"
)

// kind is the kind of a task.
type kind int

const (
	registering kind = iota // all customers of the run
	placing                 // a new order
	advancing               // an order, one step further
)

// task is one transaction to do.
type task struct {
	kind       kind
	orderID    string
	customerID string

	customerIDs []string // only for registering
}

// board tells connections what to do next. It is safe for concurrent use. Two
// connections may work on the same order: the row lock decides which is first,
// and the status in the row says what is to be done.
type board struct {
	mutex     sync.Mutex
	run       string // part of all identifiers; distinguishes this run's orders from those of other runs
	customers []string
	toPlace   int // orders still to be placed; negative: endless
	placed    int // order numbers given out
	open      []task
	maxOpen   int
}

func newBoard(run string, cfg Config) *board {
	b := &board{run: run, toPlace: cfg.Orders, maxOpen: 4 * cfg.Connections}
	if cfg.Orders == 0 {
		b.toPlace = -1
	}
	for n := range cfg.Customers {
		b.customers = append(b.customers, fmt.Sprintf("customer-%s-%d", run, n+1))
	}
	return b
}

// registration is the task that comes before all others.
func (b *board) registration() task {
	return task{kind: registering, customerIDs: b.customers}
}

// next returns a task, or false if nothing is left that no other connection is
// doing already.
func (b *board) next(random *rand.Rand) (task, bool) {
	b.mutex.Lock()
	defer b.mutex.Unlock()

	place := b.toPlace != 0 && len(b.open) < b.maxOpen && (len(b.open) == 0 || random.IntN(3) == 0)
	if !place {
		if len(b.open) == 0 {
			return task{}, false
		}
		return b.open[random.IntN(len(b.open))], true
	}
	b.placed++
	if b.toPlace > 0 {
		b.toPlace--
	}
	return task{
		kind:       placing,
		orderID:    fmt.Sprintf("order-%s-%d", b.run, b.placed),
		customerID: b.customers[random.IntN(len(b.customers))],
	}, true
}

// done reports to the board how a task ended: with the order in this status,
// or, if committed is false, with nothing changed.
func (b *board) done(t task, status string, committed bool) {
	b.mutex.Lock()
	defer b.mutex.Unlock()

	switch {
	case t.kind == placing && committed:
		t.kind = advancing
		b.open = append(b.open, t)
	case t.kind == placing && b.toPlace >= 0:
		b.toPlace++ // another order is placed instead
	case committed && (status == statusShipped || status == statusCancelled):
		b.open = slices.DeleteFunc(b.open, func(o task) bool { return o.orderID == t.orderID })
	}
}

// unfinished reports whether there are orders to place or to complete.
func (b *board) unfinished() bool {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	return b.toPlace != 0 || len(b.open) > 0
}
