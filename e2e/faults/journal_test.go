package faults

import (
	"crypto/sha256"
	"sync"
)

// outcome is what a writer knows about one of its transactions.
type outcome int

const (
	pending    outcome = iota // not ended yet
	committed                 // the server has said so
	rolledBack                // the server has said so, or COMMIT was never sent
	unknown                   // the connection was lost during COMMIT
)

// event is one row that a writer has inserted into the outbox.
type event struct {
	aggregate   string
	seq         int64 // 1, 2, 3, … in commit order of the aggregate
	kind        string
	sum         [sha256.Size]byte // of the payload
	transaction *transaction
	withdrawn   bool // undone by ROLLBACK TO SAVEPOINT
}

// transaction is a writer's transaction with all its inserts. Only its writer
// touches it until it is settled. After that it does not change.
type transaction struct {
	token  string // its row in table commits
	events []string
	upper  lsn // its commit ends at or below this position; 0 while not known
	end    outcome
}

// journal is the ground truth: what the writers did, as they recorded it. Every
// event is noted before its transaction can commit. A record in Kafka that the
// journal does not know was never inserted.
type journal struct {
	mu      sync.Mutex
	events  map[string]*event // by event id
	settled []*transaction    // in no order
}

func newJournal() *journal { return &journal{events: map[string]*event{}} }

// note records an insert before its transaction ends.
func (j *journal) note(id string, e *event) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.events[id] = e
	e.transaction.events = append(e.transaction.events, id)
}

// withdraw records that inserts were undone while the transaction continues.
func (j *journal) withdraw(ids []string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, id := range ids {
		j.events[id].withdrawn = true
	}
}

// settle records how a transaction ended.
func (j *journal) settle(t *transaction, end outcome, upper lsn) {
	j.mu.Lock()
	defer j.mu.Unlock()
	t.end, t.upper = end, upper
	j.settled = append(j.settled, t)
}

// resolve gives every transaction the outcome that the rows of table commits
// show, once the writers have ended. It counts acknowledged commits that are
// not there. The database has lost them, which only a failover or a restore
// may do.
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

// truth calls do for each event that must be in Kafka.
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

// count returns the number of events that must be in Kafka so far.
func (j *journal) count() (n int) {
	j.truth(func(string, *event) { n++ })
	return n
}

// lookup returns the event of an id, or nil if no writer has inserted it, and
// whether the insert was certainly undone.
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
// position. Each id is returned only once.
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
