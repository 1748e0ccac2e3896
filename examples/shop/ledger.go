package shop

import (
	"cmp"
	"slices"
	"sync"

	"github.com/google/uuid"
)

// Event is one row of the outbox, as the shop wrote it.
type Event struct {
	ID            uuid.UUID // column id, created by the shop; the ID of the CloudEvent
	AggregateType string    // "order" or "customer"
	AggregateID   string
	Type          string // such as "order.placed"
	Version       int64  // position among the events of its aggregate, from 1; also in the payload
}

// Aggregate names one order or one customer.
type Aggregate struct {
	Type string
	ID   string
}

// Transaction is what one transaction wrote to the outbox, in the order of writing.
type Transaction struct {
	Events []Event
}

// Ledger is the ground truth of one [Run]. Every transaction that wrote to the
// outbox is in exactly one of its three lists. The lists are not in commit
// order, except among transactions that share an aggregate: for them, the
// versions are the order.
//
// A commit counts when the server reports it. With synchronous_commit=off a
// crashing server forgets commits that it has reported, and the ledger is
// wrong.
type Ledger struct {
	Committed  []Transaction
	RolledBack []Transaction // on purpose, or because the server or the connection ended them

	// Unresolved are transactions whose COMMIT was sent, was not answered, and
	// could not be looked up before Run returned. In that case Run reports an
	// error.
	Unresolved []Transaction
}

// ByAggregate returns the committed events of every aggregate in the order of
// their versions, which is their commit order.
func (l *Ledger) ByAggregate() map[Aggregate][]Event {
	events := make(map[Aggregate][]Event)
	for _, transaction := range l.Committed {
		for _, event := range transaction.Events {
			aggregate := Aggregate{Type: event.AggregateType, ID: event.AggregateID}
			events[aggregate] = append(events[aggregate], event)
		}
	}
	for _, list := range events {
		slices.SortFunc(list, func(a, b Event) int { return cmp.Compare(a.Version, b.Version) })
	}
	return events
}

// Progress counts what a [Run] has done so far.
type Progress struct {
	Placed     int // orders whose placing was committed
	Committed  int // transactions
	RolledBack int // transactions
	Events     int // outbox rows committed
}

// book fills in the ledger. It is safe for concurrent use.
type book struct {
	mutex     sync.Mutex
	countOnly bool
	report    func(Progress) // may be nil
	progress  Progress
	ledger    Ledger
}

func (b *book) enter(t task, done result) {
	if len(done.Events) == 0 {
		return // nothing was written to the outbox
	}
	b.mutex.Lock()
	defer b.mutex.Unlock()

	list := &b.ledger.RolledBack
	switch done.outcome {
	case committed:
		list = &b.ledger.Committed
		b.progress.Committed++
		b.progress.Events += len(done.Events)
		if t.kind == placing {
			b.progress.Placed++
		}
	case unknown:
		list = &b.ledger.Unresolved
	case rolledBack, needless:
		b.progress.RolledBack++
	}
	if !b.countOnly {
		*list = append(*list, done.Transaction)
	}
	if b.report != nil {
		b.report(b.progress)
	}
}
