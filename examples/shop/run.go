package shop

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/google/uuid"
)

// Run keeps the shop open until cfg.Orders orders are placed and completed, or,
// if that is 0, until ctx ends. The tables of [Schema] must exist. When ctx
// ends, transactions that have begun are finished first.
//
// A lost connection is replaced, and the ledger records what became of its
// transaction. Run gives up, with an error and the ledger so far, in these
// cases:
//   - The server cannot be reached at first, or for 30 seconds later.
//   - The server answers with an error that retrying does not cure.
//   - ctx ends before all orders are done.
func Run(ctx context.Context, cfg Config) (Ledger, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return Ledger{}, fmt.Errorf("shop configuration: %w", err)
	}
	connConfig, err := parseDSN(cfg.DSN)
	if err != nil {
		return Ledger{}, err
	}
	book := &book{countOnly: cfg.CountOnly, report: cfg.Progress}
	board := newBoard(uuid.NewString()[:8], cfg)
	clerks := make([]*clerk, cfg.Connections)
	for n := range clerks {
		clerks[n] = &clerk{
			connConfig:    connConfig,
			random:        rand.New(rand.NewPCG(cfg.Seed, uint64(n))),
			rollbackShare: cfg.RollbackShare,
			board:         board,
			book:          book,
		}
	}
	err = open(ctx, cfg.Rate, clerks)
	if err == nil && cfg.Orders > 0 && board.unfinished() {
		err = fmt.Errorf("shop closed before all orders were done: %w", context.Cause(ctx))
	}
	return book.ledger, err
}

// open lets the clerks work until everything is done, ctx ends, or one of them
// cannot go on.
func open(ctx context.Context, rate float64, clerks []*clerk) error {
	var pace <-chan time.Time
	if rate > 0 {
		ticker := time.NewTicker(time.Duration(float64(time.Second) / rate))
		defer ticker.Stop()
		pace = ticker.C
	}
	working, stop := context.WithCancelCause(ctx)
	defer stop(nil)

	if err := clerks[0].registerCustomers(working); err != nil {
		return errors.Join(err, clerks[0].hangUp(ctx))
	}
	problems := make([]error, len(clerks))
	var waiting sync.WaitGroup
	for n, clerk := range clerks {
		waiting.Go(func() {
			problems[n] = clerk.work(working, pace)
			if problems[n] != nil {
				stop(problems[n])
			}
			problems[n] = errors.Join(problems[n], clerk.hangUp(ctx))
		})
	}
	waiting.Wait()
	return errors.Join(problems...)
}
