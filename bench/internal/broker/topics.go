package broker

import (
	"context"
	"errors"
	"fmt"

	"github.com/IBM/sarama"

	"github.com/outboxstream/streamer/internal/kafkatest"
)

// CreateTopics creates empty topics and waits until they can be written to.
func CreateTopics(ctx context.Context, cluster *kafkatest.Cluster, topics []string, partitions int) error {
	for _, topic := range topics {
		if err := cluster.CreateTopic(ctx, topic, partitions, nil); err != nil {
			return err
		}
	}
	return nil
}

// DeleteTopics deletes topics, so that the disk does not fill.
func DeleteTopics(cluster *kafkatest.Cluster, topics []string) error {
	admin, err := cluster.Admin()
	if err != nil {
		return err
	}
	problems := []error{}
	for _, topic := range topics {
		if err := admin.DeleteTopic(topic); err != nil && !errors.Is(err, sarama.ErrUnknownTopicOrPartition) {
			problems = append(problems, fmt.Errorf("delete topic %q: %w", topic, err))
		}
	}
	return errors.Join(append(problems, admin.Close())...)
}

// Bytes returns the space that the topics take on the broker's disk.
func Bytes(cluster *kafkatest.Cluster, topics []string) (bytes int64, err error) {
	admin, err := cluster.Admin()
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, admin.Close()) }()
	brokers, _, err := admin.DescribeCluster()
	if err != nil {
		return 0, fmt.Errorf("describe cluster: %w", err)
	}
	ids := make([]int32, len(brokers))
	for i, b := range brokers {
		ids[i] = b.ID()
	}
	folders, err := admin.DescribeLogDirs(ids)
	if err != nil {
		return 0, fmt.Errorf("size of the topics: %w", err)
	}
	wanted := map[string]bool{}
	for _, topic := range topics {
		wanted[topic] = true
	}
	for _, ofBroker := range folders {
		for _, folder := range ofBroker {
			for _, topic := range folder.Topics {
				if !wanted[topic.Topic] {
					continue
				}
				for _, partition := range topic.Partitions {
					bytes += partition.Size
				}
			}
		}
	}
	return bytes, nil
}
