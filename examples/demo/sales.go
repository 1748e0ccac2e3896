package main

import (
	"context"
	"fmt"
	"sync/atomic"

	"github.com/outboxstream/streamer/examples/shop"
)

// sales is the shop while it is open.
type sales struct {
	cancel   context.CancelFunc
	progress atomic.Pointer[shop.Progress]

	ended  chan struct{}
	ledger shop.Ledger // read this and err only after ended is closed
	err    error
}

// openShop opens the shop, which stays open until it is closed.
func (d *demo) openShop(ctx context.Context) *sales {
	ctx, cancel := context.WithCancel(ctx)
	s := &sales{cancel: cancel, ended: make(chan struct{})}
	s.progress.Store(&shop.Progress{})
	cfg := shop.Config{
		DSN: d.dsn, Connections: d.connections, Rate: d.rate, RollbackShare: rollbackShare,
		Progress: func(p shop.Progress) { s.progress.Store(&p) },
	}
	d.screen.event(
		bold,
		"the shop is open: %d connections commit orders together with their outbox rows, and roll back one in ten",
		d.connections,
	)
	go func() {
		defer close(s.ended)
		s.ledger, s.err = shop.Run(ctx, cfg)
	}()
	return s
}

// close closes the shop and waits until the last transaction is done.
func (s *sales) close() {
	s.cancel()
	<-s.ended
}

// now returns what has been done so far.
func (s *sales) now() shop.Progress { return *s.progress.Load() }

func (s *sales) summary() string {
	p := s.now()
	return fmt.Sprintf("%s transactions committed, %s rolled back, %s events", grouped(p.Committed), grouped(p.RolledBack), grouped(p.Events))
}
