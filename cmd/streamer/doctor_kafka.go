package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/outboxstream/streamer/internal/config"
	"github.com/outboxstream/streamer/router"
)

func (d *doctor) kafka(ctx context.Context) {
	client, err := connectKafka(d.cfg)
	if !d.outcome(err, "Kafka", "reachable at "+strings.Join(d.cfg.Kafka.Brokers, ", ")) {
		return
	}
	defer client.Close()
	if d.cfg.Checkpoint.Store == config.StoreKafka {
		d.checkpointTopic(ctx, client)
	}
	known, prefixes, err := knownTopics(d.cfg, d.database)
	if err != nil {
		d.outcome(err, "output topics", "")
		return
	}
	var outputs []string // that exist
	for _, topic := range known {
		found, err := client.HasTopic(topic)
		if found {
			outputs = append(outputs, topic)
		} else {
			d.outputTopic(topic, err)
		}
	}
	for _, prefix := range prefixes {
		topics, err := client.Topics(prefix)
		if len(topics) == 0 {
			d.outputTopic(prefix+"…", err)
		}
		outputs = append(outputs, someTopics(topics)...)
	}
	for _, topic := range outputs {
		d.topicState(client, topic, true)
	}
	d.deadLetters(ctx, client, outputs)
	d.takeOver(ctx, client)
}

// checkpointTopic is looked at by the check that run makes, which would create
// a missing one.
func (d *doctor) checkpointTopic(ctx context.Context, client *router.Client) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	topic := router.NewCompactedTopic(client, d.cfg.Checkpoint.Kafka.Topic)
	found, err := client.HasTopic(topic.Name())
	if err == nil && !found {
		d.say(warned, "checkpoint topic", fmt.Sprintf("topic %q does not exist; the first start creates it", topic.Name()), "`streamer setup` creates it now")
		return
	}
	if err == nil {
		err = topic.Ensure(ctx, d.cfg.Checkpoint.Kafka.ReplicationFactor)
	}
	if d.outcome(err, "checkpoint topic", fmt.Sprintf("topic %q is compacted and has one partition", topic.Name())) {
		d.topicState(client, topic.Name(), false)
	}
}

// outputTopic is about one that was not found.
func (d *doctor) outputTopic(name string, err error) {
	what := "output topic " + name
	switch {
	case err != nil:
		d.outcome(err, what, "")
	case d.cfg.Kafka.Topics.Create:
		d.say(fine, what, "does not exist; the first event creates it", "")
	default:
		d.say(warned, what, "does not exist, and kafka.topics.create is false: the first event for it stops the streamer", "create it (`streamer setup --topic NAME`), or set kafka.topics.create")
	}
}
