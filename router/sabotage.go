package router

import (
	"slices"

	"github.com/outboxstream/streamer/internal/mutation"
)

// sabotageLocked does with batches that are to be sent again what it must not, in
// builds that are made to be caught. In others it is nothing.
func (p *Producer) sabotageLocked(part *partition, failed []*Batch) []*Batch {
	oldest := failed[0]
	switch {
	case mutation.Active(mutation.ReorderOnRetry):
		records := oldest.records()
		slices.Reverse(records)
		oldest.lends = nil // it is the reading goroutine's
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
