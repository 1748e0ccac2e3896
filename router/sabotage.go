package router

import (
	"slices"

	"github.com/outboxstream/streamer/internal/mutation"
)

// sabotageLocked mistreats batches that are about to be sent again, in builds
// that the tests must catch. In other builds it does nothing.
func (p *Producer) sabotageLocked(part *partition, failed []*Batch) []*Batch {
	oldest := failed[0]
	switch {
	case mutation.Active(mutation.ReorderOnRetry):
		records := oldest.records()
		slices.Reverse(records)
		oldest.lends = nil // it belongs to the reading goroutine
		oldest.refill(records)
	case mutation.Active(mutation.DropOnRetry):
		p.finishLocked(oldest)
		failed = failed[1:]
		for _, b := range slices.Concat(failed, part.queue) {
			b.firstSequence = nextSequence(b.firstSequence, -oldest.count())
		}
		part.sequence = nextSequence(part.sequence, -oldest.count())
		part.suspect = nil
	}
	return failed
}
