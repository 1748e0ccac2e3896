package doctor

import (
	"strings"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/outboxstream/streamer/checkpoint"
	"github.com/outboxstream/streamer/cmd/streamer/internal/site"
	"github.com/outboxstream/streamer/internal/config"
	"github.com/outboxstream/streamer/internal/kafkatest/fake"
	"github.com/outboxstream/streamer/replication"
	"github.com/outboxstream/streamer/router/kafka"
)

// connected is a doctor for a fake Kafka, with the defaults and settings, and
// a client.
func connected(t *testing.T, cluster fake.Cluster, settings ...string) (*doctor, *kafka.Client) {
	t.Helper()
	flags := map[string]string{"kafka.brokers": strings.Join(cluster.Brokers(), ",")}
	for _, setting := range settings {
		key, value, _ := strings.Cut(setting, "=")
		flags[key] = value
	}
	loaded, err := config.Load(config.Options{Flags: flags})
	require.NoError(t, err)
	client, err := site.ConnectKafka(t.Context(), loaded.Config)
	require.NoError(t, err)
	t.Cleanup(client.Close)
	return with(loaded.Config), client
}

func TestRequestsOfBrokers(t *testing.T) {
	t.Parallel()
	const what = "Kafka's protocol"
	d, client := connected(t, fake.Start(t, kfake.NumBrokers(2)))
	d.requests(client)
	d.report(t).says(Fine, what)

	d, client = connected(t, fake.Start(t, kfake.NumBrokers(1), kfake.MaxVersions(kversion.V0_10_2())))
	d.requests(client)
	d.report(t).says(Failed, what, "InitProducerId", "Kafka 2.4")

	// What only keeping others out needs is not needed by every streamer.
	d, client = connected(t, fake.Start(t, kfake.NumBrokers(1), fake.Without(kmsg.AddPartitionsToTxn, kmsg.EndTxn)))
	d.requests(client)
	d.report(t).says(Fine, what)

	cluster := fake.Start(t, kfake.NumBrokers(2))
	d, client = connected(t, cluster)
	cluster.Close()
	d.requests(client)
	d.report(t).says(Warned, what, "bring the broker back")
}

func TestCheckpointTopic(t *testing.T) {
	t.Parallel()
	const what = "checkpoint topic"
	cluster := fake.Start(t, kfake.NumBrokers(1))
	compacted := map[string]string{"cleanup.policy": "compact"}
	require.NoError(t, cluster.CreateTopic("good", 1, compacted))
	require.NoError(t, cluster.CreateTopic("several", 2, compacted))
	require.NoError(t, cluster.CreateTopic("forgets", 1, nil))
	require.NoError(t, cluster.CreateTopic("hidden", 1, compacted))
	cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Metadata}, Topic: "hidden", Err: kerr.TopicAuthorizationFailed, Count: -1})
	for topic, c := range map[string]struct {
		verdict Verdict
		words   []string
	}{
		"good":    {Fine, []string{`"good"`}},
		"missing": {Warned, []string{`"missing"`, "streamer setup"}},
		"several": {Failed, []string{"2 partitions", "checkpoint.kafka.topic"}},
		"forgets": {Failed, []string{"cleanup.policy=delete", "cleanup.policy=compact"}},
		"hidden":  {Failed, []string{"hidden", "not authorized"}},
	} {
		d, client := connected(t, cluster, "checkpoint.kafka.topic="+topic)
		d.checkpointTopic(t.Context(), client)
		e := d.report(t).says(c.verdict, what, c.words...)
		if topic == "good" {
			e.says(Warned, "topic good", "replication factor")
		} else {
			e.silent("topic " + topic)
		}
	}
	assert.Nil(t, cluster.TopicInfo("missing"), "the doctor creates nothing")
}

// The brokers' clock shows in records that they have stamped themselves.
func TestClockOfKafka(t *testing.T) {
	t.Parallel()
	const what = "clock of Kafka"
	cluster := fake.Start(t, kfake.NumBrokers(1))
	server := &replication.Server{SystemID: "7300000000000000001", Database: "shop"}
	clock := func(topic string) examined {
		t.Helper()
		d, client := connected(t, cluster)
		d.server = server
		d.kafkaClock(t.Context(), client, topic)
		return d.report(t)
	}
	require.NoError(t, cluster.CreateTopic("stamped-by-us", 1, nil))
	clock("stamped-by-us").says(Fine, what, "not compared", "message.timestamp.type=LogAppendTime")

	stamped := map[string]string{"message.timestamp.type": "LogAppendTime"}
	require.NoError(t, cluster.CreateTopic("stamped", 1, stamped))
	d, _ := connected(t, cluster)
	id := site.IdentityOf(*server, d.cfg)
	clock("stamped").silent(what) // nothing is known
	other := id
	other.Slot = "other"
	appendSaved(t, cluster, other, time.Now())
	clock("stamped").silent(what)
	appendSaved(t, cluster, id, time.Now().Add(-time.Hour))
	clock("stamped").says(Warned, what, "1h0m", "NTP")
	// Saving one of them may have taken long.
	appendSaved(t, cluster, id, time.Now())
	appendSaved(t, cluster, id, time.Now().Add(-time.Hour))
	clock("stamped").says(Fine, what, "agrees")

	server = nil
	clock("stamped").silent(what)
}

// appendSaved appends a checkpoint that was saved at a time to the topic stamped.
func appendSaved(t *testing.T, cluster fake.Cluster, id checkpoint.Identity, at time.Time) {
	t.Helper()
	content, err := checkpoint.Encode(checkpoint.Record{Identity: id, LSN: 1, SavedAt: at})
	require.NoError(t, err)
	producing := sarama.NewConfig()
	producing.Producer.Return.Successes = true
	producer, err := sarama.NewSyncProducer(cluster.Brokers(), producing)
	require.NoError(t, err)
	defer producer.Close()
	_, _, err = producer.SendMessage(&sarama.ProducerMessage{
		Topic: "stamped", Key: sarama.StringEncoder(id.Key()), Value: sarama.ByteEncoder(content), Timestamp: time.Now(),
	})
	require.NoError(t, err)
}

func TestOutputTopicsThatAreMissing(t *testing.T) {
	t.Parallel()
	r := &rig{t: t, cluster: fake.Start(t, kfake.NumBrokers(1))}
	for _, topic := range []string{"events.bill", "events.order", "forbidden"} {
		require.NoError(t, r.cluster.CreateTopic(topic, 1, nil))
	}
	r.cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Metadata}, Topic: "forbidden", Err: kerr.TopicAuthorizationFailed, Count: -1})
	r.settings = map[string]string{
		"postgres.dsn": "postgres://nobody@" + nowhere + "/none", "kafka.brokers": r.cluster.Brokers()[0], "checkpoint.store": "file",
		"kafka.topic": "events.{aggregate_type}",
		"routes": `[{"aggregate_type": "a", "topic": "orders"}, {"aggregate_type": "b", "topic": "forbidden"},
			{"aggregate_type": "c", "topic": "others.{type}"}, {"aggregate_type": "d", "topic": "events.bill"}]`,
	}
	e := r.examine("kafka.topics.create=true")
	e.says(Fine, "output topic orders", "the first event creates it").says(Fine, "output topic others.…", "creates it")
	e.says(Failed, "output topic forbidden").says(Warned, "topic events.bill", "replication factor").says(Warned, "topic events.order")
	e.silent("output topic events.…", "output topic events.bill", "output topic events.order")
	e = r.examine("kafka.topics.create=false")
	e.says(Warned, "output topic orders", "kafka.topics.create is false", "streamer setup --topic")
	e.says(Warned, "output topic others.…", "stops the streamer")
	e.silent("transactional id") // its name contains the server's identity
}

// Without CreateTopics no start creates a topic.
func TestTopicsThatCannotBeCreated(t *testing.T) {
	t.Parallel()
	cluster := fake.Start(t, kfake.NumBrokers(1), fake.Without(kmsg.CreateTopics))
	d, client := connected(t, cluster, "kafka.topics.create=true", "poison.policy=dead-letter", "poison.topic=letters")
	d.checkpointTopic(t.Context(), client)
	d.outputTopic(client, "orders", nil)
	d.deadLetters(t.Context(), client, nil)
	e := d.report(t)
	e.says(Failed, "checkpoint topic", "do not support CreateTopics", "one partition and cleanup.policy=compact", "tools of your")
	e.says(Warned, "output topic orders", "do not support CreateTopics", "tools of your Kafka service")
	e.says(Warned, "dead letter topic letters", "do not support CreateTopics", "tools of your Kafka service")
}

// What the configured kafka.resume needs decides what missing transactions
// mean.
func TestNoTransactions(t *testing.T) {
	t.Parallel()
	const what = "transactional id"
	cluster := fake.Start(t, kfake.NumBrokers(1), fake.Without(kmsg.AddPartitionsToTxn, kmsg.EndTxn))
	for resume, c := range map[string]struct {
		verdict Verdict
		words   []string
	}{
		"auto":          {Warned, []string{"repeated after a crash", "AddPartitionsToTxn, EndTxn", "kafka.resume"}},
		"exactly_once":  {Failed, []string{"AddPartitionsToTxn, EndTxn", "kafka.resume"}},
		"at_least_once": {Fine, []string{"not used"}},
	} {
		d, client := connected(t, cluster, "kafka.resume="+resume, "checkpoint.store=file")
		d.takeOver(t.Context(), client) // also without a PostgreSQL
		d.report(t).says(c.verdict, what, c.words...)
	}
}

func TestSomeTopics(t *testing.T) {
	t.Parallel()
	assert.Equal(t, []string{"a", "b"}, someTopics([]string{"a", "b"}))
	assert.Len(t, someTopics(make([]string, 51)), 50)
}

func TestTransactionalID(t *testing.T) {
	t.Parallel()
	const what = "transactional id"
	for name, c := range map[string]struct {
		resume  string
		err     *kerr.Error
		verdict Verdict
		words   []string
	}{
		"can be seen":        {"auto", nil, Fine, []string{"prefix-streamer-shop"}},
		"is not used":        {"at_least_once", kerr.TransactionalIDAuthorizationFailed, Fine, []string{"not used"}},
		"is not allowed":     {"auto", kerr.TransactionalIDAuthorizationFailed, Warned, []string{"repeated after a crash", "Describe and Write"}},
		"is needed":          {"exactly_once", kerr.TransactionalIDAuthorizationFailed, Failed, []string{"Describe and Write"}},
		"cannot be asked of": {"auto", kerr.UnknownServerError, Failed, []string{"prefix-streamer-shop"}},
	} {
		cluster := fake.Start(t, kfake.NumBrokers(1))
		d, client := connected(t, cluster, "kafka.resume="+c.resume, "checkpoint.store=file", "kafka.transactional_id_prefix=prefix-")
		d.server = &replication.Server{SystemID: "7300000000000000001", Database: "shop"}
		if c.err != nil {
			cluster.ControlKey(int16(kmsg.FindCoordinator), func(request kmsg.Request) (kmsg.Response, error, bool) {
				cluster.KeepControl()
				response := request.ResponseKind().(*kmsg.FindCoordinatorResponse)
				response.ErrorCode = c.err.Code
				return response, nil, true
			})
		}
		d.takeOver(t.Context(), client)
		require.Len(t, d.found, 1, name)
		d.report(t).says(c.verdict, what, c.words...)
	}
}

// A failure to connect says what it means for the events.
func TestKafkaCannotBeReached(t *testing.T) {
	t.Parallel()
	d := with(config.Default())
	d.cfg.Kafka.Brokers = []string{nowhere}
	d.kafka(t.Context())
	require.Len(t, d.found, 1)
	d.report(t).says(Failed, "Kafka", nowhere, "nothing is lost", "docs/how-to/incidents.md")
}
