package faults

import (
	"crypto/sha256"
	"sync"
)

// outcome is what a writer knows about one of its transactions.
type outcome int

const (
	pending    outcome = iota // not at its end yet
	committed                 // the server has said so
	rolledBack                // the server has said so, or COMMIT was never sent
	unknown                   // the connection was lost during COMMIT
)

// event is one row a writer has inserted into the outbox.
type event struct {
	aggregate   string
	seq         int64 // 1, 2, 3, … in commit order of the aggregate
	kind        string
	sum         [sha256.Size]byte // of the payload
	transaction *transaction
	withdrawn   bool // undone by ROLLBACK TO SAVEPOINT
}

// transaction is a writer's transaction with all it has inserted. Only its
// writer touches it until it is settled; then it does not change any more.
type transaction struct {
	token  string // its row in table commits
	events []string
	upper  lsn // its commit ends at or below; 0 while not known
	end    outcome
}

// journal is the ground truth: what the writers did, in their own words. Every
// event is noted before its transaction can commit, so a record in Kafka that
// the journal does not know was never inserted.
type journal struct {
	mu      sync.Mutex
	events  map[string]*event // by event id
	settled []*transaction    // in no order
}

func newJournal() *journal { return &journal{events: map[string]*event{}} }

// note takes down an insert before its transaction ends.
func (j *journal) note(id string, e *event) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.events[id] = e
	e.transaction.events = append(e.transaction.events, id)
}

// withdraw notes that inserts were undone while the transaction goes on.
func (j *journal) withdraw(ids []string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, id := range ids {
		j.events[id].withdrawn = true
	}
}

// settle notes how a transaction ended.
func (j *journal) settle(t *transaction, end outcome, upper lsn) {
	j.mu.Lock()
	defer j.mu.Unlock()
	t.end, t.upper = end, upper
	j.settled = append(j.settled, t)
}

// resolve gives every transaction the outcome that the database shows, once
// nobody writes any more: by the rows of table commits. A commit that was
// acknowledged and is not there is counted: the database has lost it, which
// only a fail-over or a restore may do.
func (j *journal) resolve(present map[string]bool, end lsn) (lostByDatabase int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, t := range j.settled {
		switch {
		case present[t.token]:
			t.end = committed
			if t.upper == 0 {
				t.upper = end
			}
		case t.end == committed:
			lostByDatabase++
			t.end = rolledBack
		default:
			t.end = rolledBack
		}
	}
	return lostByDatabase
}

// truth calls do for each event that shall be in Kafka.
func (j *journal) truth(do func(id string, e *event)) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, t := range j.settled {
		if t.end != committed {
			continue
		}
		for _, id := range t.events {
			if e := j.events[id]; !e.withdrawn {
				do(id, e)
			}
		}
	}
}

// count is the number of events that shall be in Kafka so far.
func (j *journal) count() (n int) {
	j.truth(func(string, *event) { n++ })
	return n
}

// lookup returns the event of an id, nil if nobody has inserted it, and
// whether it was undone for sure.
func (j *journal) lookup(id string) (e *event, undone bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	e = j.events[id]
	if e == nil {
		return nil, false
	}
	return e, e.withdrawn || e.transaction.end == rolledBack
}

// upTo returns the ids of committed events whose commit ends at or below a
// position, and forgets that it has: each is returned once.
func (j *journal) upTo(position lsn, already map[*transaction]bool) (ids []string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, t := range j.settled {
		if t.end != committed || t.upper == 0 || t.upper > position || already[t] {
			continue
		}
		already[t] = true
		for _, id := range t.events {
			if !j.events[id].withdrawn {
				ids = append(ids, id)
			}
		}
	}
	return ids
}
