package saramagroup

import (
	"context"
	"sync"

	"github.com/IBM/sarama"

	"github.com/outboxstream/streamer/consume"
)

// ahead is how many records of a partition wait to be delivered before it is paused.
const ahead = 2000

// queue is what was fetched of a partition and is not yet delivered. It takes all
// that comes, because nothing but the end of the messages says that a cooperative
// group has revoked a partition.
type queue struct {
	group sarama.ConsumerGroup
	claim sarama.ConsumerGroupClaim

	mu      sync.Mutex
	fetched []*sarama.ConsumerMessage
	paused  bool
	more    chan struct{} // has a value if something was fetched
}

func (q *queue) partition() map[string][]int32 {
	return map[string][]int32{q.claim.Topic(): {q.claim.Partition()}}
}

// fill takes messages until the partition is revoked.
func (q *queue) fill(revoked context.CancelFunc) {
	defer revoked()
	for message := range q.claim.Messages() {
		q.mu.Lock()
		q.fetched = append(q.fetched, message)
		if len(q.fetched) > ahead && !q.paused {
			q.paused = true
			q.group.Pause(q.partition())
		}
		q.mu.Unlock()
		select {
		case q.more <- struct{}{}:
		default:
		}
	}
}

// take returns what was fetched, and lets more be fetched.
func (q *queue) take() []*sarama.ConsumerMessage {
	q.mu.Lock()
	defer q.mu.Unlock()
	messages := q.fetched
	q.fetched = nil
	if q.paused {
		q.paused = false
		q.group.Resume(q.partition())
	}
	return messages
}

// deliver hands over messages until the partition is revoked.
func (q *queue) deliver(ctx context.Context, p *consume.Partition) error {
	for {
		select {
		case <-q.more:
		case <-ctx.Done():
			return nil
		}
		for _, message := range q.take() {
			p.High(q.claim.HighWaterMarkOffset())
			if err := p.Deliver(ctx, record(message)); err != nil {
				if ctx.Err() != nil {
					return nil //nolint:nilerr // the partition is revoked
				}
				return err
			}
		}
	}
}
