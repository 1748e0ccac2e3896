package kafka

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/IBM/sarama"
)

// Group is a consumer group that has committed offsets.
type Group struct {
	Name string
	// State is as Kafka names it: Stable, Empty (nobody consumes), and others. It is
	// empty where the broker does not say, before Kafka 2.6.
	State string
	// Offsets are those to be read next.
	Offsets map[TopicPartition]int64
}

// Groups are the consumer groups of some partitions.
type Groups struct {
	Groups []Group // sorted by name
	// Complete reports that brokers have named all of them. They leave out those that
	// the principal may not describe, and do not say so.
	Complete bool
	// Untold are groups whose offsets the principal may not see.
	Untold []string
}

// Groups lists the groups that have committed offsets in partitions. It changes
// nothing. An error is about a broker that does not answer; what the others know
// is returned even then.
func (c *Client) Groups(ctx context.Context, partitions map[string][]int32) (all Groups, err error) {
	answers, asked, err := askBrokers(c, func(b *sarama.Broker) (Groups, error) { return groupsOf(ctx, b, partitions) })
	for _, a := range answers {
		all.Groups, all.Untold = append(all.Groups, a.Groups...), append(all.Untold, a.Untold...)
	}
	if missing := asked - len(answers); err == nil && missing > 0 {
		err = fmt.Errorf("consumer groups: %d of %d brokers do not answer: %w", missing, asked, sarama.ErrOutOfBrokers)
	}
	slices.SortFunc(all.Groups, func(a, b Group) int { return strings.Compare(a.Name, b.Name) })
	slices.Sort(all.Untold)
	all.Untold = slices.Compact(all.Untold)
	if err == nil {
		all.Complete = len(all.Untold) == 0 && c.describesCluster(partitions)
	}
	return all, err
}

// groupsOf asks a broker for the groups that it coordinates.
func groupsOf(ctx context.Context, b *sarama.Broker, partitions map[string][]int32) (found Groups, err error) {
	const states = 4 // the version that tells them; sarama takes an older one if the broker has no other
	listed, err := b.ListGroups(&sarama.ListGroupsRequest{Version: states})
	if err == nil && listed.Err != sarama.ErrNoError {
		err = listed.Err
	}
	if err != nil {
		return found, fmt.Errorf("consumer groups of broker %d: %w", b.ID(), err)
	}
	for name := range listed.Groups {
		if err := ctx.Err(); err != nil {
			return found, context.Cause(ctx)
		}
		offsets, err := committed(b, name, partitions)
		switch {
		case errors.Is(err, sarama.ErrGroupAuthorizationFailed), errors.Is(err, sarama.ErrTopicAuthorizationFailed):
			found.Untold = append(found.Untold, name)
		case errors.Is(err, sarama.ErrGroupIDNotFound), errors.Is(err, sarama.ErrNotCoordinatorForConsumer):
			// it was deleted, or has moved and another broker lists it
		case err != nil:
			return found, fmt.Errorf("offsets of group %q: %w", name, err)
		case len(offsets) > 0:
			found.Groups = append(found.Groups, Group{Name: name, State: listed.GroupsData[name].GroupState, Offsets: offsets})
		}
	}
	return found, nil
}

func committed(b *sarama.Broker, group string, partitions map[string][]int32) (map[TopicPartition]int64, error) {
	response, err := b.FetchOffset(sarama.NewOffsetFetchRequest(sarama.V2_5_0_0, group, partitions))
	if err != nil {
		return nil, err
	}
	if response.Err != sarama.ErrNoError {
		return nil, response.Err
	}
	offsets := map[TopicPartition]int64{}
	for topic, blocks := range response.Blocks {
		for id, block := range blocks {
			if block.Err != sarama.ErrNoError {
				return nil, block.Err
			}
			if block.Offset >= 0 {
				offsets[TopicPartition{topic, id}] = block.Offset
			}
		}
	}
	return offsets, nil
}

// describesCluster reports whether the principal may describe the cluster, and
// with it all groups.
func (c *Client) describesCluster(partitions map[string][]int32) bool {
	const toldFrom, toldTo = 8, 10 // versions of the request that ask for what is allowed
	request := &sarama.MetadataRequest{Version: toldTo - 1, IncludeClusterAuthorizedOperations: true}
	for topic := range partitions {
		request.Topics = append(request.Topics, topic) // without any it would be about all
	}
	response, err := askAny(c, func(b *sarama.Broker) (*sarama.MetadataResponse, error) { return b.GetMetadata(request) })
	if err != nil || request.Version < toldFrom {
		return false
	}
	const notSaid = -1 << 31
	allowed := response.ClusterAuthorizedOperations
	return allowed != notSaid && allowed&(1<<sarama.AclOperationDescribe) != 0
}
