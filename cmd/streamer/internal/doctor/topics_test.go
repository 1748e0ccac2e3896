package doctor

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/outboxstream/streamer/internal/kafkatest/fake"
)

// topic is what the fake tells about a topic.
type topic struct {
	replicas, inSync int // of its only partition
	leaderless       bool
	rights           int32
	settings         map[string]string
}

// What the broker says about rights, by bits.
const (
	mayRead, mayWrite = int32(1) << 3, int32(1) << 4
	mayDescribe       = int32(1) << 8
	mayAll            = mayRead | mayWrite | mayDescribe
	notSaid           = int32(-1) << 31
)

// good is a topic of which there is nothing to say.
func good(change func(*topic)) topic {
	t := topic{replicas: 3, inSync: 3, rights: mayAll, settings: map[string]string{"min.insync.replicas": "2"}}
	if change != nil {
		change(&t)
	}
	return t
}

// cluster is a fake with this topic under the name orders.
func (described topic) cluster(t *testing.T) fake.Cluster {
	t.Helper()
	cluster := fake.Start(t, kfake.NumBrokers(1))
	require.NoError(t, cluster.CreateTopic("orders", 1, described.settings))
	cluster.ControlKey(int16(kmsg.Metadata), func(request kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		asked := request.(*kmsg.MetadataRequest)
		if !asked.IncludeTopicAuthorizedOperations {
			return nil, nil, false // by no description
		}
		return described.answer(asked), nil, true
	})
	return cluster
}

func (described topic) answer(request *kmsg.MetadataRequest) kmsg.Response {
	response := request.ResponseKind().(*kmsg.MetadataResponse)
	name := "orders"
	told := kmsg.NewMetadataResponseTopic()
	told.Topic, told.AuthorizedOperations = &name, described.rights
	partition := kmsg.NewMetadataResponseTopicPartition()
	partition.Replicas = make([]int32, described.replicas)
	partition.ISR = make([]int32, described.inSync)
	if described.leaderless {
		partition.Leader = -1
	}
	told.Partitions = append(told.Partitions, partition)
	response.Topics = append(response.Topics, told)
	return response
}

func TestTopicState(t *testing.T) {
	t.Parallel()
	setting := func(name, value string) func(*topic) { return func(t *topic) { t.settings[name] = value } }
	for name, c := range map[string]struct {
		change  func(*topic)
		verdict Verdict
		words   []string
	}{
		"good":            {nil, Fine, []string{"1 partition, 3 replicas", "may be read and written"}},
		"rights unknown":  {func(t *topic) { t.rights = notSaid }, Fine, []string{"permissions not known"}},
		"no rights":       {func(t *topic) { t.rights = mayDescribe }, Failed, []string{"Write and Read", "setup --print"}},
		"may not read":    {func(t *topic) { t.rights = mayDescribe | mayWrite }, Failed, []string{"may not Read"}},
		"leaderless":      {func(t *topic) { t.leaderless, t.inSync = true, 1 }, Failed, []string{"1 of 1 partitions", "no leader"}},
		"out of sync":     {func(t *topic) { t.inSync = 1 }, Failed, []string{"1 replicas in sync", "min.insync.replicas = 2"}},
		"one replica":     {func(t *topic) { t.replicas = 1 }, Warned, []string{"replication factor 1", "min.insync.replicas=2"}},
		"one in sync":     {setting("min.insync.replicas", "1"), Warned, []string{"min.insync.replicas is 1"}},
		"all in sync":     {setting("min.insync.replicas", "3"), Warned, []string{"replication factor (3)"}},
		"small batches":   {setting("max.message.bytes", "6000"), Warned, []string{"max.message.bytes = 6000", "kafka.max_batch_bytes to 6000"}},
		"short retention": {setting("retention.ms", "86399999"), Warned, []string{"retention.ms = 86399999", "a day or more"}},
		"long retention":  {setting("retention.ms", "86400000"), Fine, nil},
		"kept for ever":   {setting("retention.ms", "-1"), Fine, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d, client := connected(t, good(c.change).cluster(t))
			d.topicState(client, "orders", true)
			assert.Len(t, d.report(t).says(c.verdict, "topic orders", c.words...).Checks, 1)
		})
	}
}

// A payload of the table does not fit into the topic, with what is beside it.
func TestTopicForThePayloadsOfTheTable(t *testing.T) {
	t.Parallel()
	d, client := connected(t, good(func(t *topic) { t.settings["max.message.bytes"] = "1000000" }).cluster(t))
	d.largest = 1000000 - 512
	d.topicState(client, "orders", true)
	d.report(t).says(Fine, "topic orders")
	d.largest++
	d.topicState(client, "orders", true)
	d.report(t).says(Warned, "topic orders", "payload of 999489 bytes", "2000002 or more", "dead-letter")
}

// What is not read back may be deleted sooner.
func TestRetentionAtLeastOnce(t *testing.T) {
	t.Parallel()
	d, client := connected(t, good(func(t *topic) { t.settings["retention.ms"] = "1000" }).cluster(t), "kafka.resume=at_least_once")
	d.topicState(client, "orders", true)
	assert.Len(t, d.report(t).says(Fine, "topic orders").Checks, 1)
}

// The checkpoint topic holds neither events nor batches.
func TestTopicThatIsNoOutput(t *testing.T) {
	t.Parallel()
	d, client := connected(t, good(func(t *topic) { t.settings["retention.ms"], t.settings["max.message.bytes"] = "1000", "600" }).cluster(t))
	d.topicState(client, "orders", false)
	assert.Len(t, d.report(t).says(Fine, "topic orders").Checks, 1)
}

func TestTopicThatCannotBeDescribed(t *testing.T) {
	t.Parallel()
	cluster := fake.Start(t, kfake.NumBrokers(1))
	d, client := connected(t, cluster)
	d.topicState(client, "gone", true)
	d.report(t).says(Failed, "topic gone", `"gone"`)
}
