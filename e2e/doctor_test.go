package e2e

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/checkpoint"
	"github.com/outboxstream/streamer/internal/kafkatest"
	"github.com/outboxstream/streamer/internal/pgtest"
	"github.com/outboxstream/streamer/internal/testserver"
	"github.com/outboxstream/streamer/replication"
)

// finding is a line of `streamer doctor --json`.
type finding struct{ Verdict, What, Meaning, Remedy string }

// doctor returns the doctor's findings that are not ok.
func (r *rig) doctor(extra ...string) (found []finding, code int) {
	r.t.Helper()
	changed := *r
	changed.lines = slices.Concat(r.lines, extra)
	output, code := changed.command("doctor", "--json")
	var report struct{ Checks []finding }
	require.NoError(r.t, json.NewDecoder(strings.NewReader(output)).Decode(&report), output)
	for _, f := range report.Checks {
		if f.Verdict != "ok" {
			found = append(found, f)
		}
	}
	return found, code
}

// notices asserts that the doctor reports something about a thing, with a
// verdict and a remedy.
func (r *rig) notices(verdict, what, meaning, remedy string, extra ...string) {
	r.t.Helper()
	found, code := r.doctor(extra...)
	if verdict == "FAIL" {
		assert.Equal(r.t, 3, code)
	}
	for _, f := range found {
		if f.Verdict == verdict && strings.Contains(f.What, what) &&
			strings.Contains(f.Meaning, meaning) && strings.Contains(f.Meaning+f.Remedy, remedy) {
			return
		}
	}
	assert.Fail(r.t, "the doctor does not notice", "%s %s: %s, %s\n%+v", verdict, what, meaning, remedy, found)
}

func TestDoctorNoticesTopicsThatLoseOrRefuse(t *testing.T) {
	t.Parallel()
	r := newRig(t, outboxTable)
	p := r.startReady()
	r.numbered("o1", 1)
	r.published(p, "o1", 1)
	topic := "topic " + r.topic("order")
	r.notices("warn", topic, "replication factor 1", "replication factor of 3")
	r.setTopic("order", "max.message.bytes", "1000")
	r.notices("warn", topic, "max.message.bytes = 1000 is less than kafka.max_batch_bytes", "kafka.max_batch_bytes to 1000")
	r.insert("order", "o1", "t", fmt.Sprintf(`{"n": 2, "s": %q}`, strings.Repeat("s", 1500)))
	r.notices("warn", topic, "max.message.bytes = 1000, and the table holds a payload of 15", "max.message.bytes to 40")
	r.notices("warn", "largest payload", "more than outbox.max_row_bytes = 1024", "raise outbox.max_row_bytes", "outbox.max_row_bytes=1KiB")
	r.setTopic("order", "retention.ms", "60000")
	r.notices("warn", topic, "retention.ms = 60000", "a day or more")
	r.setTopic("order", "min.insync.replicas", "2")
	r.notices("FAIL", topic, "fewer than min.insync.replicas = 2", "bring back the brokers")
	assert.Zero(t, p.stop())
}

func TestDoctorNoticesMissingPermissions(t *testing.T) {
	testserver.Long(t)
	t.Parallel()
	const user = "app"
	cluster := kafkatest.New(t, kafkatest.Options{Authorizer: true, Users: map[string]string{user: passwordCanary}})
	r := newRig(t, outboxTable, withKafka(cluster), withConfig("kafka.sasl.mechanism=PLAIN", "kafka.sasl.username="+user,
		"kafka.sasl.password="+passwordCanary, "kafka.sasl.allow_plaintext=true"))
	admin, err := cluster.Admin()
	require.NoError(t, err)
	defer admin.Close()
	require.NoError(t, admin.CreateTopic(r.topic("order"), &sarama.TopicDetail{NumPartitions: 1, ReplicationFactor: 1}, false))
	allow := func(operations ...sarama.AclOperation) {
		t.Helper()
		require.NoError(t, cluster.Allow(t.Context(), user, sarama.Resource{
			ResourceType: sarama.AclResourceTopic, ResourceName: r.prefix, ResourcePatternType: sarama.AclPatternPrefixed,
		}, operations...))
	}
	allow(sarama.AclOperationDescribe)
	topic := "topic " + r.topic("order")
	r.notices("FAIL", topic, "the streamer's principal may not Write and Read", "setup --print")
	allow(sarama.AclOperationWrite)
	r.notices("FAIL", topic, "the streamer's principal may not Read", "setup --print")
	allow(sarama.AclOperationRead)
	found, _ := r.doctor()
	for _, f := range found {
		assert.NotContains(t, f.Meaning, "the streamer's principal may not")
	}
}

func TestDoctorNoticesAServerWithoutRoom(t *testing.T) {
	testserver.Long(t)
	t.Parallel()
	server := pgtest.New(t, pgtest.Options{Settings: map[string]string{
		"max_replication_slots": "2", "max_wal_senders": "2", "max_slot_wal_keep_size": "1GB",
	}})
	r := newRig(t, outboxTable, withServer(server))
	r.notices("warn", "server load", "1 of max_replication_slots = 2 are left", "max_replication_slots = 12")
	output, _ := r.command("doctor")
	assert.Contains(t, output, "max_slot_wal_keep_size — 1GB: a slot that needs more is lost")

	config, err := pgconn.ParseConfig(r.dsn)
	require.NoError(t, err)
	config.RuntimeParams["replication"] = "database"
	other, err := pgconn.ConnectConfig(t.Context(), config)
	require.NoError(t, err)
	r.notices("warn", "server load", "other clients take 1 of max_wal_senders = 2", "max_wal_senders = 12")
	require.NoError(t, other.Close(t.Context()))

	r.exec("alter table outbox set (autovacuum_enabled = false)")
	r.exec("insert into outbox (aggregatetype) select 'order' from generate_series(1, 1000000)")
	r.exec("delete from outbox")
	require.Eventually(t, func() bool { // the session says when it is idle
		var dead int
		require.NoError(t, r.db.QueryRow(t.Context(), "select n_dead_tup from pg_stat_all_tables where relid = 'outbox'::regclass").Scan(&dead))
		return dead == 1000000
	}, patience, 100*time.Millisecond)
	r.notices("warn", "server load", "1000000 dead rows", `VACUUM "public"."outbox"`)
}

// A streamer that has refused to continue no longer runs and cannot say why.
func TestDoctorLooksAtTheRowsThatWait(t *testing.T) {
	t.Parallel()
	r := newRig(t, outboxTable)
	p := r.startReady()
	r.numbered("o1", 1)
	r.published(p, "o1", 1)
	assert.Zero(t, p.stop())
	output, _ := r.command("doctor")
	assert.Contains(t, output, "waiting rows — 0 checked")
	r.numbered("o1", 2)
	output, _ = r.command("doctor")
	assert.Contains(t, output, "waiting rows — 1 checked, no problems")

	r.insert("invoice", "i1", "t", "{}")
	r.notices("FAIL", "waiting rows", `goes to topic "`+r.topic("invoice")+`", which does not exist`,
		"streamer setup --topic "+r.topic("invoice"), "kafka.topics.create=false")
	r.exec("insert into outbox (aggregatetype, aggregateid, payload) values ('order', 'o1', '{}')")
	r.notices("FAIL", "waiting rows", "stops the stream: column", "streamer run --set poison.policy=dead-letter")
	r.notices("warn", "waiting rows", "becomes a dead letter", "dead-letters list",
		"poison.policy=dead-letter", "poison.topic="+r.letterTopic())
}

// The brokers' clock shows in the records of the checkpoint topic.
func TestDoctorNoticesTheClockOfKafka(t *testing.T) {
	t.Parallel()
	r := newRig(t, outboxTable)
	const agrees = "clock of Kafka — agrees"
	p := r.startReady()
	r.confirmed(p)
	output, _ := r.command("doctor")
	assert.Contains(t, output, agrees)
	assert.Zero(t, p.stop())

	stored, err := r.kafka.Consume(t.Context(), "checkpoints-"+r.prefix)
	require.NoError(t, err)
	last := stored[len(stored)-1]
	topic := "other-checkpoints-" + r.prefix
	require.NoError(t, r.kafka.CreateTopic(t.Context(), topic, 1,
		map[string]string{"cleanup.policy": "compact", "message.timestamp.type": "LogAppendTime"}))
	r.put(&sarama.ProducerMessage{Topic: topic, Key: sarama.ByteEncoder(last.Key), Value: sarama.ByteEncoder(
		altered(t, last.Value, func(r *checkpoint.Record) { r.SavedAt = r.SavedAt.Add(-time.Hour) }))})
	other := "checkpoint.kafka.topic=" + topic
	r.notices("warn", "clock of Kafka", "1h0m", "NTP", other)

	require.NoError(t, r.kafka.SetTopic(t.Context(), topic, "message.timestamp.type", "CreateTime"))
	r.lines = append(r.lines, other)
	output, _ = r.command("doctor")
	assert.Contains(t, output, "clock of Kafka — not compared with the streamer's: that needs message.timestamp.type=LogAppendTime")
}

func TestDoctorNoticesSlotsOfThePast(t *testing.T) {
	t.Parallel()
	r := newRig(t, outboxTable)
	r.notices("warn", "rewind slot", "does not exist: nothing can be replayed",
		"start `streamer run`, which creates the slot", "rewind.keep=1h")
	r.exec("select pg_copy_logical_replication_slot($1, $2)", r.slot, replication.RewindSlot(r.slot))
	r.notices("warn", "rewind slot", "but rewind.keep is 0s", "pg_drop_replication_slot")
	r.exec("select pg_copy_logical_replication_slot($1, $2)", r.slot, replication.ReplaySlot(r.slot))
	r.notices("warn", "replay", "a replay was interrupted", "--discard")
	output, _ := r.command("status")
	assert.Contains(t, output, replication.RewindSlot(r.slot))
	assert.Contains(t, output, replication.ReplaySlot(r.slot)+", interrupted")
}
