package consume

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// transact claims a batch, handles what is fresh, and commits, or does nothing.
// failed is the index of the event because of which it did nothing, -1 if it was
// none of them.
func (c *Consumer) transact(p *Partition, batch []*item) (failed int, err error) {
	if err := c.slots.Acquire(p.soft, 1); err != nil {
		return -1, err
	}
	ctx := p.hard
	defer c.slots.Release(1)
	t, err := c.database.begin(ctx)
	if err != nil {
		return -1, Unavailable(fmt.Errorf("begin a transaction: %w", err))
	}
	defer t.abort(ctx)
	begun := time.Now()
	guarded := len(batch) > 1
	judged, err := take(ctx, t, c.number, batch, guarded)
	if err != nil {
		return -1, fmt.Errorf("claim %s: %w", batch[0], err)
	}
	fresh := 0
	for n, i := range batch {
		if !judged.fresh[n] {
			continue
		}
		fresh++
		if err := c.settle(ctx, t, i, judged.parked); err != nil {
			return n, fmt.Errorf("handle %s: %w", i, err)
		}
	}
	if fresh == 0 {
		c.count(batch, judged, begun)
		return -1, nil // nothing to commit
	}
	if err := t.seal(ctx, judged.number, guarded); err != nil {
		return c.blame(batch), fmt.Errorf("commit %s: %w", batch[0], err)
	}
	c.count(batch, judged, begun)
	return -1, nil
}

// blame returns which event of a batch is tried alone after a failed commit. A
// deferred constraint does not say whose row it refuses.
func (c *Consumer) blame(batch []*item) int {
	if len(batch) == 1 {
		return 0
	}
	return len(batch) / 2
}

// settle handles an event, or puts it behind those of its key that are parked.
func (c *Consumer) settle(ctx context.Context, t transaction, i *item, behind bool) error {
	switch {
	case behind:
		return own(park(ctx, t, c.number, i))
	case i.invalid != nil:
		return Unhandleable(i.invalid)
	}
	return c.call(ctx, t, i)
}

func (c *Consumer) count(batch []*item, judged taken, begun time.Time) {
	m, name := c.config.Metrics, c.config.Name
	for n, i := range batch {
		switch {
		case !judged.fresh[n]:
			m.repeated(name, i.Topic)
		case judged.parked:
			m.parked(name, i.Topic)
		default:
			m.handled(name, i.Topic)
		}
	}
	m.took(name, batch[0].Topic, time.Since(begun))
}

func own(err error) error {
	if err == nil {
		return nil
	}
	return &ownError{err}
}

func isOwn(err error) bool {
	_, found := errors.AsType[*ownError](err)
	return found
}
