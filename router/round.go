package router

import (
	"time"

	"github.com/outboxstream/streamer/router/kafka"
)

// round is one pass of the metadata goroutine over all that is due. Where no
// broker can be reached, it asks once for everything: each attempt takes
// connections, and with them logins.
type round struct {
	producer *Producer
	outage   error    // no broker could be reached
	failed   []*retry // of what was due
}

// refresh fetches the metadata of a topic, for what is due by a retry.
func (r *round) refresh(topic string, by *retry) error {
	if r.outage == nil {
		err := r.producer.cluster.Refresh(topic)
		if !kafka.Unreachable(err) {
			return err
		}
		r.outage = err
	}
	r.failed = append(r.failed, by)
	return r.outage
}

// end makes what is not due yet wait for the next attempt at what has failed, so
// that all of it comes into one round.
func (r *round) end() {
	if r.outage == nil {
		return
	}
	p := r.producer
	p.mu.Lock()
	defer p.mu.Unlock()
	next := time.Now().Add(p.config.RetryMax)
	for _, retry := range r.failed {
		next = earlier(next, retry.at)
	}
	for t := range p.unknown {
		t.retry.postpone(next)
	}
	for part := range p.lookups {
		part.retry.postpone(next)
	}
}
