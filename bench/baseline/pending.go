package main

import (
	"context"
	"fmt"
	"sync"

	"github.com/IBM/sarama"
	"github.com/jackc/pglogrepl"
)

// transaction counts its records that are not acknowledged yet.
type transaction struct {
	open int
	end  pglogrepl.LSN // 0: not read to its end yet
}

// pending are the transactions that are not acknowledged yet, in commit order.
type pending struct {
	mu           sync.Mutex
	transactions []*transaction
	position     pglogrepl.LSN // the end of the last completed transaction
}

// add counts a record of the transaction.
func (p *pending) add(t *transaction) {
	p.mu.Lock()
	defer p.mu.Unlock()
	t.open++
}

// end records that all records of the transaction have been added.
func (p *pending) end(t *transaction, end pglogrepl.LSN) {
	p.mu.Lock()
	defer p.mu.Unlock()
	t.end = end
	p.transactions = append(p.transactions, t)
}

// confirmed returns the position up to which everything is acknowledged.
func (p *pending) confirmed() pglogrepl.LSN {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.transactions) > 0 && p.transactions[0].open == 0 {
		p.position = p.transactions[0].end
		p.transactions = p.transactions[1:]
	}
	return p.position
}

// collect takes the producer's results until it is closed. The first failure
// ends the program.
func (p *pending) collect(producer sarama.AsyncProducer, fail context.CancelCauseFunc) {
	failures := producer.Errors()
	for successes := producer.Successes(); successes != nil; {
		select {
		case record, ok := <-successes:
			if !ok {
				successes = nil
				continue
			}
			p.mu.Lock()
			record.Metadata.(*transaction).open--
			p.mu.Unlock()
		case failure, ok := <-failures:
			if !ok {
				failures = nil
				continue
			}
			fail(fmt.Errorf("produce: %w", failure))
		}
	}
}
