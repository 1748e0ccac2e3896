package pipeline

import (
	"sync"
	"time"
)

// freshFor is how long the observation that nothing was waiting counts, without
// another one: the watching goroutine looks at the slot more often.
const freshFor = 3 * pingEvery

// lag knows how old the oldest commit is that is not yet in Kafka. Times of
// commits are the server's, so a difference between the clocks shows in it.
type lag struct {
	mu      sync.Mutex
	upTo    time.Time // every commit before it has been published; zero: not known
	atEnd   time.Time // when nothing was waiting, last; by our clock
	waiting bool      // something is in flight
}

// published notes that every commit before upTo is in Kafka, and whether some
// behind it are on their way.
func (l *lag) published(upTo time.Time, inFlight bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if upTo.After(l.upTo) {
		l.upTo = upTo
	}
	l.waiting = inFlight
}

// reachedEnd notes that everything in the server's log has been read at this
// moment.
func (l *lag) reachedEnd(at time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.atEnd = at
	if !l.waiting && at.After(l.upTo) {
		l.upTo = at
	}
}

// forget is for an instance that does not stream any more.
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

// Lag is how long ago the oldest commit was made that is not yet in Kafka: 0
// when nothing is waiting. It grows while the server or the broker is away. It
// is not known before an instance streams, nor while it stands by. Any
// goroutine may ask.
func (p *Pipeline) Lag() (behind time.Duration, known bool) { return p.lag.at(time.Now()) }
