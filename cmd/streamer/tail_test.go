package main

import (
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/internal/kafkatest"
	"github.com/outboxstream/streamer/router"
)

// produce writes records to partition 0 of a topic. An empty type makes a
// record that is not a CloudEvent.
func produce(t *testing.T, topic string, records ...record) {
	t.Helper()
	cluster := kafkatest.Shared(t)
	config := cluster.Config(kafkatest.Admin)
	config.Producer.Return.Successes = true
	config.Producer.Partitioner = sarama.NewManualPartitioner
	producer, err := sarama.NewSyncProducer(cluster.Brokers(), config)
	require.NoError(t, err)
	defer producer.Close()
	for _, r := range records {
		message := &sarama.ProducerMessage{Topic: topic, Key: sarama.StringEncoder(r.key), Value: sarama.StringEncoder(r.value), Timestamp: r.at}
		if r.typ != "" {
			for name, value := range map[string]string{
				"ce_specversion": "1.0", "ce_id": "1", "ce_source": "/test", "ce_type": r.typ,
				"content-type": "application/json",
			} {
				message.Headers = append(message.Headers, sarama.RecordHeader{Key: []byte(name), Value: []byte(value)})
			}
		}
		_, _, err := producer.SendMessage(message)
		require.NoError(t, err)
	}
}

type record struct {
	key, typ, value string
	at              time.Time
}

func TestTail(t *testing.T) {
	t.Parallel()
	topic := kafkatest.Shared(t).NewTopic(t, 1, nil)
	old := time.Date(2020, 1, 2, 3, 4, 5, 0, time.UTC)
	produce(t, topic,
		record{"a", "T1", `{"n":0}`, old},
		record{"b", "T2", `{"n":1}`, old.Add(time.Hour)},
		record{"\xff", "", "plain", old.Add(2 * time.Hour)},
		record{"a", "T2", `{"n":3}`, old.Add(3 * time.Hour)},
	)
	environ := []string{"STREAMER_KAFKA_BROKERS=" + kafkatest.Shared(t).Brokers()[0]}
	for name, c := range map[string]struct {
		arguments []string
		offsets   []int64
	}{
		"from the beginning": {[]string{"--from", "beginning", "--limit", "4"}, []int64{0, 1, 2, 3}},
		"limit":              {[]string{"--from", "beginning", "--limit", "2"}, []int64{0, 1}},
		"from an offset":     {[]string{"--from", "2", "--limit", "2"}, []int64{2, 3}},
		"from a time":        {[]string{"--from", "2020-01-02T04:04:05Z", "--limit", "3"}, []int64{1, 2, 3}},
		"by key":             {[]string{"--from", "beginning", "--key", "a", "--limit", "2"}, []int64{0, 3}},
		"by type":            {[]string{"--from", "beginning", "--type", "T2", "--limit", "2"}, []int64{1, 3}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := execute(t, environ, append([]string{"tail", topic}, c.arguments...)...)
			require.Zero(t, got.code, got.stderr)
			var offsets []int64
			for _, line := range lines[router.Rendering](t, got.stdout) {
				offsets = append(offsets, *line.Offset)
				assert.Equal(t, old.Add(time.Duration(*line.Offset)*time.Hour), line.Timestamp)
				assert.Equal(t, topic, line.Topic)
				assert.Zero(t, *line.Partition)
			}
			assert.Equal(t, c.offsets, offsets)
		})
	}
	t.Run("a record that is no CloudEvent", func(t *testing.T) {
		t.Parallel()
		got := execute(t, environ, "tail", topic, "--from", "2", "--limit", "1")
		require.Zero(t, got.code, got.stderr)
		line := lines[router.Rendering](t, got.stdout)[0]
		require.NotNil(t, line.NotACloudEvent)
		assert.NotEmpty(t, line.NotACloudEvent.Reason)
		assert.Equal(t, "plain", string(line.NotACloudEvent.Value))
		assert.Equal(t, "\xff", string(line.KeyBase64))
		assert.Nil(t, line.Event)
	})
	t.Run("a topic that does not exist", func(t *testing.T) {
		t.Parallel()
		got := execute(t, environ, "tail", topic+"-missing")
		assert.Equal(t, exitFailed, got.code)
		assert.Contains(t, got.stderr, "does not exist")
	})
}

func TestTailFollowsTopicsThatComeLater(t *testing.T) {
	t.Parallel()
	base := kafkatest.TopicName(t)
	cluster := kafkatest.Shared(t)
	environ := []string{"STREAMER_KAFKA_BROKERS=" + cluster.Brokers()[0], "STREAMER_KAFKA_TOPIC=" + base + ".{aggregate_type}"}
	done := make(chan result, 1)
	go func() { done <- execute(t, environ, "tail", "--from", "beginning", "--limit", "3") }()
	require.NoError(t, cluster.CreateTopic(t.Context(), base+".one", 2, nil))
	produce(t, base+".one", record{"a", "T", "{}", time.Now()}, record{"b", "T", "{}", time.Now()})
	require.NoError(t, cluster.CreateTopic(t.Context(), base+".two", 1, nil))
	produce(t, base+".two", record{"c", "T", "{}", time.Now()})
	got := <-done
	require.Zero(t, got.code, got.stderr)
	keys := map[string]bool{}
	for _, line := range lines[router.Rendering](t, got.stdout) {
		keys[*line.Key] = true
	}
	assert.Equal(t, map[string]bool{"a": true, "b": true, "c": true}, keys)
}
