package kafkatest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/IBM/sarama"
)

// Partition describes the replicas of a partition. Brokers are counted from 0,
// as everywhere in this package.
type Partition struct {
	Leader   int // -1: none
	Replicas []int
	InSync   []int
}

// Partitions describes the partitions of a topic, in their order, as the first
// running broker that answers knows them.
func (c *Cluster) Partitions(topic string) (partitions []Partition, err error) {
	var errs []error
	for i, address := range c.Brokers() {
		if c.configured == nil && !c.Running(i) {
			continue
		}
		if partitions, err = c.partitionsKnownAt(address, topic); err == nil {
			return partitions, nil
		}
		errs = append(errs, err)
	}
	return nil, fmt.Errorf("partitions of topic %q: %w", topic, errors.Join(errs...))
}

// partitionsKnownAt asks one broker, whatever the others are doing.
func (c *Cluster) partitionsKnownAt(address, topic string) ([]Partition, error) {
	config := c.Config(Admin)
	config.Net.DialTimeout, config.Net.ReadTimeout = 5*time.Second, 5*time.Second
	broker := sarama.NewBroker(address)
	if err := broker.Open(config); err != nil {
		return nil, fmt.Errorf("connect to broker at %s: %w", address, err)
	}
	defer broker.Close()
	answer, err := broker.GetMetadata(sarama.NewMetadataRequest(sarama.V2_1_0_0, []string{topic}))
	if err != nil {
		return nil, fmt.Errorf("metadata: %w", err)
	}
	return partitionsOf(answer.Topics)
}

func partitionsOf(topics []*sarama.TopicMetadata) ([]Partition, error) {
	if len(topics) != 1 {
		return nil, fmt.Errorf("%d topics in the answer", len(topics))
	}
	if topics[0].Err != sarama.ErrNoError {
		return nil, topics[0].Err
	}
	partitions := make([]Partition, len(topics[0].Partitions))
	for _, p := range topics[0].Partitions {
		if int(p.ID) >= len(partitions) {
			return nil, fmt.Errorf("partition %d among %d", p.ID, len(partitions))
		}
		partitions[p.ID] = Partition{Leader: max(-1, int(p.Leader)-1), Replicas: fromNodes(p.Replicas), InSync: fromNodes(p.Isr)}
	}
	return partitions, nil
}

// MoveLeader makes broker i the leader of a partition and its preferred leader.
// All replicas must be running. It returns once every running broker knows.
func (c *Cluster) MoveLeader(ctx context.Context, topic string, partition, i int) error {
	if err := c.prefer(ctx, topic, partition, i); err != nil {
		return err
	}
	if err := c.elect(ctx, sarama.PreferredElection, topic, partition); err != nil {
		return fmt.Errorf("elect broker %d for partition %d of topic %q: %w", i, partition, topic, err)
	}
	return c.awaitLeader(ctx, topic, partition, func(leader int) bool { return leader == i })
}

// ElectUnclean waits until Kafka has noticed that a partition has no leader.
// Then it elects a leader that may lack acknowledged records, as an operator
// does who prefers that to waiting. It returns once every running broker knows
// the leader.
func (c *Cluster) ElectUnclean(ctx context.Context, topic string, partition int) error {
	if err := c.awaitLeader(ctx, topic, partition, func(leader int) bool { return leader < 0 }); err != nil {
		return fmt.Errorf("partition %d of topic %q still has a leader: %w", partition, topic, err)
	}
	if err := c.elect(ctx, sarama.UncleanElection, topic, partition); err != nil {
		return fmt.Errorf("elect a leader of partition %d of topic %q that is not in sync: %w", partition, topic, err)
	}
	return c.awaitLeader(ctx, topic, partition, func(leader int) bool { return leader >= 0 })
}

// Reassign gives a partition these replicas, the preferred leader first. It
// returns once they are in sync; all must be running.
func (c *Cluster) Reassign(ctx context.Context, topic string, partition int, brokers ...int) error {
	all, err := c.Partitions(topic)
	if err != nil {
		return err
	}
	if partition >= len(all) {
		return fmt.Errorf("reassign partition %d of topic %q: there are %d", partition, topic, len(all))
	}
	assignment := make([][]int32, len(all))
	for id, p := range all {
		assignment[id] = toNodes(p.Replicas)
	}
	assignment[partition] = toNodes(brokers)
	err = c.withAdmin(func(admin sarama.ClusterAdmin) error { return admin.AlterPartitionReassignments(topic, assignment) })
	if err == nil {
		err = c.awaitReplicas(ctx, topic, partition, brokers)
	}
	if err != nil {
		return fmt.Errorf("reassign partition %d of topic %q to brokers %v: %w", partition, topic, brokers, err)
	}
	return nil
}

func (c *Cluster) awaitReplicas(ctx context.Context, topic string, partition int, brokers []int) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	return poll(ctx, nil, func() error {
		all, err := c.Partitions(topic)
		if err != nil {
			return err
		}
		now := all[partition]
		if !slices.Equal(now.Replicas, brokers) || len(now.InSync) < len(brokers) {
			return fmt.Errorf("replicas %v, in sync %v", now.Replicas, now.InSync)
		}
		return nil
	})
}

// prefer makes broker i the first replica.
func (c *Cluster) prefer(ctx context.Context, topic string, partition, i int) error {
	all, err := c.Partitions(topic)
	if err != nil {
		return err
	}
	if partition >= len(all) {
		return fmt.Errorf("partition %d of topic %q: there are %d", partition, topic, len(all))
	}
	replicas := all[partition].Replicas
	others := slices.DeleteFunc(slices.Clone(replicas), func(r int) bool { return r == i })
	return c.Reassign(ctx, topic, partition, append([]int{i}, others[:len(replicas)-1]...)...)
}

// elect requests an election until the answer is final. A broker of Kafka 2.8
// may elect a leader and answer only when the request expires, after a minute:
// asked again, it says at once that there is nothing to do.
func (c *Cluster) elect(ctx context.Context, how sarama.ElectionType, topic string, partition int) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	config := c.Config(Admin)
	config.Net.ReadTimeout = 5 * time.Second
	return poll(ctx, nil, func() error {
		return c.withAdminOf(config, func(admin sarama.ClusterAdmin) error {
			results, err := admin.ElectLeaders(how, map[string][]int32{topic: {int32(partition)}})
			if err != nil {
				return err
			}
			result := results[topic][int32(partition)]
			switch {
			case result == nil:
				return nil // nothing to do: Kafka omits it from the answer
			case result.ErrorCode == sarama.ErrNoError, result.ErrorCode == sarama.ErrElectionNotNeeded:
				return nil
			default:
				return result.ErrorCode
			}
		})
	})
}

func (c *Cluster) awaitLeader(ctx context.Context, topic string, partition int, right func(leader int) bool) error {
	return c.onEachBroker(ctx, func(broker *sarama.Broker) error {
		answer, err := broker.GetMetadata(sarama.NewMetadataRequest(sarama.V2_1_0_0, []string{topic}))
		if err != nil {
			return fmt.Errorf("metadata: %w", err)
		}
		known, err := partitionsOf(answer.Topics)
		if err != nil {
			return err
		}
		if partition >= len(known) || !right(known[partition].Leader) {
			return errors.New("broker does not know the leader yet")
		}
		return nil
	})
}

func fromNodes(nodes []int32) []int {
	brokers := make([]int, len(nodes))
	for i, node := range nodes {
		brokers[i] = int(node) - 1
	}
	return brokers
}

func toNodes(brokers []int) []int32 {
	nodes := make([]int32, len(brokers))
	for i, broker := range brokers {
		nodes[i] = int32(broker) + 1
	}
	return nodes
}
