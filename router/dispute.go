package router

import (
	"fmt"
	"slices"
	"time"

	"github.com/IBM/sarama"

	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/replication"
	"github.com/outboxstream/streamer/router/kafka"
)

// dispute is a batch whose times its topic refuses. That is no fault of a row:
// the topic's settings decide, and would refuse every other row of that age.
// Its partition stands still until the settings are known, so that the error can
// name them.
type dispute struct {
	batch  *Batch
	answer *rejection
}

// disputeLocked stops a partition whose oldest batch has untimely records.
func (p *Producer) disputeLocked(b *Batch, answer *rejection) {
	b.partition.stopped = fmt.Errorf("write to %s: %w", b.partition, answer.error)
	p.disputes = append(p.disputes, dispute{b, answer})
	p.wakeMetadata()
}

// settleDisputes ends production, or a single write, with an error that names
// the setting of the topic.
func (p *Producer) settleDisputes() {
	p.mu.Lock()
	disputes := p.disputes
	p.disputes = nil
	p.mu.Unlock()
	for _, d := range disputes {
		limits := kafka.TimeLimitsOf(p.cluster, d.batch.partition.topic.name)
		p.mu.Lock()
		part := d.batch.partition
		part.stopped = nil
		if slices.Contains(part.queue, d.batch) {
			p.giveUpLocked(d.batch, d.explain(limits, time.Now()))
		} else { // its writer has withdrawn it
			p.scheduleLocked(part)
		}
		p.mu.Unlock()
	}
}

// explain returns the error that ends production.
func (d *dispute) explain(limits kafka.TimeLimits, now time.Time) error {
	part, index := d.batch.partition, 0
	if len(d.answer.records) > 0 {
		index = min(int(d.answer.records[0].BatchIndex), d.batch.count()-1)
	}
	record := d.batch.record(index)
	at := time.UnixMilli(d.batch.baseTime).Add(record.TimestampDelta)
	limit := limits.Against(now.Sub(at))
	err := fmt.Errorf("write to %s: %s of the topic refuses the time %s%s: %w",
		part, limit, at.UTC().Format(time.RFC3339), ofRow(record), d.answer.error)
	return failure.Refuse(failure.Advise(
		err, "%s, and start the streamer again: nothing is wrong with the rows", limit.Remedy(part.topic.name),
	))
}

// ofRow names the row of a record, if it is one.
func ofRow(r *sarama.Record) string {
	id, position := identify(r)
	if position == (replication.Position{}) {
		return ""
	}
	return fmt.Sprintf(" of outbox row %q at %s", id, position)
}
