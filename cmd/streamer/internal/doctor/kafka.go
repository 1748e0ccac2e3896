package doctor

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/outboxstream/streamer/checkpoint"
	"github.com/outboxstream/streamer/cmd/streamer/internal/site"
	"github.com/outboxstream/streamer/internal/config"
	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/replication"
	"github.com/outboxstream/streamer/router/kafka"
)

func (d *doctor) kafka(ctx context.Context) {
	client, err := site.ConnectKafka(ctx, d.cfg)
	if err != nil {
		remedy := failure.Fix(err)
		if remedy == "" {
			remedy = "see docs/how-to/incidents.md; nothing is lost: what is not published stays in PostgreSQL's WAL, which the slot keeps"
		}
		d.say(Failed, "Kafka", err.Error(), remedy)
		return
	}
	d.say(Fine, "Kafka", "reachable at "+strings.Join(d.cfg.Kafka.Brokers, ", "), "")
	defer client.Close()
	d.requests(client)
	if d.cfg.Checkpoint.Store == config.StoreKafka {
		d.checkpointTopic(ctx, client)
	}
	known, prefixes, err := site.KnownTopics(d.cfg, d.database)
	if err != nil {
		d.outcome(err, "output topics", "")
		return
	}
	outputs := d.existingOutputs(ctx, client, known)
	for _, prefix := range prefixes {
		topics, err := client.Topics(prefix)
		if len(topics) == 0 {
			d.outputTopic(client, prefix+"…", err)
		}
		outputs = append(outputs, someTopics(topics)...)
	}
	for _, topic := range outputs {
		d.topicState(client, topic, true)
	}
	d.deadLetters(ctx, client, outputs)
	d.takeOver(ctx, client)
}

// existingOutputs reports the topics that do not exist and returns those that
// do.
func (d *doctor) existingOutputs(ctx context.Context, client *kafka.Client, known []string) (outputs []string) {
	var unknown []string
	for _, topic := range known {
		switch found, err := client.HasTopic(topic); {
		case err != nil:
			d.outputTopic(client, topic, err)
		case found:
			outputs = append(outputs, topic)
		default:
			unknown = append(unknown, topic)
		}
	}
	existing, err := client.Exist(ctx, unknown...)
	for _, topic := range unknown {
		if !slices.Contains(existing, topic) {
			d.outputTopic(client, topic, err)
		}
	}
	return append(outputs, existing...)
}

// requests makes sure that the brokers know what every streamer needs. What
// keeps other instances out is a matter of takeOver.
func (d *doctor) requests(client *kafka.Client) {
	const what = "Kafka's protocol"
	_, silent := client.Lacks(kafka.Publishing)
	if err := client.CanPublish(); err == nil && silent != nil {
		d.say(Warned, what, failure.Describe(silent), "bring the broker back; meanwhile other brokers lead its partitions, if they have replicas")
	} else {
		d.outcome(err, what, "the brokers support every request that is needed")
	}
}

// elsewhere is the remedy where brokers cannot create topics.
const elsewhere = "create the topic with the tools of your Kafka service"

// uncreatable returns why brokers cannot create topics, or an empty string.
func uncreatable(client *kafka.Client) string {
	lacking, _ := client.Lacks(kafka.Creating) // d.requests has reported a broker that does not answer
	if len(lacking) == 0 {
		return ""
	}
	return "the brokers do not support " + strings.Join(lacking, ", ")
}

// checkpointTopic uses the check that run makes. That check would create a
// missing topic, so existence is tested first.
func (d *doctor) checkpointTopic(ctx context.Context, client *kafka.Client) {
	ctx, cancel := context.WithTimeout(ctx, site.AskTimeout)
	defer cancel()
	topic := kafka.NewCompactedTopic(client, d.cfg.Checkpoint.Kafka.Topic)
	existing, err := client.Exist(ctx, topic.Name())
	if why := uncreatable(client); err == nil && len(existing) == 0 && why != "" {
		d.say(Failed, "checkpoint topic", fmt.Sprintf("topic %q does not exist, and %s", topic.Name(), why),
			elsewhere+", with one partition and cleanup.policy=compact")
		return
	}
	if err == nil && len(existing) == 0 {
		d.say(Warned, "checkpoint topic", fmt.Sprintf("topic %q does not exist; the first start creates it",
			topic.Name()), "create the topic now with `streamer setup`")
		return
	}
	if err == nil {
		_, err = topic.Ensure(ctx, d.cfg.Checkpoint.Kafka.ReplicationFactor)
	}
	if d.outcome(err, "checkpoint topic", fmt.Sprintf("topic %q is compacted and has one partition", topic.Name())) {
		d.topicState(client, topic.Name(), false)
		d.kafkaClock(ctx, client, topic.Name())
	}
}

// kafkaClock compares the brokers' clock with the streamer's. No request asks
// for a broker's clock. It is in the records of a checkpoint topic whose
// records the brokers stamp. Saving may have taken long, so the smallest
// difference among the newest records counts.
func (d *doctor) kafkaClock(ctx context.Context, client *kafka.Client, topic string) {
	const what, newest = "clock of Kafka", 100
	stamp, err := client.TopicSetting(topic, "message.timestamp.type")
	if err != nil || d.server == nil {
		return
	}
	if stamp != kafka.BrokerTime {
		d.say(Fine, what, fmt.Sprintf("not compared with the streamer's: that needs message.timestamp.type=%s on topic %q",
			kafka.BrokerTime, topic), "")
		return
	}
	id := site.IdentityOf(*d.server, d.cfg)
	apart, known := time.Duration(0), false
	logs, err := client.Logs(ctx, topic)
	for _, log := range logs {
		log.From = max(log.From, log.End-newest)
		err = client.Scan(ctx, log, func(r *kafka.LogRecord) error {
			saved, err := checkpoint.Decode(r.Value, id, topic)
			if err != nil {
				return nil //nolint:nilerr // it belongs to another streamer
			}
			if difference := r.Time.Sub(saved.SavedAt); !known || difference.Abs() < apart.Abs() {
				apart, known = difference, true
			}
			return nil
		})
	}
	switch {
	case err != nil:
		d.outcome(err, what, "")
	case known && apart.Abs() >= replication.ClocksApart:
		d.say(Warned, what, fmt.Sprintf("differs from the streamer's by %s: topics keep events that much longer or shorter, "+
			"and reject those that seem to come from too far in the future", apart.Abs().Round(time.Second)),
			"synchronise both with NTP")
	case known:
		d.say(Fine, what, "agrees with the streamer's", "")
	}
}

// outputTopic reports a topic that was not found.
func (d *doctor) outputTopic(client *kafka.Client, name string, err error) {
	what := "output topic " + name
	switch {
	case err != nil:
		d.outcome(err, what, "")
	case d.cfg.Kafka.Topics.Create && uncreatable(client) != "":
		d.say(Warned, what, "does not exist, and "+uncreatable(client)+": the first event for it stops the streamer", elsewhere)
	case d.cfg.Kafka.Topics.Create:
		d.say(Fine, what, "does not exist; the first event creates it", "")
	default:
		d.say(Warned, what, "does not exist, and kafka.topics.create is false: "+
			"the first event for it stops the streamer", "create the topic (`streamer setup --topic NAME`), or set kafka.topics.create")
	}
}
