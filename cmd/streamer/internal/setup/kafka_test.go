package setup

import (
	"strings"
	"testing"

	"github.com/IBM/sarama"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/internal/kafkatest/fake"
)

// topicsOf describes all topics of a cluster by name.
func topicsOf(t *testing.T, cluster fake.Cluster) map[string]sarama.TopicDetail {
	t.Helper()
	config := sarama.NewConfig()
	config.Version = sarama.V3_6_0_0
	admin, err := sarama.NewClusterAdmin(cluster.Brokers(), config)
	require.NoError(t, err)
	defer admin.Close()
	topics, err := admin.ListTopics()
	require.NoError(t, err)
	return topics
}

// settings are the settings of a topic that are not Kafka's defaults.
func settings(detail sarama.TopicDetail) map[string]string {
	values := map[string]string{}
	for name, value := range detail.ConfigEntries {
		values[name] = *value
	}
	return values
}

func TestSetupCreatesTopics(t *testing.T) {
	t.Parallel()
	cluster, brokers := fakeKafka(t)
	r := newSlot(t, brokers, "STREAMER_CHECKPOINT_STORE=kafka", "STREAMER_CHECKPOINT_KAFKA_TOPIC=checkpoints",
		"STREAMER_KAFKA_TOPIC=events", "STREAMER_ROUTES=[{aggregate_type: user, topic: 'users-{type}'}]",
		"STREAMER_KAFKA_TOPICS_PARTITIONS=3", "STREAMER_KAFKA_TOPICS_CONFIGS_CLEANUP_POLICY=compact",
		"STREAMER_POISON_POLICY=dead-letter", "STREAMER_POISON_TOPIC=letters")
	command := Command{Topic: []string{"users-moved", "events"}} // one of which the configuration names
	got := r.setup(command)
	require.NoError(t, got.err)
	assert.Contains(t, got.out, "created  checkpoint topic checkpoints\n"+
		"created  topic events\ncreated  topic users-moved\ncreated  dead letter topic letters\n")

	topics := topicsOf(t, cluster)
	require.Len(t, topics, 4)
	assert.EqualValues(t, 1, topics["checkpoints"].NumPartitions)
	assert.Equal(t, "compact", settings(topics["checkpoints"])["cleanup.policy"])
	for _, name := range command.Topic {
		assert.EqualValues(t, 3, topics[name].NumPartitions, name)
		assert.Equal(t, "compact", settings(topics[name])["cleanup.policy"], name)
	}
	letters := settings(topics["letters"])
	for name, want := range map[string]string{"cleanup.policy": "delete", "retention.ms": "-1", "max.message.bytes": "17825792"} {
		assert.Equal(t, want, letters[name], "a dead letter waits for a decision: %s", name)
	}

	again := r.setup(command)
	require.NoError(t, again.err)
	assert.Equal(t, 7, strings.Count(again.out, "exists "), again.out)
	assert.NotContains(t, again.out, "created")
}

// A topic that setup did not create is not called created, whatever a broker
// says about it at first.
func TestSetupOfTopicsThatExist(t *testing.T) {
	t.Parallel()
	cluster, brokers := fakeKafka(t)
	r := newSlot(t, brokers, "STREAMER_CHECKPOINT_STORE=kafka", "STREAMER_CHECKPOINT_KAFKA_TOPIC=checkpoints", "STREAMER_KAFKA_TOPIC=events")
	require.NoError(t, r.setup(Command{}).err)
	for _, topic := range []string{"checkpoints", "events"} {
		cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Metadata}, Topic: topic, Err: kerr.UnknownTopicOrPartition, Count: 1})
	}
	again := r.setup(Command{})
	require.NoError(t, again.err)
	assert.Contains(t, again.out, "exists   checkpoint topic checkpoints\nexists   topic events\n")
}

// Without CreateTopics setup cannot create topics, and says so once.
func TestSetupWithoutCreateTopics(t *testing.T) {
	t.Parallel()
	cluster := fake.Start(t, kfake.NumBrokers(1), fake.Without(kmsg.CreateTopics))
	r := newSlot(t, "STREAMER_KAFKA_BROKERS="+cluster.Brokers()[0], "STREAMER_CHECKPOINT_STORE=kafka",
		"STREAMER_CHECKPOINT_KAFKA_TOPIC=checkpoints", "STREAMER_KAFKA_TOPIC=events")
	got := r.setup(Command{})
	require.ErrorContains(t, got.err, "brokers do not support CreateTopics")
	assert.Equal(t, failure.Refused, failure.ClassOf(got.err))
	assert.Contains(t, failure.Describe(got.err), "one partition and cleanup.policy=compact")
	assert.Contains(t, failure.Describe(got.err), `"events"`, "the other topic is named as well")
}

// What is needed from Kafka decides whether setup talks to it.
func TestSetupLeavesKafkaAlone(t *testing.T) {
	t.Parallel()
	r := newSlot(t) // no server listens where the configuration says
	got := r.setup(Command{})
	require.NoError(t, got.err)
	assert.NotContains(t, got.out, "topic")
	for name, needs := range map[string]struct {
		command Command
		setting string
	}{
		"a topic by name":           {Command{Topic: []string{"orders"}}, "STREAMER_KAFKA_KEY={aggregate_id}"},
		"a topic of the template":   {Command{}, "STREAMER_KAFKA_TOPIC=events"},
		"a topic of the database":   {Command{}, "STREAMER_KAFKA_TOPIC=of-{database}"},
		"a topic for dead letters":  {Command{}, "STREAMER_POISON_POLICY=dead-letter"},
		"dead letters of one route": {Command{}, "STREAMER_ROUTES=[{aggregate_type: order, poison: dead-letter}]"},
		"a topic for checkpoints":   {Command{}, "STREAMER_CHECKPOINT_STORE=kafka"},
	} {
		got := r.setup(needs.command, needs.setting)
		require.Error(t, got.err, name)
		assert.Equal(t, failure.Transient, failure.ClassOf(got.err), name)
		assert.Contains(t, got.err.Error(), "127.0.0.1:1", name)
		assert.Contains(t, got.out, "exists   slot", name)
	}
}

// A checkpoint topic that would lose checkpoints is said at the end: the other
// topics are created all the same.
func TestSetupRefusesACheckpointTopic(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		partitions int32
		says       string
	}{
		"with partitions": {3, "3 partitions"},
		"that forgets":    {1, "cleanup.policy"}, // as every topic does by default
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, brokers := fakeKafka(t, kfake.SeedTopics(c.partitions, "checkpoints"))
			r := newSlot(t, brokers, "STREAMER_CHECKPOINT_STORE=kafka", "STREAMER_CHECKPOINT_KAFKA_TOPIC=checkpoints", "STREAMER_KAFKA_TOPIC=events")
			got := r.setup(Command{})
			requireRefused(t, got, `"checkpoints"`, c.says)
			assert.NotContains(t, got.out, "checkpoint topic")
			assert.Contains(t, got.out, "created  topic events")
		})
	}
}

// The error names the topic and what it is for.
func TestSetupCannotCreateATopic(t *testing.T) {
	t.Parallel()
	for what, environ := range map[string][]string{
		`topic "events"`:              {"STREAMER_KAFKA_TOPIC=events"},
		`dead letter topic "letters"`: {"STREAMER_POISON_POLICY=dead-letter", "STREAMER_POISON_TOPIC=letters"},
		`checkpoint topic "places"`:   {"STREAMER_CHECKPOINT_STORE=kafka", "STREAMER_CHECKPOINT_KAFKA_TOPIC=places"},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			cluster, brokers := fakeKafka(t)
			cluster.ControlKey(int16(kmsg.CreateTopics), func(request kmsg.Request) (kmsg.Response, error, bool) {
				cluster.KeepControl()
				response := request.ResponseKind().(*kmsg.CreateTopicsResponse)
				topic := kmsg.NewCreateTopicsResponseTopic()
				topic.Topic, topic.ErrorCode = request.(*kmsg.CreateTopicsRequest).Topics[0].Topic, kerr.PolicyViolation.Code
				response.Topics = append(response.Topics, topic)
				return response, nil, true
			})
			r := newSlot(t, append(environ, brokers)...)
			got := r.setup(Command{})
			require.ErrorIs(t, got.err, sarama.ErrPolicyViolation)
			assert.Contains(t, got.err.Error(), what)
			assert.NotContains(t, got.out, "created")
		})
	}
}
