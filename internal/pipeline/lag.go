package pipeline

import (
	"sync"
	"time"
)

// freshFor is how long one observation that nothing was waiting counts. The
// watching goroutine looks at the slot more often than that.
const freshFor = 3 * pingEvery

// lag tracks the age of the oldest commit that is not yet in Kafka. Commit
// times are the server's, so a difference between the clocks shows in the lag.
type lag struct {
	mu      sync.Mutex
	upTo    time.Time // every commit before it has been published; zero: unknown
	atEnd   time.Time // when nothing was last waiting, by the local clock
	waiting bool      // something is in flight
}

// published notes that every commit before upTo is in Kafka, and whether later
// ones are in flight.
func (l *lag) published(upTo time.Time, inFlight bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if upTo.After(l.upTo) {
		l.upTo = upTo
	}
	l.waiting = inFlight
}

// reachedEnd notes that everything in the server's WAL at that moment has been
// read.
func (l *lag) reachedEnd(at time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.atEnd = at
	if !l.waiting && at.After(l.upTo) {
		l.upTo = at
	}
}

// forget is for an instance that no longer streams.
func (l *lag) forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.upTo, l.atEnd, l.waiting = time.Time{}, time.Time{}, false
}

func (l *lag) at(now time.Time) (behind time.Duration, known bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.upTo.IsZero():
		return 0, false
	case !l.waiting && now.Sub(l.atEnd) < freshFor:
		return 0, true
	}
	return max(0, now.Sub(l.upTo)), true
}

// Lag is the age of the oldest commit that is not yet in Kafka, or 0 when
// nothing is waiting. It grows while the server or the broker is unavailable.
// It is unknown before an instance streams and while it stands by. Any
// goroutine may call it.
func (p *Pipeline) Lag() (behind time.Duration, known bool) { return p.lag.at(time.Now()) }
