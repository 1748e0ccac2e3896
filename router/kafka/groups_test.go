package kafka

import (
	"testing"

	"github.com/IBM/sarama"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/outboxstream/streamer/internal/kafkatest"
	"github.com/outboxstream/streamer/internal/kafkatest/fake"
)

// commitOffset stores an offset of a group, as a consumer does.
func commitOffset(t *testing.T, cluster *kafkatest.Cluster, group, topic string, partition int32, offset int64) {
	t.Helper()
	client, err := sarama.NewClient(cluster.Brokers(), cluster.Config(kafkatest.Admin))
	require.NoError(t, err)
	defer client.Close()
	manager, err := sarama.NewOffsetManagerFromClient(group, client)
	require.NoError(t, err)
	of, err := manager.ManagePartition(topic, partition)
	require.NoError(t, err)
	of.MarkOffset(offset, "")
	manager.Commit()
	require.NoError(t, of.Close())
	require.NoError(t, manager.Close())
}

func TestGroups(t *testing.T) {
	t.Parallel()
	cluster := kafkatest.Shared(t)
	topic, other := cluster.NewTopic(t, 3, nil), cluster.NewTopic(t, 1, nil)
	client := connect(t, clientConfig(cluster.Brokers()))
	asked := map[string][]int32{topic: {0, 1, 2}}
	commitOffset(t, cluster, topic+"-b", topic, 1, 17)
	commitOffset(t, cluster, topic+"-a", topic, 0, 4)
	commitOffset(t, cluster, topic+"-elsewhere", other, 0, 1)
	found, err := client.Groups(t.Context(), asked)
	require.NoError(t, err)
	assert.True(t, found.Complete)
	assert.Empty(t, found.Untold)
	require.Len(t, found.Groups, 2)
	assert.Equal(t, topic+"-a", found.Groups[0].Name)
	assert.Equal(t, map[TopicPartition]int64{{topic, 0}: 4}, found.Groups[0].Offsets)
	assert.Equal(t, map[TopicPartition]int64{{topic, 1}: 17}, found.Groups[1].Offsets)
	assert.Equal(t, "Empty", found.Groups[0].State)
}

// Groups of which nothing may be seen are named, or said to be possible.
func TestGroupsWithoutPermission(t *testing.T) {
	t.Parallel()
	cluster := fake.Start(t)
	cluster.ControlKey(int16(kmsg.ListGroups), func(request kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		answer := request.ResponseKind().(*kmsg.ListGroupsResponse)
		group := kmsg.NewListGroupsResponseGroup()
		group.Group = "hidden"
		answer.Groups = append(answer.Groups, group)
		return answer, nil, true
	})
	cluster.ControlKey(int16(kmsg.OffsetFetch), func(request kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		answer := request.ResponseKind().(*kmsg.OffsetFetchResponse)
		answer.ErrorCode = int16(sarama.ErrGroupAuthorizationFailed)
		return answer, nil, true
	})
	found, err := connect(t, clientConfig(cluster.Brokers())).Groups(t.Context(), map[string][]int32{"t": {0}})
	require.NoError(t, err)
	assert.Equal(t, []string{"hidden"}, found.Untold)
	assert.False(t, found.Complete)
	assert.Empty(t, found.Groups)
}

// A broker that refuses to list groups says so.
func TestGroupsThatAreNotListed(t *testing.T) {
	t.Parallel()
	cluster := fake.Start(t)
	cluster.ControlKey(int16(kmsg.ListGroups), func(request kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		answer := request.ResponseKind().(*kmsg.ListGroupsResponse)
		answer.ErrorCode = int16(sarama.ErrClusterAuthorizationFailed)
		return answer, nil, true
	})
	found, err := connect(t, clientConfig(cluster.Brokers())).Groups(t.Context(), map[string][]int32{"t": {0}})
	require.ErrorIs(t, err, sarama.ErrClusterAuthorizationFailed)
	assert.False(t, found.Complete)
}
