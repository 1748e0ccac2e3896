package kafka

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/internal/kafkatest/fake"
)

// stale are brokers that do not know an existing topic, as may happen for a
// moment after a restart.
var stale = map[string]struct {
	brokers int
	fault   kfake.Fault
}{
	"the only broker, once":    {1, kfake.Fault{Count: 1}},
	"the only broker, thrice":  {1, kfake.Fault{Count: 3}},
	"any of three, once":       {3, kfake.Fault{Count: 1}},
	"one of three, for long":   {3, kfake.Fault{Count: -1, Nodes: []int32{0}}},
	"another of three, longer": {3, kfake.Fault{Count: -1, Nodes: []int32{1}}},
	"two of three, for long":   {3, kfake.Fault{Count: -1, Nodes: []int32{0, 2}}},
}

// A topic that a broker reports as missing counts as missing only when that is
// confirmed.
func TestStaleBroker(t *testing.T) {
	t.Parallel()
	const topic = "orders"
	for name, test := range stale {
		for what, ask := range map[string]func(*testing.T, *Client){
			"fence": func(t *testing.T, c *Client) {
				t.Helper()
				existing, err := c.Existing(t.Context(), []string{topic, "other"})
				require.NoError(t, err)
				assert.Equal(t, map[string][]int32{topic: {0, 1}, "other": {0, 1}}, existing)
			},
			"measure": func(t *testing.T, c *Client) {
				t.Helper()
				ends, err := c.Ends(t.Context(), []string{topic})
				require.NoError(t, err)
				assert.Equal(t, map[string]map[int32]int64{topic: {0: 0, 1: 0}}, ends)
			},
			"renew the fence": func(t *testing.T, c *Client) {
				t.Helper()
				o := &Owner{Client: c}
				left, err := o.existing(t.Context(), partitionsOf(topic, 2))
				require.NoError(t, err)
				assert.Equal(t, partitionsOf(topic, 2), left)
			},
			"admit": func(t *testing.T, c *Client) {
				t.Helper()
				found, err := (&Owner{Client: c}).Admit(topic, 2)
				require.NoError(t, err)
				assert.NotEmpty(t, found.TopicID)
			},
			"does it exist": func(t *testing.T, c *Client) {
				t.Helper()
				existing, err := c.Exist(t.Context(), topic)
				require.NoError(t, err)
				assert.Equal(t, []string{topic}, existing)
			},
			"scan": func(t *testing.T, c *Client) {
				t.Helper()
				logs, err := c.Logs(t.Context(), topic)
				require.NoError(t, err)
				assert.Len(t, logs, 2)
			},
			"all of it": func(t *testing.T, c *Client) {
				t.Helper()
				spans, err := c.Whole(t.Context(), topic)
				require.NoError(t, err)
				assert.Len(t, spans, 2)
			},
		} {
			t.Run(name+", "+what, func(t *testing.T) {
				t.Parallel()
				cluster := fake.Start(t, kfake.NumBrokers(test.brokers), kfake.SeedTopics(2, topic, "other"))
				c := connect(t, clientConfig(cluster.Brokers()))
				fault := test.fault
				fault.Keys, fault.Topic, fault.Err = []kmsg.Key{kmsg.Metadata}, topic, kerr.UnknownTopicOrPartition
				cluster.Fault(fault)
				ask(t, c)
			})
		}
	}
}

// A deleted topic costs some seconds, once.
func TestMissingTopicIsConfirmedOnce(t *testing.T) {
	t.Parallel()
	cluster := fake.Start(t, kfake.SeedTopics(2, "orders"))
	c := connect(t, clientConfig(cluster.Brokers()))
	began := time.Now()
	existing, err := c.Existing(t.Context(), []string{"orders", "gone"})
	require.NoError(t, err)
	assert.Equal(t, partitionsOf("orders", 2), existing)
	took := time.Since(began)
	assert.GreaterOrEqual(t, took, confirmation)
	began = time.Now()
	for range 3 {
		existing, err = c.Existing(t.Context(), []string{"orders", "gone"})
		require.NoError(t, err)
		assert.Equal(t, partitionsOf("orders", 2), existing)
	}
	assert.Less(t, time.Since(began), took/2, "a confirmed topic is believed to be missing")

	require.NoError(t, cluster.CreateTopic("gone", 1, nil))
	existing, err = c.Existing(t.Context(), []string{"gone"})
	require.NoError(t, err)
	assert.Equal(t, partitionsOf("gone", 1), existing)
	require.NoError(t, cluster.DeleteTopic("gone"))
	began = time.Now()
	_, err = c.Existing(t.Context(), []string{"gone"})
	require.NoError(t, err)
	assert.GreaterOrEqual(t, time.Since(began), confirmation, "the topic existed in the meantime")

	c.ExpectMissing([]string{"former"}) // a checkpoint says so
	began = time.Now()
	existing, err = c.Existing(t.Context(), []string{"orders", "former"})
	require.NoError(t, err)
	assert.Equal(t, partitionsOf("orders", 2), existing)
	assert.Less(t, time.Since(began), confirmation/2)
}

// While most brokers do not answer, nothing is known.
func TestMissingTopicWithoutMostBrokers(t *testing.T) {
	t.Parallel()
	cluster := fake.Start(t, kfake.SeedTopics(2, "orders"))
	c := connect(t, clientConfig(cluster.Brokers()))
	asked := 0
	cluster.ControlKey(int16(kmsg.Metadata), func(kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		if asked++; asked <= 2 || cluster.CurrentNode() == 0 {
			return nil, nil, false
		}
		return nil, errors.New("hung up"), true
	})
	_, err := c.Existing(t.Context(), []string{"gone"})
	require.ErrorContains(t, err, `topic "gone"`)
	require.ErrorContains(t, err, "1 of 3 brokers")
}

// A checkpoint topic may already exist before it is created, whatever a broker
// has said. The streamer need not be allowed to create it.
func TestStaleBrokerAndCheckpointTopic(t *testing.T) {
	t.Parallel()
	for name, test := range stale {
		for _, mayCreate := range []bool{true, false} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				cluster := fake.Start(t, kfake.NumBrokers(test.brokers))
				require.NoError(t, cluster.CreateTopic("checkpoints", 1, map[string]string{"cleanup.policy": "compact"}))
				id := cluster.TopicInfo("checkpoints").TopicID
				client := connect(t, clientConfig(cluster.Brokers()))
				fault := test.fault
				fault.Keys, fault.Topic, fault.Err = []kmsg.Key{kmsg.Metadata}, "checkpoints", kerr.UnknownTopicOrPartition
				cluster.Fault(fault)
				if !mayCreate {
					cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.CreateTopics}, Topic: "checkpoints", Err: kerr.TopicAuthorizationFailed, Count: -1})
				}
				topic := NewCompactedTopic(client, "checkpoints")
				created, err := topic.Ensure(t.Context(), 1)
				require.NoError(t, err)
				assert.False(t, created)
				assert.Equal(t, id, cluster.TopicInfo("checkpoints").TopicID)
			})
		}
	}
}

// A broker that cannot be talked to is no reason to know nothing: others are asked.
func TestTopicsWithoutABroker(t *testing.T) {
	t.Parallel()
	cluster := fake.Start(t, kfake.NumBrokers(3), kfake.SeedTopics(2, "orders"))
	c := connect(t, clientConfig(cluster.Brokers()))
	cluster.ControlKey(int16(kmsg.Metadata), func(kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		if cluster.CurrentNode() == 0 {
			return nil, errors.New("hung up"), true
		}
		return nil, nil, false
	})
	for range 12 { // any broker is asked first
		existing, err := c.Existing(t.Context(), []string{"orders"})
		require.NoError(t, err)
		assert.Equal(t, partitionsOf("orders", 2), existing)
	}
}

// A stop does not wait until it is certain that a topic is missing.
func TestStopWhileATopicSeemsMissing(t *testing.T) {
	t.Parallel()
	cluster := fake.Start(t)
	c := connect(t, clientConfig(cluster.Brokers()))
	stopped := errors.New("stopped")
	ctx, stop := context.WithCancelCause(t.Context())
	cluster.ControlKey(int16(kmsg.Metadata), func(kmsg.Request) (kmsg.Response, error, bool) {
		stop(stopped)
		return nil, nil, false
	})
	_, err := c.Existing(ctx, []string{"gone"})
	require.ErrorIs(t, err, stopped)
}

// A topic that must not be described is named, with what to grant.
func TestForbiddenTopic(t *testing.T) {
	t.Parallel()
	cluster := fake.Start(t, kfake.SeedTopics(2, "orders", "hidden"))
	cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Metadata}, Topic: "hidden", Err: kerr.TopicAuthorizationFailed, Count: -1})
	c := connect(t, clientConfig(cluster.Brokers()))
	_, err := c.Existing(t.Context(), []string{"orders", "hidden"})
	require.ErrorContains(t, err, `topic "hidden"`)
	assert.Contains(t, failure.Fix(err), "grant the streamer's principal Describe")
	assert.Equal(t, failure.Refused, failure.ClassOf(err))
}
