package kafka

import (
	"fmt"

	"github.com/IBM/sarama"
)

// TopicDescription is what Kafka reports about a topic.
type TopicDescription struct {
	Partitions int
	// Replicas is the lowest replication factor of any partition. InSync is the
	// number of in-sync replicas of the worst partition. Leaderless is the
	// number of partitions without a leader.
	Replicas, InSync, Leaderless int
	// Missing lists the operations that a streamer needs and its principal is
	// not allowed. Known reports whether the broker returned them.
	Missing []string
	Known   bool
}

// neededOperations are the operations that a streamer needs on a topic. A
// described topic proves that Describe is allowed.
var neededOperations = []struct {
	operation sarama.AclOperation
	name      string
}{{sarama.AclOperationWrite, "Write"}, {sarama.AclOperationRead, "Read"}}

// Describe describes an existing topic.
func (c *Client) Describe(topic string) (TopicDescription, error) {
	request := sarama.NewMetadataRequest(c.client.Config().Version, []string{topic})
	request.IncludeTopicAuthorizedOperations = true
	response, err := askAny(c, func(broker *sarama.Broker) (*sarama.MetadataResponse, error) { return broker.GetMetadata(request) })
	if err != nil {
		return TopicDescription{}, fmt.Errorf("metadata of topic %q: %w", topic, err)
	}
	for _, t := range response.Topics {
		if t.Name != topic {
			continue
		}
		if t.Err != sarama.ErrNoError && t.Err != sarama.ErrLeaderNotAvailable {
			return TopicDescription{}, fmt.Errorf("metadata of topic %q: %w", topic, t.Err)
		}
		return describe(t, request.Version >= 8), nil
	}
	return TopicDescription{}, fmt.Errorf("metadata of topic %q: %w", topic, sarama.ErrUnknownTopicOrPartition)
}

func describe(t *sarama.TopicMetadata, operations bool) TopicDescription {
	d := TopicDescription{Partitions: len(t.Partitions)}
	for i, p := range t.Partitions {
		if i == 0 || len(p.Replicas) < d.Replicas {
			d.Replicas = len(p.Replicas)
		}
		if i == 0 || len(p.Isr) < d.InSync {
			d.InSync = len(p.Isr)
		}
		if p.Leader < 0 || p.Err == sarama.ErrLeaderNotAvailable {
			d.Leaderless++
		}
	}
	const notSaid = -1 << 31
	if d.Known = operations && t.TopicAuthorizedOperations != notSaid && t.TopicAuthorizedOperations != 0; !d.Known {
		return d
	}
	for _, needed := range neededOperations {
		if t.TopicAuthorizedOperations&(1<<needed.operation) == 0 {
			d.Missing = append(d.Missing, needed.name)
		}
	}
	return d
}
