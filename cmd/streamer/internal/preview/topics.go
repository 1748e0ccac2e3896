package preview

import (
	"context"
	"fmt"

	"github.com/outboxstream/streamer/cmd/streamer/internal/console"
	"github.com/outboxstream/streamer/cmd/streamer/internal/site"
	"github.com/outboxstream/streamer/internal/config"
	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/router/kafka"
)

// Topics knows the topics to which rows go. It asks Kafka once about each.
type Topics struct {
	client  *kafka.Client
	creates bool // the streamer creates missing topics
	asked   map[string]answer
	names   []string // of the topics of the cluster, and of those that rows create
	listed  bool
}

type answer struct {
	partitions int
	err        error
}

// NewTopics uses the caller's client. creates is kafka.topics.create.
func NewTopics(client *kafka.Client, creates bool) *Topics {
	return &Topics{client: client, creates: creates, asked: map[string]answer{}}
}

// Partitions returns the partition count of a topic, or why it is not known. The
// error is kafka.Impossible if Kafka can never have the topic.
func (t *Topics) Partitions(topic string) (int, error) {
	known, asked := t.asked[topic]
	if !asked {
		known.partitions, known.err = t.client.Partitions(topic)
		if known.err != nil {
			known.err = t.missing(topic, known.err)
		}
		t.asked[topic] = known
	}
	return known.partitions, known.err
}

// missing looks for a topic that keeps another from being created.
func (t *Topics) missing(topic string, why error) error {
	if !t.listed {
		all, err := t.client.Topics("")
		if err != nil {
			return why
		}
		t.names, t.listed = append(t.names, all...), true
	}
	for _, other := range t.names {
		if kafka.Collide(topic, other) {
			return kafka.CollisionError(topic, other)
		}
	}
	if t.creates {
		t.names = append(t.names, topic)
	}
	return why
}

// partitionCounts connects to Kafka when the first row asks for a topic. What is
// not known it says, once.
type partitionCounts struct {
	cfg    config.Config
	std    console.Streams
	client *kafka.Client
	topics *Topics
	failed error
	told   map[string]bool
}

func (p *partitionCounts) of(topic string) (int, error) {
	if p.client == nil && p.failed == nil {
		p.told = map[string]bool{}
		if p.client, p.failed = site.ConnectKafka(context.Background(), p.cfg); p.failed != nil {
			fmt.Fprintln(p.std.Err, "streamer: partitions are not known:", failure.Describe(p.failed))
		} else {
			p.topics = NewTopics(p.client, p.cfg.Kafka.Topics.Create)
		}
	}
	if p.failed != nil {
		return 0, p.failed
	}
	count, err := p.topics.Partitions(topic)
	if err == nil || kafka.Impossible(err) {
		return count, err
	}
	if !p.told[topic] {
		p.told[topic] = true
		fmt.Fprintf(p.std.Err, "streamer: partitions of topic %q are not known: %s\n", topic, failure.Describe(err))
	}
	return 0, nil
}

func (p *partitionCounts) close() {
	if p.client != nil {
		p.client.Close()
	}
}
