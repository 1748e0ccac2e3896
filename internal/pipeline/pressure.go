package pipeline

import (
	"errors"
	"time"
)

// stallAfter is how long events may be in flight without a single
// acknowledgement before the state shows it.
const stallAfter = 5 * time.Second

var errBlocked = errors.New("broker does not acknowledge")

// pressure detects that the broker is slower than the server. It reports that,
// and decides how long reading may pause. It belongs to a session.
type pressure struct {
	ground
	flow       *flow
	patience   time.Duration // how long the broker may block reading
	since      time.Time     // since when the producer has taken nothing; zero while it takes events
	warned     bool          // a warning that it takes nothing was logged
	progressAt time.Time     // when something was last acknowledged, or nothing was in flight
	stalled    bool          // nothing has been acknowledged for a while
}

func newPressure(g ground, f *flow, r reader) pressure {
	p := pressure{ground: g, flow: f, patience: g.config.BlockedTimeout, progressAt: time.Now()}
	if readerName(r) == string(ReadCatchUp) {
		p.patience = min(p.patience, blockedCatchUp)
	}
	return p
}

// blocked reports whether the producer takes nothing.
func (p *pressure) blocked() bool { return !p.since.IsZero() }

// begin notes that the producer takes nothing.
func (p *pressure) begin() {
	if p.since.IsZero() {
		p.since = time.Now()
	}
}

// endure reports what reading waits for, and ends the session after a while: a
// walsender that is not read holds back the server.
func (p *pressure) endure() error {
	waited := time.Since(p.since)
	if waited >= time.Second && !p.warned {
		p.warned = true
		why := p.flow.waiting()
		p.state.set(Blocked, why)
		p.log.Warn("reading is paused", "reason", why, "in_flight_bytes", p.flow.producer.InFlight())
	}
	if waited >= p.patience {
		return errBlocked
	}
	return nil
}

// end notes that the producer takes events again.
func (p *pressure) end() {
	if p.since.IsZero() {
		return
	}
	p.since = time.Time{}
	if p.warned {
		p.warned = false
		p.state.set(Streaming, "")
		p.log.Info("reading resumed")
	}
}

// relieve notes that something was acknowledged.
func (p *pressure) relieve() { p.progressAt = time.Now() }

// noteStall reports a broker outage that does not block reading, because
// everything that waits fits into memory.
func (p *pressure) noteStall() {
	if p.flow.producer.Events() == 0 {
		p.relieve()
	}
	stalled := time.Since(p.progressAt) >= stallAfter
	if stalled == p.stalled || p.blocked() {
		return
	}
	p.stalled = stalled
	if !stalled {
		p.state.set(Streaming, "")
		p.log.Info("broker acknowledges again")
		return
	}
	why := p.flow.producer.Unacknowledged()
	p.state.set(Blocked, why)
	p.log.Warn("broker does not acknowledge", "reason", why, "in_flight_events", p.flow.producer.Events())
}
