package kafka

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

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
	_, err := c.CreateTopic(topic, t)
	return err
}

// CreateTopic creates a topic, and reports whether it did. An existing topic is
// left unchanged. An error is of class Refused if trying again will not help.
func (c *Client) CreateTopic(topic string, t TopicConfig) (created bool, err error) {
	admin, err := sarama.NewClusterAdminFromClient(c.client)
	if err != nil {
		return false, fmt.Errorf("create topic %q: %w", topic, err)
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
	case err == nil:
		return true, nil
	case errors.Is(err, sarama.ErrTopicAlreadyExists):
		return false, nil
	case Impossible(err):
		if collision := c.CheckCollision(topic); Impossible(collision) {
			return false, failure.Refuse(collision) // it names the remedy
		}
	}
	return false, explainCreation(topic, err)
}

// uncreatable are the answers to CreateTopics that stay the same.
var uncreatable = []sarama.KError{
	sarama.ErrUnsupportedVersion, sarama.ErrInvalidRequest, sarama.ErrInvalidConfig, sarama.ErrPolicyViolation,
	sarama.ErrInvalidTopic, sarama.ErrInvalidPartitions,
}

// explainCreation tells apart what the cluster will never create.
func explainCreation(topic string, err error) error {
	code, _ := errors.AsType[sarama.KError](err)
	if code == sarama.ErrUnsupportedVersion {
		err = fmt.Errorf("brokers do not support CreateTopics: %w", err)
	}
	err = fmt.Errorf("create topic %q: %w", topic, err)
	if !slices.Contains(uncreatable, code) {
		return err
	}
	if code == sarama.ErrInvalidTopic {
		return failure.Refuse(failure.Advise(err, "choose another name for the topic"))
	}
	return failure.Refuse(failure.Advise(err, "create the topic with the tools of your Kafka service"))
}

// waitTopic waits until a topic that was just created has leaders.
func (c *Client) waitTopic(ctx context.Context, topic string) error {
	for wait := pausesFrom(spanPause); ; {
		err := c.client.RefreshMetadata(topic)
		if err == nil {
			return nil
		}
		if !wait.wait(ctx) {
			return fmt.Errorf("topic %q: %w", topic, err)
		}
	}
}

// ErrTopicMissing means that a topic does not exist and must not be created.
var ErrTopicMissing = errors.New("topic does not exist")

// Provide returns the partition count of a topic. It creates a missing topic if
// the configuration allows that.
func (c *Client) Provide(ctx context.Context, topic string) (int, error) {
	const patience = 10 * time.Second // for a new topic to get its leaders
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	existing, err := c.Exist(ctx, topic)
	if err == nil && len(existing) == 0 {
		err = c.make(ctx, topic)
	}
	if errors.Is(err, ErrTopicMissing) {
		return 0, err
	}
	if err != nil {
		return 0, fmt.Errorf("topic %q: %w", topic, err)
	}
	return c.Partitions(topic)
}

// make creates a topic and waits until it can be written to.
func (c *Client) make(ctx context.Context, topic string) error {
	if err := c.Create(topic); err != nil {
		return err
	}
	if !c.config.Topics.Create {
		return ErrTopicMissing
	}
	return c.waitTopic(ctx, topic)
}
