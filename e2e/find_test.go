package e2e

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/internal/kafkatest"
)

// whereabouts are what `streamer find --json` prints.
type whereabouts struct {
	Events      []foundEvent
	Slots       []struct{ Slot, Confirmed string }
	NotLookedAt []string `json:"not_looked_at"`
	More        bool
	Read        []struct {
		Topic     string
		Partition int32
		Offsets   [][2]int64
	}
	RecordsRead int64 `json:"records_read"`
}

type foundEvent struct {
	ID, Source, Type, State, Answer, Position, Sequence string
	Row                                                 *struct{ Table, Topic, Problem string }
	Waiting                                             *struct {
		Slot   string
		Before int64 `json:"events_before"`
		InUse  bool  `json:"slot_in_use"`
		Behind string
	}
	Records []struct {
		Topic        string
		Partition    int32
		Offset       int64
		Kind, Replay string
	}
	DeadLetter *struct{ ID, State, Class string } `json:"dead_letter"`
	Groups     []struct {
		Group, State, Topic string
		Partition           int32
		Offset              int64
		Committed           *int64 `json:"committed_offset"`
		Passed              bool
		Before              int64 `json:"records_before"`
		Lag                 int64
	}
}

// kinds are those of an event's records, in their order.
func (e foundEvent) kinds() (kinds []string) {
	for _, r := range e.Records {
		kinds = append(kinds, r.Kind)
	}
	return kinds
}

// find runs the command, and makes sure that it prints no payload.
func (r *rig) find(code int, arguments ...string) (w whereabouts) {
	r.t.Helper()
	output, got := r.command(append([]string{"find", "--json", "--timeout", "10s"}, arguments...)...)
	require.Equal(r.t, code, got, output)
	assert.NotContains(r.t, output, payloadCanary)
	require.NoError(r.t, json.NewDecoder(strings.NewReader(output)).Decode(&w), output)
	return w
}

// findOne expects one event in a state, and nothing that was not looked at.
func (r *rig) findOne(state string, arguments ...string) foundEvent {
	r.t.Helper()
	w := r.find(0, arguments...)
	require.Len(r.t, w.Events, 1, "%+v", w)
	assert.Equal(r.t, state, w.Events[0].State, "%+v", w)
	assert.Empty(r.t, w.NotLookedAt)
	return w.Events[0]
}

// commit stores an offset of a consumer group, as a consumer does.
func (r *rig) commit(group, topic string, partition int32, offset int64) {
	r.t.Helper()
	client, err := sarama.NewClient(r.kafka.Brokers(), r.kafka.Config(kafkatest.Admin))
	require.NoError(r.t, err)
	defer client.Close()
	manager, err := sarama.NewOffsetManagerFromClient(group, client)
	require.NoError(r.t, err)
	of, err := manager.ManagePartition(topic, partition)
	require.NoError(r.t, err)
	of.MarkOffset(offset, "")
	manager.Commit()
	require.NoError(r.t, of.Close())
	require.NoError(r.t, manager.Close())
}

// What is asked for waits, is published, and is followed to the consumers.
func TestFind(t *testing.T) {
	t.Parallel()
	r := newRig(t, outboxTable)
	for n := range 5 {
		r.insert("order", "o1", "t", fmt.Sprintf(`{"n": %d}`, n))
	}
	id := r.insert("order", "o1", "com.example.placed", `{"secret": "`+payloadCanary+`"}`)
	waiting := r.findOne("waiting", id)
	require.NotNil(t, waiting.Row)
	assert.Equal(t, "public.outbox", waiting.Row.Table)
	assert.Equal(t, r.topic("order"), waiting.Row.Topic)
	require.NotNil(t, waiting.Waiting)
	assert.EqualValues(t, 5, waiting.Waiting.Before)
	assert.False(t, waiting.Waiting.InUse)
	assert.Contains(t, waiting.Answer, "no streamer reads the slot")
	assert.Equal(t, "com.example.placed", waiting.Type)

	p := r.startReady()
	messages := r.await(p, "order", 6)
	r.confirmed(p)
	record := messages[5]
	require.Equal(t, id, header(record, "ce_id"))
	topic := r.topic("order")
	r.commit(r.prefix+"-ahead", topic, record.Partition, record.Offset+1)
	r.commit(r.prefix+"-behind", topic, record.Partition, record.Offset-3)
	r.commit(r.prefix+"-elsewhere", topic, (record.Partition+1)%3, 0)
	published := r.findOne("published", id)
	assert.Equal(t, waiting.Position, published.Position, "the slot and the record say the same")
	assert.Equal(t, header(record, "ce_sequence"), published.Sequence)
	assert.Equal(t, header(record, "ce_source"), published.Source)
	require.Equal(t, []string{"published"}, published.kinds())
	assert.Equal(t, record.Offset, published.Records[0].Offset)
	assert.Equal(t, record.Partition, published.Records[0].Partition)
	require.Len(t, published.Groups, 3, "other groups read other topics")
	ahead, behind, elsewhere := published.Groups[0], published.Groups[1], published.Groups[2]
	assert.True(t, ahead.Passed)
	assert.False(t, behind.Passed)
	assert.EqualValues(t, 3, behind.Before)
	assert.Nil(t, elsewhere.Committed)
	assert.Contains(t, published.Answer, "group "+r.prefix+"-behind has not reached it: 3 records before it")
	assert.Contains(t, published.Answer, "group "+r.prefix+"-elsewhere has committed no offset in this partition")

	text, code := r.command("find", id)
	require.Zero(t, code, text)
	assert.Contains(t, text, "\npublished, but group")
	assert.NotContains(t, text, payloadCanary)
	assert.NotContains(t, text, "o1", "a key is shown to those who know it")

	// Without the row: by its key, by its position, and by nothing but its ID.
	r.exec("delete from outbox")
	for _, arguments := range [][]string{
		{id, "--key", "o1"},
		{id},
		{"--lsn", published.Sequence},
		{"--lsn", published.Position},
		{id, "--lsn", published.Position, "--key", "o1"},
		{id, "--since", "1h"},
	} {
		e := r.findOne("published", arguments...)
		assert.Equal(t, id, e.ID, arguments)
		assert.Nil(t, e.Row, arguments)
		assert.Equal(t, published.Records, e.Records, arguments)
	}
	byKey := r.find(0, "--key", "o1", "--limit", "4")
	require.Len(t, byKey.Events, 4)
	assert.True(t, byKey.More)
	assert.Equal(t, id, byKey.Events[0].ID, "the latest comes first")
	assert.Empty(t, r.find(1, "--key", "o2").Events)

	unknown := "00000000-0000-0000-0000-000000000001"
	w := r.find(1, unknown, "--key", "o1")
	assert.Empty(t, w.Events)
	assert.Empty(t, w.NotLookedAt)
	assert.EqualValues(t, 6, w.RecordsRead)
	output, code := r.command("find", "o1")
	assert.Equal(t, exitUsage, code)
	assert.Contains(t, output, "--key", "an aggregate ID is no event ID")
	output, code = r.command("find", "--lsn", "0/XYZ")
	assert.Equal(t, exitUsage, code)
	assert.Contains(t, output, `--lsn "0/XYZ" is no position`)
	assert.Equal(t, 0, p.stop())
}

// A replay and a crash publish an event again; so does a growing topic move its
// key.
func TestFindEveryRecord(t *testing.T) {
	t.Parallel()
	r, p := newReplayRig(t)
	id := r.insert("order", "o1", "t", `{"n": 1}`)
	r.await(p, "order", 1)
	r.confirmed(p)
	output, code := r.command("replay", "--from", "beginning")
	require.Zero(t, code, output)
	e := r.findOne("published", id)
	assert.Equal(t, []string{"published", "replay"}, e.kinds())
	assert.NotEmpty(t, e.Records[1].Replay)
	assert.Contains(t, e.Answer, "published 2 times")

	admin, err := r.kafka.Admin()
	require.NoError(t, err)
	defer admin.Close()
	require.NoError(t, admin.CreatePartitions(r.topic("order"), 12, nil, false))
	r.exec("delete from outbox")
	grown := r.find(0, id, "--key", "o1", "--scan")
	require.Len(t, grown.Events, 1)
	assert.Equal(t, e.Records, grown.Events[0].Records, "the key was in another partition when there were 3")
	grown = r.find(0, "--lsn", e.Position, "--key", "o1")
	require.Len(t, grown.Events, 1)
	assert.Equal(t, e.Records, grown.Events[0].Records)
	assert.Equal(t, 0, p.stop())
}

// Dead letters, their decisions, and what is behind a row that stops the stream.
func TestFindDeadLetter(t *testing.T) {
	t.Parallel()
	r := newLetterRig(t)
	p := r.startReady()
	r.numbered("o1", 1)
	r.withCanary("o1", 2)
	r.withCanary("o2", 3)
	letters := r.awaitLetters(p, 2)
	open := r.findOne("dead_letter", letters[0].EventID)
	require.NotNil(t, open.DeadLetter)
	assert.Equal(t, letters[0].ID, open.DeadLetter.ID)
	assert.Equal(t, "too_large", open.DeadLetter.Class)
	assert.Contains(t, open.Answer, "streamer dead-letters retry "+letters[0].ID)
	byKey := r.find(0, "--key", "o2")
	require.Len(t, byKey.Events, 1)
	assert.Equal(t, letters[1].EventID, byKey.Events[0].ID)

	r.setTopic("order", "max.message.bytes", "1000000")
	output, code := r.command("dead-letters", "retry", letters[0].ID, "--yes")
	require.Zero(t, code, output)
	output, code = r.command("dead-letters", "drop", letters[1].ID, "--yes", "--by", "alice")
	require.Zero(t, code, output)
	retried := r.findOne("published", letters[0].EventID)
	assert.Equal(t, []string{"late"}, retried.kinds())
	assert.Equal(t, open.Position, retried.Position)
	dropped := r.findOne("dropped", letters[1].EventID)
	assert.Contains(t, dropped.Answer, "alice")
	assert.Equal(t, 0, p.stop())
}

// traces are what a command could leave behind on the servers.
func (r *rig) traces() (all []string) {
	r.t.Helper()
	var database string
	require.NoError(r.t, r.db.QueryRow(r.t.Context(), `select string_agg(s::text, ' ' order by slot_name)
			|| (select string_agg(relname || n_tup_ins || n_tup_upd || n_tup_del, ' ' order by relname) from pg_stat_user_tables)
		from (select slot_name, active, restart_lsn, confirmed_flush_lsn from pg_replication_slots where database = current_database()) s`).
		Scan(&database))
	all = append(all, database)
	admin, err := r.kafka.Admin()
	require.NoError(r.t, err)
	defer admin.Close()
	topics, err := admin.ListTopics()
	require.NoError(r.t, err)
	for name := range topics {
		if strings.Contains(name, r.prefix) { // other tests have theirs
			all = append(all, name)
		}
	}
	groups, err := admin.ListConsumerGroups()
	require.NoError(r.t, err)
	for name := range groups {
		if strings.Contains(name, "streamer") {
			all = append(all, name)
		}
	}
	return all
}

// What stops the stream is named, with what waits behind it.
func TestFindBehindPoison(t *testing.T) {
	t.Parallel()
	r := newRig(t, outboxTable)
	r.exec("insert into outbox (aggregatetype, aggregateid, type, payload) values ('order', '', 't', '{}')")
	id := r.insert("order", "o1", "t", "{}")
	before := r.traces()
	e := r.findOne("waiting", id)
	assert.Equal(t, before, r.traces(), "it changes nothing")
	require.NotNil(t, e.Waiting)
	assert.Contains(t, e.Waiting.Behind, "an event needs it")
	assert.Contains(t, e.Answer, "behind a row that can never be published")
	var poison string
	require.NoError(t, r.db.QueryRow(t.Context(), "select id::text from outbox where aggregateid = ''").Scan(&poison))
	assert.Contains(t, r.findOne("waiting", poison).Answer, "it can never be published")
}

// Rows from before the slot are in no stream, and records expire.
func TestFindWhatIsGone(t *testing.T) {
	t.Parallel()
	r := newRig(t, "", withConfig("outbox.columns.time=created_at"))
	r.exec(strings.Replace(outboxTable, "payload jsonb)", "payload jsonb, created_at timestamptz default clock_timestamp())", 1))
	old := r.insert("order", "o1", "t", "{}")
	r.exec("create publication streamer for table outbox with (publish = 'insert', publish_via_partition_root = true)")
	r.exec("select pg_create_logical_replication_slot($1, 'pgoutput')", r.slot)
	p := r.startReady()
	r.numbered("o1", 1, 2)
	r.published(p, "o1", 1, 2)
	r.confirmed(p)
	e := r.findOne("not_published", old)
	assert.Contains(t, e.Answer, "before the slot began")

	var id string
	require.NoError(t, r.db.QueryRow(t.Context(), "select id::text from outbox where payload->>'n' = '1'").Scan(&id))
	published := r.findOne("published", id)
	admin, err := r.kafka.Admin()
	require.NoError(t, err)
	defer admin.Close()
	at := published.Records[0]
	require.NoError(t, admin.DeleteRecords(at.Topic, map[int32]int64{at.Partition: at.Offset + 1}))
	e = r.findOne("unknown", id)
	assert.Contains(t, e.Answer, "the record may have expired")
	assert.Contains(t, e.Answer, fmt.Sprintf("begins at offset %d", at.Offset+1))
	assert.Equal(t, 0, p.stop())
}

// What the principals may not see is named, and the rest is shown.
func TestFindWithoutPermission(t *testing.T) {
	t.Parallel()
	cluster := kafkatest.New(t, kafkatest.Options{Authorizer: true, Users: map[string]string{principal: passwordCanary}})
	r := newRig(t, outboxTable, withKafka(cluster))
	topic := r.topic("order")
	require.NoError(t, cluster.CreateTopic(t.Context(), topic, 3, nil))
	for _, name := range []string{topic, "checkpoints-" + r.prefix} {
		require.NoError(t, cluster.Allow(t.Context(), principal, sarama.Resource{
			ResourceType: sarama.AclResourceTopic, ResourceName: name, ResourcePatternType: sarama.AclPatternLiteral,
		}, sarama.AclOperationRead, sarama.AclOperationWrite, sarama.AclOperationDescribe, sarama.AclOperationCreate))
	}
	require.NoError(t, cluster.Allow(t.Context(), principal, sarama.Resource{
		ResourceType: sarama.AclResourceTransactionalID, ResourceName: "streamer-", ResourcePatternType: sarama.AclPatternPrefixed,
	}, sarama.AclOperationWrite, sarama.AclOperationDescribe))
	r.lines = append(r.lines, "kafka.sasl.mechanism=PLAIN", "kafka.sasl.username="+principal,
		"kafka.sasl.password="+passwordCanary, "kafka.sasl.allow_plaintext=true")
	r.asRole("replication password '" + passwordCanary + "'")
	p := r.startReady()
	id := r.insert("order", "o1", "t", "{}")
	messages := r.await(p, "order", 1)
	r.commit("hidden", topic, messages[0].Partition, 0)
	w := r.find(0, id)
	require.Len(t, w.Events, 1)
	assert.Equal(t, "published", w.Events[0].State)
	assert.Empty(t, w.Events[0].Groups)
	assert.Nil(t, w.Events[0].Row)
	assert.Contains(t, strings.Join(w.NotLookedAt, "\n"), "GRANT SELECT ON")
	assert.Contains(t, strings.Join(w.NotLookedAt, "\n"), "consumer groups that")

	require.NoError(t, cluster.Allow(t.Context(), principal, sarama.Resource{
		ResourceType: sarama.AclResourceGroup, ResourceName: "hidden", ResourcePatternType: sarama.AclPatternLiteral,
	}, sarama.AclOperationDescribe))
	w = r.find(0, id)
	require.Len(t, w.Events[0].Groups, 1)
	assert.Equal(t, "hidden", w.Events[0].Groups[0].Group)
	assert.Equal(t, 0, p.stop())
}

// IDs are unique within a source: an ID that two tables have is two events.
func TestFindInSeveralTables(t *testing.T) {
	t.Parallel()
	r := newTablesRig(t)
	p := r.startReady()
	r.both(1)
	r.await(p, "order", 3)
	r.confirmed(p)
	w := r.find(0, "1")
	require.Len(t, w.Events, 2)
	assert.ElementsMatch(t, []string{"/stock", "/returns"}, []string{w.Events[0].Source, w.Events[1].Source})
	for _, e := range w.Events {
		assert.Equal(t, "published", e.State)
		require.NotNil(t, e.Row)
		assert.Equal(t, []string{"published"}, e.kinds())
	}
	assert.NotEqual(t, w.Events[0].Row.Table, w.Events[1].Row.Table)
	assert.Len(t, r.find(0, "--key", "o1").Events, 3)
	assert.Len(t, r.find(0, "--lsn", strings.Split(w.Events[0].Position, "+")[0]).Events, 3, "one transaction")
	assert.Equal(t, 0, p.stop())
}

// Events from before the slot, and those of other programs, are told apart.
func TestFindOfOtherOrigin(t *testing.T) {
	t.Parallel()
	r := newRig(t, "", withConfig("outbox.columns.time=created_at", "snapshot.mode=initial", "snapshot.order_by=n"))
	r.exec(strings.Replace(outboxTable, "payload jsonb)",
		"payload jsonb, n bigint generated always as identity unique, created_at timestamptz default clock_timestamp())", 1))
	old := r.insert("order", "o1", "t", "{}")
	r.exec("create publication streamer for table outbox with (publish = 'insert', publish_via_partition_root = true)")
	r.exec("select pg_create_logical_replication_slot($1, 'pgoutput')", r.slot)
	p := r.startReady()
	r.await(p, "order", 1)
	assert.Equal(t, []string{"snapshot"}, r.findOne("published", old).kinds())

	config := r.kafka.Config(kafkatest.Admin)
	config.Producer.Return.Successes = true
	producer, err := sarama.NewSyncProducer(r.kafka.Brokers(), config)
	require.NoError(t, err)
	defer producer.Close()
	const theirs = "00000000-0000-0000-0000-00000000000b"
	_, _, err = producer.SendMessage(&sarama.ProducerMessage{
		Topic: r.topic("order"), Key: sarama.StringEncoder("o1"), Value: sarama.StringEncoder(payloadCanary),
		Headers: []sarama.RecordHeader{{Key: []byte("id"), Value: []byte(theirs)}},
	})
	require.NoError(t, err)
	e := r.findOne("published", theirs)
	assert.Equal(t, []string{"foreign"}, e.kinds())
	assert.Contains(t, e.Answer, "by another program")
	assert.Equal(t, 0, p.stop())
}

// A large table without an index is not read for long, and an ID that holds a time
// says where to look without it.
func TestFindWithoutIndex(t *testing.T) {
	t.Parallel()
	r := newRig(t, strings.Replace(outboxTable, "id uuid primary key", "id uuid", 1))
	p := r.startReady()
	id := fmt.Sprintf("%012x", time.Now().UnixMilli())
	id = id[:8] + "-" + id[8:] + "-7000-8000-000000000001"
	r.exec("insert into outbox values ($1, 'order', 'o1', 't', '{}')", id)
	r.await(p, "order", 1)
	r.confirmed(p)
	assert.Equal(t, 0, p.stop())
	r.exec("insert into outbox select gen_random_uuid(), 'order', 'o' || n, 't', jsonb_build_object('pad', repeat('x', 500)) " +
		"from generate_series(1, 100000) n")
	w := r.find(0, id, "--timeout", "1ms")
	require.Len(t, w.Events, 1)
	assert.Equal(t, "published", w.Events[0].State)
	assert.Nil(t, w.Events[0].Row)
	require.NotEmpty(t, w.NotLookedAt) // a slow machine looks at less
	assert.Contains(t, w.NotLookedAt[0], "it has no index on id, and the search was given up after 1ms")

	// Of what was not looked at, nothing is claimed.
	unknown := "00000000-0000-0000-0000-000000000001"
	w = r.find(1, unknown, "--timeout", "1ms")
	assert.Greater(t, len(w.NotLookedAt), 1, "nor was the slot read to its end")
	assert.Contains(t, strings.Join(w.NotLookedAt, "\n"), "what waits in it was read")
	assert.Empty(t, r.find(1, unknown, "--scan").NotLookedAt)
}

// What is in Kafka is published, also where a crash has kept the slot from being
// told.
func TestFindBeforeItIsConfirmed(t *testing.T) {
	t.Parallel()
	r := newRig(t, outboxTable, withConfig("checkpoint.interval=1h"))
	p := r.startReady()
	id := r.insert("order", "o1", "t", "{}")
	record := r.await(p, "order", 1)[0]
	p.kill()
	e := r.findOne("published", id)
	require.NotNil(t, e.Waiting, "the slot has it as well")
	assert.Equal(t, []string{"published"}, e.kinds())
	assert.Equal(t, record.Offset, e.Records[0].Offset)
	assert.Equal(t, header(record, "ce_sequence"), e.Sequence)
}

// Messages are in no table. Those of a key are found in the slot and in Kafka.
func TestFindOfMessages(t *testing.T) {
	t.Parallel()
	r := newMessagesRig(t)
	r.emit(0, 6)
	w := r.find(0, "--key", "o1")
	require.Len(t, w.Events, 2)
	for _, e := range w.Events {
		assert.Equal(t, "waiting", e.State)
	}
	assert.Greater(t, w.Events[0].Sequence, w.Events[1].Sequence, "the latest comes first")
	require.Len(t, w.NotLookedAt, 1)
	assert.Contains(t, w.NotLookedAt[0], "a message is only in the WAL")
	waiting := w.Events[0]
	p := r.startReady()
	r.await(p, "order", 6)
	r.confirmed(p)
	w = r.find(0, waiting.ID)
	require.Len(t, w.Events, 1)
	assert.Equal(t, "published", w.Events[0].State)
	assert.Equal(t, waiting.Position, w.Events[0].Position)
	assert.Equal(t, waiting.Source, w.Events[0].Source)
	assert.Equal(t, 0, p.stop())
}

// Each shard has a slot of its own.
func TestFindInShards(t *testing.T) {
	t.Parallel()
	r := newShardRig(t)
	r.setUp(2)
	r.lines = append(r.lines, "shard.count=2", "shard.index=0")
	ids := map[string]string{}
	for n := range 8 {
		key := fmt.Sprintf("o%d", n)
		ids[key] = r.insert("order", key, "t", "{}")
	}
	slots := map[string]int{}
	for _, id := range ids {
		e := r.findOne("waiting", id)
		slots[e.Waiting.Slot]++
	}
	assert.Len(t, slots, 2, "%v", slots)
}
