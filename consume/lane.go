package consume

import (
	"context"
	"math/rand/v2"
	"time"
)

// lane is a key's queue. Its events are handled one batch after the other.
type lane struct {
	partition *Partition
	key       string
	waiting   []*item // guarded by the partition's mu
	attempts  int     // failures of waiting[0] that count
	failures  int     // all of them
}

// work handles what waits in a lane until nothing does.
func (c *Consumer) work(l *lane) {
	p := l.partition
	for {
		batch := p.next(l, c.config.Batch)
		if batch == nil {
			return
		}
		if l.attempts > 0 {
			batch = batch[:1]
		}
		done, err := c.attempt(p, batch)
		p.done(l, batch[:done])
		if done > 0 {
			l.attempts, l.failures = 0, 0
		}
		if err != nil && !c.afterFailure(l, batch[done], err) {
			p.abandon(l)
			return
		}
	}
}

// attempt handles as many of a batch as it can. Where one fails, those before it
// are handled in a transaction without it. If it returns an error, batch[done] is
// the event that failed, or the one at which something else did.
func (c *Consumer) attempt(p *Partition, batch []*item) (done int, err error) {
	probe, err := c.gate.enter(p.soft)
	if err != nil {
		return 0, err
	}
	if probe {
		batch = batch[:1]
	}
	failed, err := c.transact(p, batch)
	what := natureOfBatch(p.hard, err)
	c.gate.leave(probe, err, what)
	switch {
	case err == nil:
		return len(batch), nil
	case failed <= 0, what != ofEvent && what != hopeless && what != passing:
		return 0, err
	}
	done, first := c.attempt(p, batch[:failed])
	if first != nil || done < failed {
		return done, first
	}
	return failed, err
}

// afterFailure waits before another attempt, or parks. It reports whether to go on.
func (c *Consumer) afterFailure(l *lane, i *item, err error) bool {
	p, what := l.partition, natureOfBatch(l.partition.hard, err)
	if p.soft.Err() != nil {
		return false
	}
	switch what {
	case cancelled:
		return false
	case ofSetup:
		c.fail(explain(err))
		return false
	case outage:
		return true // the gate waits
	case ofEvent, hopeless:
		l.attempts++
	}
	l.failures++
	c.config.Metrics.retried(c.config.Name, i.Topic)
	if what == hopeless || l.attempts >= c.config.Attempts {
		return c.parkFirst(l, i, err)
	}
	c.log.Warn("event failed", "record", i.String(), "id", i.id, "attempt", l.attempts, "of", c.config.Attempts, "error", err)
	return pause(p.soft, jittered(c.config.Backoff, l.failures))
}

// jittered returns the pause after so many failures: half of it is random.
func jittered(first time.Duration, failures int) time.Duration {
	longest := min(first<<min(failures-1, 20), 100*first)
	return longest/2 + rand.N(longest/2+1)
}

func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// natureOfBatch tells errors of the inbox's own statements from the handler's.
func natureOfBatch(ctx context.Context, err error) nature {
	if err == nil {
		return ofEvent
	}
	what := natureOf(ctx, err)
	if isOwn(err) && (what == ofEvent || what == hopeless) {
		return ofSetup
	}
	return what
}
