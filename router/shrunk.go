package router

import (
	"errors"
	"fmt"
	"time"

	"github.com/IBM/sarama"

	"github.com/outboxstream/streamer/internal/failure"
)

// errShrunk ends production, so that published events are read back again. Kafka
// never takes partitions from a topic, so this is another topic.
var errShrunk = errors.New("topic was deleted and created again with fewer partitions")

// shrinkPatience is how long a topic must have lacked a partition before that is
// believed. A broker that lags behind may not have heard of new partitions yet.
const shrinkPatience = 5 * time.Second

// judgeShrunk returns the error that ends production, or only this session.
func (p *Producer) judgeShrunk(err error) error {
	if !p.config.StopOnGrowth {
		return err
	}
	return failure.Refuse(failure.Advise(
		fmt.Errorf("kafka.on_partition_change is stop: %w", err), "start the streamer again to accept the new topic",
	))
}

// shrunk explains why a partition has no leader, if the reason is that the topic
// has fewer partitions than before.
func (p *Producer) shrunk(part *partition, err error) error {
	if !errors.Is(err, sarama.ErrUnknownTopicOrPartition) {
		return err
	}
	count, unknown := p.cluster.Partitions(part.topic.name)
	if before := p.partitionCount(part.topic); unknown == nil && count > 0 && int(part.id) >= count {
		return fmt.Errorf("%w: topic %q has %d partitions, but had %d: %w", errShrunk, part.topic.name, count, before, err)
	}
	return err
}
