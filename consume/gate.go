package consume

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// gate is the circuit breaker: once something that all events need is down, it
// lets one event at a time through until it works again.
type gate struct {
	log     *slog.Logger
	metrics func(closed bool)
	first   time.Duration // pause before the first probe

	mu       sync.Mutex
	shut     bool
	probing  bool
	failures int
	until    time.Time     // no probe before
	changed  chan struct{} // closed whenever somebody may pass
}

func newGate(log *slog.Logger, first time.Duration, metrics func(closed bool)) *gate {
	return &gate{log: log, first: first, metrics: metrics, changed: make(chan struct{})}
}

// enter waits until an event may be tried. probe reports that it is the only one,
// and that the gate waits for its leave.
func (g *gate) enter(ctx context.Context) (probe bool, err error) {
	for {
		wait, changed, probe := g.ask()
		if changed == nil {
			return probe, ctx.Err()
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-changed:
		case <-ctx.Done():
			timer.Stop()
			return false, ctx.Err()
		}
		timer.Stop()
	}
}

// ask returns what to wait for, or no channel if there is no need to wait.
func (g *gate) ask() (wait time.Duration, changed chan struct{}, probe bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch wait = time.Until(g.until); {
	case !g.shut:
		return 0, nil, false
	case g.probing:
		return time.Hour, g.changed, false
	case wait > 0:
		return wait, g.changed, false
	}
	g.probing = true
	return 0, nil, true
}

// leave tells how it went.
func (g *gate) leave(probe bool, err error, what nature) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if probe {
		g.probing = false
	}
	switch {
	case what == outage && err != nil && (probe || !g.shut):
		if !g.shut {
			g.metrics(true)
		}
		g.shut = true
		g.failures++
		wait := jittered(g.first, g.failures)
		g.until = time.Now().Add(wait)
		g.log.Warn("unavailable: everything waits, and one event at a time is tried", "failures", g.failures, "again_in", wait.Round(time.Millisecond), "error", err)
	case probe && what != cancelled:
		g.shut, g.failures = false, 0
		g.metrics(false)
		g.log.Info("available again")
	case !probe:
		return
	}
	close(g.changed)
	g.changed = make(chan struct{})
}
