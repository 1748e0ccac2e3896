package kafkatest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/IBM/sarama"
)

// DeleteTopic deletes a topic and returns once no running broker knows it any
// more, so that one of the same name can be created.
func (c *Cluster) DeleteTopic(ctx context.Context, topic string) error {
	if err := c.withAdmin(func(admin sarama.ClusterAdmin) error { return admin.DeleteTopic(topic) }); err != nil {
		return fmt.Errorf("delete topic %q: %w", topic, err)
	}
	err := c.onEachBroker(ctx, func(broker *sarama.Broker) error {
		answer, err := broker.GetMetadata(sarama.NewMetadataRequest(sarama.V2_1_0_0, []string{topic}))
		if err != nil {
			return fmt.Errorf("metadata: %w", err)
		}
		for _, known := range answer.Topics {
			if known.Err != sarama.ErrUnknownTopicOrPartition {
				return errors.New("topic is still known")
			}
		}
		return nil
	})
	if err == nil && usesZooKeeper() {
		err = c.awaitFreeName(ctx, topic)
	}
	if err != nil {
		return fmt.Errorf("wait for the end of topic %q: %w", topic, err)
	}
	return nil
}

// awaitFreeName waits until a topic of this name can be created, or has been
// created by another client. With ZooKeeper that takes a moment longer than the
// brokers know the deleted one.
func (c *Cluster) awaitFreeName(ctx context.Context, topic string) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	detail := &sarama.TopicDetail{NumPartitions: 1, ReplicationFactor: 1}
	return poll(ctx, nil, func() error {
		err := c.withAdmin(func(admin sarama.ClusterAdmin) error { return admin.CreateTopic(topic, detail, true) })
		if _, missing := c.Partitions(topic); err != nil && missing == nil {
			return nil
		}
		return err
	})
}

// AddPartitions increases the number of partitions of a topic and returns once
// every running broker knows their leaders.
func (c *Cluster) AddPartitions(ctx context.Context, topic string, partitions int) error {
	err := c.withAdmin(func(admin sarama.ClusterAdmin) error {
		return admin.CreatePartitions(topic, int32(partitions), nil, false)
	})
	if err != nil {
		return fmt.Errorf("add partitions to topic %q: %w", topic, err)
	}
	err = c.onEachBroker(ctx, func(broker *sarama.Broker) error { return hasLeaders(broker, topic, partitions) })
	if err != nil {
		return fmt.Errorf("wait for partitions of topic %q: %w", topic, err)
	}
	return nil
}

// SetTopic changes one setting of a topic and returns once every running broker
// shows it. An empty value resets the setting to its default.
func (c *Cluster) SetTopic(ctx context.Context, topic, setting, value string) error {
	entry := sarama.IncrementalAlterConfigsEntry{Operation: sarama.IncrementalAlterConfigsOperationSet, Value: &value}
	if value == "" {
		entry = sarama.IncrementalAlterConfigsEntry{Operation: sarama.IncrementalAlterConfigsOperationDelete}
	}
	err := c.withAdmin(func(admin sarama.ClusterAdmin) error {
		return admin.IncrementalAlterConfig(sarama.TopicResource, topic, map[string]sarama.IncrementalAlterConfigsEntry{setting: entry}, false)
	})
	if err == nil {
		err = c.onEachBroker(ctx, func(broker *sarama.Broker) error { return hasSetting(broker, topic, setting, value) })
	}
	if err != nil {
		return fmt.Errorf("set %s of topic %q: %w", setting, topic, err)
	}
	return nil
}

// hasSetting checks a topic's setting at a broker. An empty value means that
// the setting must not be set on the topic.
func hasSetting(broker *sarama.Broker, topic, setting, value string) error {
	answer, err := broker.DescribeConfigs(&sarama.DescribeConfigsRequest{Version: 1, Resources: []*sarama.ConfigResource{
		{Type: sarama.TopicResource, Name: topic, ConfigNames: []string{setting}},
	}})
	if err != nil {
		return fmt.Errorf("describe: %w", err)
	}
	for _, resource := range answer.Resources {
		for _, entry := range resource.Configs {
			if entry.Name == setting && (entry.Value == value || value == "" && entry.Source != sarama.SourceTopic) {
				return nil
			}
		}
	}
	return fmt.Errorf("not known to broker %d yet", broker.ID())
}
