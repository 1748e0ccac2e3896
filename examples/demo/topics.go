package main

import (
	"errors"
	"fmt"

	"github.com/IBM/sarama"
	"github.com/google/uuid"
)

// topics are the names that the demo uses in Kafka.
type topics struct {
	prefix     string // of the topics of events; the aggregate type follows
	checkpoint string
	group      string // consumer group
}

// topicNames returns the streamer's usual names, or, on a cluster that others
// use as well, unique names.
func topicNames(shared bool) topics {
	if !shared {
		return topics{prefix: "outbox.event.", checkpoint: "streamer-checkpoints", group: "demo"}
	}
	id := "streamer-demo-" + uuid.NewString()[:8]
	return topics{prefix: id + ".event.", checkpoint: id + "-checkpoints", group: id}
}

// events returns the topics of events, one for each aggregate type of the shop.
func (t topics) events() []string { return []string{t.prefix + "customer", t.prefix + "order"} }

// nameTopics chooses the names. On a cluster that others use as well,
// everything that belongs to the demo is removed at the end.
func (d *demo) nameTopics() {
	d.topics = topicNames(d.kafka.given)
	if d.kafka.given {
		d.kafka.close = d.removeTopics
	}
}

// removeTopics removes what the demo created, as far as it got.
func (d *demo) removeTopics() error {
	config := sarama.NewConfig()
	config.ClientID = "streamer-demo"
	admin, err := sarama.NewClusterAdmin(d.kafka.addresses, config)
	if err != nil {
		return fmt.Errorf("connect to Kafka: %w", err)
	}
	var problems []error
	for _, name := range append(d.topics.events(), d.topics.checkpoint) {
		if err := admin.DeleteTopic(name); err != nil && !errors.Is(err, sarama.ErrUnknownTopicOrPartition) {
			problems = append(problems, fmt.Errorf("delete topic %q: %w", name, err))
		}
	}
	if err := admin.DeleteConsumerGroup(d.topics.group); err != nil && !errors.Is(err, sarama.ErrGroupIDNotFound) {
		problems = append(problems, fmt.Errorf("delete consumer group %q: %w", d.topics.group, err))
	}
	return errors.Join(append(problems, admin.Close())...)
}
