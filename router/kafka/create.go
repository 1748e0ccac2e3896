package kafka

import (
	"errors"
	"fmt"
	"slices"

	"github.com/IBM/sarama"

	"github.com/outboxstream/streamer/internal/failure"
)

// Create creates a missing topic as configured. If topic creation is off, it
// only checks that the topic can exist at all.
func (c *Client) Create(topic string) error {
	if !c.config.Topics.Create {
		return c.CheckCollision(topic)
	}
	t := c.config.Topics
	if own, ok := c.config.TopicSettings[topic]; ok {
		t.Configs = own
	}
	return c.CreateTopic(topic, t)
}

// CreateTopic creates a topic. An existing topic is left unchanged.
func (c *Client) CreateTopic(topic string, t TopicConfig) error {
	admin, err := sarama.NewClusterAdminFromClient(c.client)
	if err != nil {
		return fmt.Errorf("create topic %q: %w", topic, err)
	}
	detail := &sarama.TopicDetail{NumPartitions: -1, ReplicationFactor: -1, ConfigEntries: map[string]*string{}}
	if t.Partitions > 0 {
		detail.NumPartitions = int32(t.Partitions)
	}
	if t.ReplicationFactor > 0 {
		detail.ReplicationFactor = int16(t.ReplicationFactor)
	}
	for name, value := range t.Configs {
		detail.ConfigEntries[name] = &value
	}
	// The admin is not closed, because that would close c.client.
	err = admin.CreateTopic(topic, detail, false)
	switch {
	case err == nil, errors.Is(err, sarama.ErrTopicAlreadyExists):
		return nil
	case Impossible(err):
		if collision := c.CheckCollision(topic); Impossible(collision) {
			return collision // it names the remedy
		}
	}
	return fmt.Errorf("create topic %q: %w", topic, err)
}

// CheckCollision returns an error that wraps sarama.ErrInvalidTopic if Kafka can
// never have a missing topic of this name, because the name differs from that
// of an existing topic only in '.' and '_'. It sees only topics that the
// streamer may describe.
func (c *Client) CheckCollision(topic string) error {
	existing, err := c.Topics("")
	if err != nil {
		return err
	}
	for _, other := range existing {
		if Collide(topic, other) {
			return CollisionError(topic, other)
		}
	}
	return nil
}

// CollisionError says that Kafka cannot have a topic because it has another. It
// wraps sarama.ErrInvalidTopic, which is what Kafka answers.
func CollisionError(topic, other string) error {
	return failure.Advise(&collision{topic, other}, "correct the row's aggregate type, or the configuration key that names the topic")
}

type collision struct{ topic, other string }

func (c *collision) Error() string {
	return fmt.Sprintf("topic %q cannot exist: its name differs from that of topic %q only in '.' and '_'", c.topic, c.other)
}

func (*collision) Unwrap() error { return sarama.ErrInvalidTopic }

// Collide reports whether two different names differ only in '.' and '_', which
// Kafka's metrics cannot tell apart. Kafka creates no topic whose name collides
// with that of another.
func Collide(a, b string) bool {
	if a == b || len(a) != len(b) {
		return false
	}
	for i := range len(a) {
		if a[i] != b[i] && (!collides(a[i]) || !collides(b[i])) {
			return false
		}
	}
	return true
}

func collides(c byte) bool { return c == '.' || c == '_' }

// Topics lists the cluster's topics whose names begin with prefix, sorted.
func (c *Client) Topics(prefix string) ([]string, error) {
	if err := c.client.RefreshMetadata(); err != nil {
		return nil, fmt.Errorf("list topics: %w", err)
	}
	all, err := c.client.Topics()
	if err != nil {
		return nil, fmt.Errorf("list topics: %w", err)
	}
	all = slices.DeleteFunc(all, func(name string) bool { return len(name) < len(prefix) || name[:len(prefix)] != prefix })
	slices.Sort(all)
	return all, nil
}
