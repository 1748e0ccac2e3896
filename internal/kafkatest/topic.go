package kafkatest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/IBM/sarama"
)

// CreateTopic creates a topic with the cluster's default replication factor and
// the given configuration (may be nil), and returns once every running broker
// knows the leaders of its partitions.
func (c *Cluster) CreateTopic(ctx context.Context, name string, partitions int, config map[string]string) error {
	detail := &sarama.TopicDetail{NumPartitions: int32(partitions), ReplicationFactor: -1, ConfigEntries: map[string]*string{}}
	for key, value := range config {
		detail.ConfigEntries[key] = &value
	}
	err := c.withAdmin(func(admin sarama.ClusterAdmin) error { return admin.CreateTopic(name, detail, false) })
	if err != nil {
		return fmt.Errorf("create topic %q: %w", name, err)
	}
	err = c.onEachBroker(ctx, func(broker *sarama.Broker) error { return hasLeaders(broker, name, partitions) })
	if err != nil {
		return fmt.Errorf("wait for topic %q: %w", name, err)
	}
	return nil
}

func hasLeaders(broker *sarama.Broker, topic string, partitions int) error {
	metadata, err := broker.GetMetadata(sarama.NewMetadataRequest(sarama.V2_1_0_0, []string{topic}))
	if err != nil {
		return fmt.Errorf("metadata: %w", err)
	}
	for _, known := range metadata.Topics {
		if known.Err != sarama.ErrNoError {
			return fmt.Errorf("metadata: %w", known.Err)
		}
		for _, partition := range known.Partitions {
			if partition.Err != sarama.ErrNoError {
				return fmt.Errorf("metadata of partition %d: %w", partition.ID, partition.Err)
			}
		}
		if len(known.Partitions) == partitions {
			return nil
		}
	}
	return fmt.Errorf("topic not known to broker %d", broker.ID())
}

// Admin returns a client of the administration interface, which the caller
// closes. On a cluster with users it acts as the user [Admin].
func (c *Cluster) Admin() (sarama.ClusterAdmin, error) { return c.adminOf(c.Config(Admin)) }

func (c *Cluster) adminOf(config *sarama.Config) (sarama.ClusterAdmin, error) {
	admin, err := sarama.NewClusterAdmin(c.Brokers(), config)
	if err != nil {
		return nil, fmt.Errorf("connect to Kafka: %w", err)
	}
	return admin, nil
}

func (c *Cluster) withAdmin(do func(sarama.ClusterAdmin) error) error {
	return c.withAdminOf(c.Config(Admin), do)
}

func (c *Cluster) withAdminOf(config *sarama.Config, do func(sarama.ClusterAdmin) error) error {
	admin, err := c.adminOf(config)
	if err != nil {
		return err
	}
	return errors.Join(do(admin), admin.Close())
}

// onEachBroker repeats the check on every running broker until it returns nil,
// for 30 s at most.
func (c *Cluster) onEachBroker(ctx context.Context, check func(*sarama.Broker) error) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	client, err := sarama.NewClient(c.Brokers(), c.Config(Admin))
	if err != nil {
		return fmt.Errorf("connect to Kafka: %w", err)
	}
	defer client.Close()
	for _, broker := range client.Brokers() {
		// For a while the others still list a broker that has just been killed.
		if c.configured == nil && !c.Running(int(broker.ID())-1) {
			continue
		}
		if err := broker.Open(client.Config()); err != nil && !errors.Is(err, sarama.ErrAlreadyConnected) {
			return fmt.Errorf("connect to broker %d: %w", broker.ID(), err)
		}
		if err := poll(ctx, nil, func() error { return check(broker) }); err != nil {
			return err
		}
	}
	return nil
}
