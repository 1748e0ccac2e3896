package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/cmd/streamer/internal/deadletter"
	"github.com/outboxstream/streamer/cmd/streamer/internal/site"
	"github.com/outboxstream/streamer/cmd/streamer/internal/status"
	"github.com/outboxstream/streamer/internal/config"
	"github.com/outboxstream/streamer/internal/kafkatest"
	"github.com/outboxstream/streamer/internal/pipeline"
	"github.com/outboxstream/streamer/replication"
)

const (
	letterKey    = "aggregate-canary"
	letterCanary = "payload-canary"
)

// newLetterRig has a slot and a streamer for which rows above 1 KiB are poison.
func newLetterRig(t *testing.T, more ...string) *rig {
	t.Helper()
	r := newSlot(t, true, "STREAMER_POISON_POLICY=dead-letter", "STREAMER_KAFKA_TOPICS_CREATE=true", "STREAMER_KAFKA_MAX_RECORD_BYTES=1KiB",
		"STREAMER_KAFKA_TOPICS_CONFIGS_CLEANUP_POLICY=compact")
	r.environ = append(r.environ, "STREAMER_POISON_TOPIC="+r.letterTopic())
	r.environ = append(r.environ, more...)
	return r
}

func (r *rig) letterTopic() string { return "letters-" + r.topic }

// tooLarge commits a row that kafka.max_record_bytes forbids.
func (r *rig) tooLarge(aggregateID string) {
	r.t.Helper()
	r.insert("order", aggregateID, "T", `{"s": "`+letterCanary+strings.Repeat("x", 2000)+`"}`)
}

func (r *rig) list(arguments ...string) []deadletter.Letter {
	r.t.Helper()
	got := r.execute(append([]string{"dead-letters", "list", "--json"}, arguments...)...)
	require.Zero(r.t, got.code, got.stderr)
	return lines[deadletter.Letter](r.t, got.stdout)
}

// awaitLetters waits until n dead letters are open.
func (r *rig) awaitLetters(n int) []deadletter.Letter {
	r.t.Helper()
	var list []deadletter.Letter
	require.Eventually(r.t, func() bool {
		list = r.list()
		return len(list) >= n
	}, time.Minute, 100*time.Millisecond)
	require.Len(r.t, list, n)
	return list
}

func (r *rig) consume(topic string) []*sarama.ConsumerMessage {
	r.t.Helper()
	messages, err := kafkatest.Shared(r.t).Consume(r.t.Context(), topic)
	require.NoError(r.t, err)
	return messages
}

// awaitRecords waits until a topic holds n records.
func (r *rig) awaitRecords(topic string, n int) []*sarama.ConsumerMessage {
	r.t.Helper()
	var messages []*sarama.ConsumerMessage
	require.Eventually(r.t, func() bool {
		found, err := kafkatest.Shared(r.t).Consume(r.t.Context(), topic)
		messages = found
		return err == nil && len(found) >= n
	}, time.Minute, 100*time.Millisecond)
	require.Len(r.t, messages, n)
	return messages
}

func headerOf(m *sarama.ConsumerMessage, name string) string {
	for _, h := range m.Headers {
		if string(h.Key) == name {
			return string(h.Value)
		}
	}
	return ""
}

// answered runs the program with an operator at the keyboard.
func (r *rig) answered(answer string, arguments ...string) result {
	r.t.Helper()
	var stdout, stderr bytes.Buffer
	code := run(arguments, environment{stdin: strings.NewReader(answer), stdout: &stdout, stderr: &stderr, environ: r.environ})
	return result{code, stdout.String(), stderr.String()}
}

// The letters are those of a streamer, and doctor, status and its next start
// take notice. What the commands decide is tested in their package.
func TestDeadLetters(t *testing.T) { //nolint:tparallel // each step builds on the one before
	t.Parallel()
	r := newLetterRig(t, "STREAMER_POSTGRES_BINARY=true")
	before := r.execute("doctor")
	assert.Contains(t, before.stdout, "the first dead letter creates it")

	stop := r.stream()
	r.insert("order", letterKey, "T", "{}")
	r.tooLarge(letterKey)
	r.insert("no/topic", letterKey, "T", `{"s": "`+letterCanary+`"}`)
	r.insert("order", letterKey, "T", "{}")
	letters := r.awaitLetters(2)
	large, lost := letters[0], letters[1]
	orders := r.topic + ".order"
	r.awaitRecords(orders, 2)

	t.Run("list shows what and why, but not the row", func(t *testing.T) {
		assert.Equal(t, []string{"too_large", "unroutable"}, []string{large.Class, lost.Class})
		assert.Equal(t, []string{"order", "no/topic"}, []string{large.AggregateType, lost.AggregateType})
		assert.NotEmpty(t, large.EventID)
		assert.Equal(t, "open", string(large.State))
		table := r.execute("dead-letters", "list")
		require.Zero(t, table.code, table.stderr)
		assert.Contains(t, table.stdout, "AGGREGATE TYPE")
		assert.Contains(t, table.stdout, large.EventID)
		for _, secret := range []string{letterKey, letterCanary} {
			assert.NotContains(t, table.stdout+table.stderr, secret)
		}
	})
	t.Run("show shows the row", func(t *testing.T) {
		got := r.execute("dead-letters", "show", large.ID)
		require.Zero(t, got.code, got.stderr)
		var opened struct {
			Key     struct{ Text string }
			Payload struct{ JSON struct{ S string } }
			Headers []struct{ Name, Text string }
		}
		require.NoError(t, json.Unmarshal([]byte(got.stdout), &opened))
		assert.Equal(t, letterKey, opened.Key.Text)
		assert.Contains(t, opened.Payload.JSON.S, letterCanary)
		assert.Contains(t, opened.Headers, struct{ Name, Text string }{"streamer-column-aggregatetype", "order"})
		raw := r.execute("dead-letters", "show", "--raw", large.ID)
		assert.True(t, json.Valid([]byte(raw.stdout)), raw.stdout)
	})
	t.Run("doctor and status tell", func(t *testing.T) {
		got := r.execute("doctor")
		assert.Zero(t, got.code, got.stdout)
		assert.Contains(t, got.stdout, "warn  dead letters — 2 rows in topic")
		assert.Contains(t, got.stdout, "keeps its records", "the streamer creates the topic with settings of its own")
		assert.Contains(t, got.stdout, "ok    transactional id — ")
		assert.Contains(t, got.stdout, "ok    resume — exactly once")
		s := r.status()
		assert.Equal(t, map[string]int64{"too_large": 1, "unroutable": 1}, s.Streamer.DeadLetters)
		assert.Equal(t, &status.Resume{ExactlyOnce: true}, s.Resume)
		text := r.execute("status")
		assert.Contains(t, text.stdout, "too_large: 1 since the start")
		assert.Regexp(t, `resume +exactly once`, text.stdout)
	})
	t.Run("the operator is asked, and told by the exit code", func(t *testing.T) {
		for _, got := range []result{
			r.execute("dead-letters", "drop", "--all"), r.answered("no\n", "dead-letters", "drop", large.ID),
			r.execute("dead-letters", "retry", large.ID, "--set", "kafka.max_record_bytes=0"),
			r.execute("dead-letters", "retry", "--all", "--yes"), // which is too large as before
		} {
			assert.Equal(t, exitRefused, got.code, got.stdout)
		}
		assert.Len(t, r.list(), 2)
		assert.Len(t, r.consume(orders), 2)
	})
	t.Run("retry publishes when the cause is gone", func(t *testing.T) {
		got := r.answered("yes\n", "dead-letters", "retry", large.EventID, "--set", "kafka.max_record_bytes=0")
		require.Zero(t, got.code, got.stderr)
		assert.Contains(t, got.stdout, "retried  "+large.ID)
		messages := r.awaitRecords(orders, 3)
		again := messages[2]
		assert.Equal(t, large.EventID, headerOf(again, "ce_id"))
		assert.Equal(t, "dead-letter", headerOf(again, "streamer-replay"))
		assert.Equal(t, headerOf(messages[0], "streamer-stream"), headerOf(again, "streamer-stream"))
		assert.Greater(t, headerOf(again, "ce_sequence"), headerOf(messages[0], "ce_sequence"))
		assert.Less(t, headerOf(again, "ce_sequence"), headerOf(messages[1], "ce_sequence"))
		assert.Equal(t, letterKey, string(again.Key))
		assert.Len(t, r.list(), 1)
	})
	t.Run("drop", func(t *testing.T) {
		got := r.execute("dead-letters", "drop", "--all", "--yes", "--by", "somebody")
		require.Zero(t, got.code, got.stderr)
		assert.Empty(t, r.list())
		all := r.list("--all")
		require.Len(t, all, 2)
		assert.Equal(t, []string{"retried", "dropped"}, []string{string(all[0].State), string(all[1].State)})
		assert.Equal(t, "somebody", all[1].ResolvedBy)
		assert.Contains(t, r.execute("doctor").stdout, "ok    dead letters — none waits")
	})
	t.Run("a later start is not misled", func(t *testing.T) {
		stop()
		r.insert("order", letterKey, "T", `{"last": true}`)
		r.stream()
		r.awaitRecords(orders, 4)
		assert.Len(t, r.list("--all"), 2)
	})
}

func TestDeadLettersUsage(t *testing.T) {
	t.Parallel()
	for name, arguments := range map[string][]string{
		"none":             {"retry"},
		"one and all":      {"drop", "0:1", "--all"},
		"class of the one": {"retry", "0:1", "--class", "too_large"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := execute(t, nil, append([]string{"dead-letters"}, arguments...)...)
			assert.Equal(t, exitUsage, got.code, got.stderr)
		})
	}
}

// Doctor looks at the transactional ID and does not take it over.
func TestDoctorOfTransactionalID(t *testing.T) {
	t.Parallel()
	cluster := kafkatest.New(t, kafkatest.Options{Authorizer: true, Users: map[string]string{"alice": "alice-secret"}})
	topic := func(name string) sarama.Resource {
		return sarama.Resource{ResourceType: sarama.AclResourceTopic, ResourceName: name, ResourcePatternType: sarama.AclPatternPrefixed}
	}
	ids := sarama.Resource{
		ResourceType: sarama.AclResourceTransactionalID,
		ResourceName: "streamer-", ResourcePatternType: sarama.AclPatternPrefixed,
	}
	r := newSlot(t, false, "STREAMER_KAFKA_SASL_MECHANISM=PLAIN", "STREAMER_KAFKA_SASL_USERNAME=alice",
		"STREAMER_KAFKA_SASL_PASSWORD=alice-secret", "STREAMER_KAFKA_SASL_ALLOW_PLAINTEXT=true",
		"STREAMER_KAFKA_BROKERS="+strings.Join(cluster.Brokers(), ","), "STREAMER_KAFKA_TOPICS_CREATE=true",
		"STREAMER_POISON_POLICY=dead-letter", "STREAMER_KAFKA_MAX_RECORD_BYTES=1KiB")
	r.environ = append(r.environ, "STREAMER_POISON_TOPIC="+r.letterTopic())
	for _, name := range []string{r.topic, "checkpoints-" + r.topic, r.letterTopic()} {
		require.NoError(t, cluster.Allow(t.Context(), "alice", topic(name),
			sarama.AclOperationDescribe, sarama.AclOperationRead, sarama.AclOperationWrite, sarama.AclOperationCreate))
	}

	stop := r.stream()
	got := r.execute("doctor")
	assert.Zero(t, got.code, got.stdout)
	assert.Contains(t, got.stdout, "warn  transactional id — events are repeated after a crash: ")
	assert.Contains(t, got.stdout, "warn  resume — at least once (take over transactional id ")
	s := r.status()
	assert.False(t, s.Resume.ExactlyOnce)
	assert.Contains(t, s.Resume.Reason, "grant the streamer's principal Describe and Write on transactional id")
	got = r.execute("doctor", "--set", "kafka.resume=exactly_once")
	assert.Equal(t, exitRefused, got.code)
	assert.Contains(t, got.stdout, "FAIL  transactional id — ")
	got = r.execute("doctor", "--set", "kafka.resume=at_least_once")
	assert.Contains(t, got.stdout, "ok    transactional id — not used")
	stop()

	require.NoError(t, cluster.Allow(t.Context(), "alice", ids, sarama.AclOperationDescribe, sarama.AclOperationWrite))
	r.stream()
	require.Contains(t, r.execute("doctor").stdout, "ok    transactional id — ")
	assert.True(t, r.status().Resume.ExactlyOnce)
	// The streamer continues as before, and dead letters can be decided about
	// with the same rights.
	r.tooLarge("1")
	letter := r.awaitLetters(1)[0]
	got = r.execute("dead-letters", "retry", letter.ID, "--yes", "--set", "kafka.max_record_bytes=0")
	assert.Zero(t, got.code, got.stdout+got.stderr)
	assert.Empty(t, r.list())
	r.tooLarge("1")
	got = r.execute("dead-letters", "drop", r.awaitLetters(1)[0].ID, "--yes")
	assert.Zero(t, got.code, got.stderr)

	// The name that doctor asks about is the streamer's: taking it over
	// continues its epochs.
	_, epoch, err := cluster.TakeOver(t.Context(), r.transactionalID(), 1)
	require.NoError(t, err)
	assert.Positive(t, epoch)
}

// transactionalID computes the streamer's transactional ID.
func (r *rig) transactionalID() string {
	r.t.Helper()
	loaded, err := config.Load(config.Options{Environ: r.environ})
	require.NoError(r.t, err)
	server := r.status().Server
	return pipeline.TransactionalID(loaded.Config.Kafka.TransactionalID,
		site.IdentityOf(replication.Server{SystemID: server.SystemID, Database: server.Database}, loaded.Config), 0)
}
