package e2e

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/internal/kafkatest"
)

// taken is an outbox of which Debezium has published a part.
type taken struct {
	*rig
	ids []string // of rows that wait, in the order of their commits
}

const keysTaken = 5

// newTaken inserts rows for five keys, and publishes those that wanted chooses
// as Debezium does.
func newTaken(t *testing.T, rows int, wanted func(n int) bool, options ...option) *taken {
	t.Helper()
	r := &taken{rig: newRig(t, outboxTable, append(options, withConfig("kafka.topics.partitions=3"))...)}
	require.NoError(t, r.kafka.CreateTopic(t.Context(), r.topic("order"), 3, nil))
	for n := range rows {
		r.ids = append(r.ids, r.insert("order", fmt.Sprintf("o%d", n%keysTaken), "placed", fmt.Sprintf(`{"n": %d}`, n)))
		if wanted(n) {
			r.put(r.byDebezium(n))
		}
	}
	return r
}

// byDebezium is the record that Debezium makes of a row.
func (r *taken) byDebezium(n int) *sarama.ProducerMessage {
	key := fmt.Sprintf("o%d", n%keysTaken)
	m := r.asDebezium(r.ids[n], fmt.Sprintf(`{"n": %d}`, n))
	m.Key, m.Partition = sarama.StringEncoder(key), r.partition(key, 3)
	return m
}

// partition is that of Java's partitioner.
func (r *taken) partition(key string, partitions int32) int32 {
	p := sarama.NewMurmur2Partitioner("")
	id, err := p.Partition(&sarama.ProducerMessage{Key: sarama.StringEncoder(key)}, partitions)
	require.NoError(r.t, err)
	return id
}

// plan is what streamer take-over --json prints.
type plan struct {
	Rows      int64                 `json:"rows"`
	Published int64                 `json:"published"`
	Holes     []struct{ ID string } `json:"holes"`
	Continued bool                  `json:"continued"`
	Late      []struct{ ID string } `json:"in_kafka_twice"`
	Arrived   int64                 `json:"arrived_while_waiting"`
	Result    string                `json:"result"`
}

// takeOver runs the command. It waits for nothing unless asked to.
func (r *taken) takeOver(arguments ...string) (p plan, output string, code int) {
	r.t.Helper()
	if !slices.ContainsFunc(arguments, func(a string) bool { return strings.HasPrefix(a, "--wait") }) {
		arguments = append(arguments, "--wait=0s")
	}
	output, code = r.command(append([]string{"take-over", "debezium", "--json"}, arguments...)...)
	if start := strings.Index(output, "{\n"); start >= 0 {
		require.NoError(r.t, json.NewDecoder(strings.NewReader(output[start:])).Decode(&p), output)
	}
	return p, output, code
}

// idOf is the ID of an event, for one who knows only Debezium's format or only
// the streamer's.
func idOf(m *sarama.ConsumerMessage) string {
	return cmp.Or(header(m, "ce_id"), header(m, "id"), header(m, "event-id"))
}

// eachOnce makes sure that every row is in Kafka once, in the order of its key,
// apart from those that are left out.
func (r *taken) eachOnce(without ...int) {
	r.t.Helper()
	place := map[string]int{}
	for n, id := range r.ids {
		place[id] = n
	}
	seen, last := map[string]int{}, map[string]int{}
	for _, m := range r.records("order") {
		id := idOf(m)
		seen[id]++
		if header(m, "ce_replay") == "" {
			assert.GreaterOrEqual(r.t, place[id], last[string(m.Key)], "order of %s", m.Key)
			last[string(m.Key)] = place[id]
		}
		assert.Equal(r.t, fmt.Sprintf("o%d", place[id]%keysTaken), string(m.Key))
	}
	for n, id := range r.ids {
		want := 1
		if slices.Contains(without, n) {
			want = 0
		}
		assert.Equal(r.t, want, seen[id], "row %d", n)
	}
	assert.Len(r.t, seen, len(r.ids)-len(without))
}

// What Debezium has published is not published again, and what it has not is
// published in order. The streamer goes on from there.
func TestTakeOver(t *testing.T) {
	t.Parallel()
	r := newTaken(t, 40, func(n int) bool { return n < 25 })
	p, output, code := r.takeOver("--dry-run")
	require.Zero(t, code, output)
	assert.Equal(t, int64(40), p.Rows)
	assert.Equal(t, int64(25), p.Published)
	assert.Equal(t, "nothing was changed", p.Result)
	assert.Len(t, r.records("order"), 25)
	output, code = r.command("checkpoint", "show")
	assert.NotZero(t, code, output)

	p, output, code = r.takeOver()
	require.Zero(t, code, output)
	assert.Equal(t, int64(25), p.Published)
	r.eachOnce()

	p, output, code = r.takeOver()
	require.Zero(t, code, "a second run finds the same: %s", output)
	assert.True(t, p.Continued)
	r.eachOnce()

	s := r.startReady()
	r.ids = append(r.ids, r.insert("order", "o0", "placed", `{}`))
	r.await(s, "order", 41)
	r.eachOnce()
	output, code = r.command("checkpoint", "show")
	assert.Zero(t, code)
	assert.Contains(t, output, "taken over")
}

// A take-over that is killed is continued: by another one, or by the first start.
func TestTakeOverKilled(t *testing.T) {
	t.Parallel()
	for name, again := range map[string][]string{"by take-over": {"take-over", "debezium"}, "by run": {"run"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newTaken(t, 30, func(n int) bool { return n < 10 })
			rows, err := r.db.Query(t.Context(), "insert into outbox (aggregatetype, aggregateid, type, payload) "+
				"select 'order', 'o' || i % 5, 'placed', jsonb_build_object('n', i) from generate_series(30, 20000) i returning id::text")
			require.NoError(t, err)
			more, err := pgx.CollectRows(rows, pgx.RowTo[string])
			require.NoError(t, err)
			r.ids = append(r.ids, more...)
			for range 3 {
				p := r.startWith([]string{"take-over", "debezium", "--wait=0s"})
				p.logged("streaming")
				p.kill()
			}
			p := r.startWith(again)
			if again[0] == "take-over" { // ends by itself, sooner than anybody looks
				<-p.exited
			} else {
				r.await(p, "order", len(r.ids))
			}
			r.eachOnce()
		})
	}
}

// A row that Debezium left out, although it has published later ones of its key,
// needs a decision.
func TestTakeOverWithHoles(t *testing.T) {
	t.Parallel()
	holes := []int{3, 7}
	for name, c := range map[string]struct {
		decision string
		without  []int
	}{"publish": {"publish", nil}, "leave": {"leave", holes}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newTaken(t, 30, func(n int) bool { return n < 20 && !slices.Contains(holes, n) })
			p, output, code := r.takeOver()
			assert.Equal(t, 3, code, output)
			assert.Contains(t, output, "--holes publish")
			require.Len(t, p.Holes, 2)
			assert.Equal(t, r.ids[3], p.Holes[0].ID)
			assert.Len(t, r.records("order"), 18)

			_, output, code = r.takeOver("--holes", c.decision)
			require.Zero(t, code, output)
			r.eachOnce(c.without...)
			var marked []string
			for _, m := range r.records("order") {
				if header(m, "ce_replay") == "take-over" {
					marked = append(marked, header(m, "ce_id"))
				}
			}
			if c.without == nil {
				assert.ElementsMatch(t, []string{r.ids[3], r.ids[7]}, marked)
			} else {
				assert.Empty(t, marked)
			}
		})
	}
}

// A record of Debezium's that arrives while the command waits counts, and one
// that arrives after the streamer has published the row is named.
func TestTakeOverWithLateRequests(t *testing.T) {
	t.Parallel()
	r := newTaken(t, 20, func(n int) bool { return n < 10 })
	late := r.startWith([]string{"take-over", "debezium", "--wait=3s"})
	late.logged("waiting for requests of the former publisher")
	r.put(r.byDebezium(10), r.byDebezium(11))
	require.Zero(t, late.code())
	assert.Contains(t, late.log.String(), "records that arrived while waiting: 2")
	r.eachOnce()

	r.put(r.byDebezium(15))
	p, output, code := r.takeOver()
	assert.Equal(t, 3, code, output)
	assert.Contains(t, output, "in Kafka twice")
	require.Len(t, p.Late, 1)
	assert.Equal(t, r.ids[15], p.Late[0].ID)
}

// Whatever makes it unclear which rows are published prevents a take-over.
func TestTakeOverRefuses(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		prepare func(t *testing.T, r *taken) (arguments []string)
		says    string
		code    int
	}{
		"a slot in use": {func(_ *testing.T, r *taken) []string {
			r.holdSlot()
			return nil
		}, "stop the former publisher", 3},
		"another topic": {func(_ *testing.T, r *taken) []string {
			r.lines = append(r.lines, "kafka.topic="+r.prefix+".{type}")
			return nil
		}, "hold no event of another program", 3},
		"another key": {func(*testing.T, *taken) []string {
			return []string{"--set", "kafka.key={type}"}
		}, "has another key", 3},
		"another partitioner": {func(_ *testing.T, r *taken) []string {
			r.lines = append(r.lines, "kafka.partitioner=fnv1a")
			return nil
		}, "in other partitions", 3},
		"a compacted topic": {func(_ *testing.T, r *taken) []string {
			r.setTopic("order", "cleanup.policy", "compact")
			return nil
		}, "is compacted", 3},
		"IDs that repeat": {func(_ *testing.T, r *taken) []string {
			r.exec("alter table outbox drop constraint outbox_pkey")
			r.exec("insert into outbox select * from outbox limit 1")
			return nil
		}, "have the event ID of another row", 3},
		"the connector of another slot": {func(t *testing.T, r *taken) []string {
			t.Helper()
			file := filepath.Join(r.folder, "connector.properties")
			require.NoError(t, os.WriteFile(file, []byte(`name=outbox
connector.class=io.debezium.connector.postgresql.PostgresConnector
topic.prefix=shop
slot.name=other
transforms=outbox
transforms.outbox.type=io.debezium.transforms.outbox.EventRouter
`), 0o600))
			return []string{"--connector", file}
		}, `reads slot "other"`, 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newTaken(t, 10, func(n int) bool { return n < 5 })
			before := len(r.records("order"))
			arguments := c.prepare(t, r)
			_, output, code := r.takeOver(arguments...)
			assert.Equal(t, c.code, code, output)
			assert.Contains(t, output, c.says)
			assert.Len(t, r.records("order"), before)
			output, _ = r.command("checkpoint", "show")
			assert.Contains(t, output, "no checkpoint")
		})
	}
}

// holdSlot streams from the slot, as a connector that has not stopped.
func (r *taken) holdSlot() {
	r.t.Helper()
	conn, err := pgconn.Connect(r.t.Context(), dsnOf(r.t, r.dsn, func(u *url.URL) { u.RawQuery = "replication=database" }))
	require.NoError(r.t, err)
	r.t.Cleanup(func() { assert.NoError(r.t, conn.Close(context.WithoutCancel(r.t.Context()))) })
	require.NoError(r.t, pglogrepl.StartReplication(r.t.Context(), conn, r.slot, 0,
		pglogrepl.StartReplicationOptions{PluginArgs: []string{"proto_version '1'", "publication_names 'streamer'"}}))
}

// Where a topic has got more partitions, the keys that have moved are found all
// the same.
func TestTakeOverWithMorePartitions(t *testing.T) {
	t.Parallel()
	r := newTaken(t, 40, func(n int) bool { return n < 10 })
	require.NoError(t, r.kafka.AddPartitions(t.Context(), r.topic("order"), 6))
	for n := 10; n < 30; n++ {
		m := r.byDebezium(n)
		m.Partition = r.partition(fmt.Sprintf("o%d", n%keysTaken), 6)
		r.put(m)
	}
	output, code := r.command("take-over", "debezium", "--wait=0s")
	require.Zero(t, code, output)
	assert.Contains(t, output, "in another partition than the streamer would choose now")
	seen := map[string]int{}
	for _, m := range r.records("order") {
		seen[idOf(m)]++
	}
	for n, id := range r.ids {
		assert.Equal(t, 1, seen[id], "row %d", n)
	}
}

// What waits in the slot of a running streamer is the streamer's.
func TestTakeOverOfTheStreamersOwn(t *testing.T) {
	t.Parallel()
	r := newTaken(t, 3, func(int) bool { return false })
	s := r.startReady()
	r.await(s, "order", 3)
	r.confirmed(s)
	require.Zero(t, s.stop())
	_, output, code := r.takeOver()
	assert.Equal(t, 3, code, output)
	assert.Contains(t, output, "is the streamer's already")
}

// Debezium's records of other times and other programs' records do not matter.
func TestTakeOverBesideOthers(t *testing.T) {
	t.Parallel()
	r := newTaken(t, 12, func(n int) bool { return n < 6 })
	other := r.byDebezium(8)
	other.Headers[0].Value = []byte("00000000-0000-0000-0000-000000000000")
	nameless := r.byDebezium(9)
	nameless.Headers, nameless.Timestamp = nil, time.Now()
	r.put(other, nameless)
	p, output, code := r.takeOver()
	require.Zero(t, code, output)
	assert.Equal(t, int64(6), p.Published)
	assert.Len(t, r.records("order"), 14)
}

// A transaction of the former publisher that is open when the take-over begins is
// aborted by the fence: its records do not count as published, and it can write
// nothing any more.
func TestTakeOverFencesTransactionalID(t *testing.T) {
	t.Parallel()
	r := newTaken(t, 20, func(n int) bool { return n < 10 })
	config := r.kafka.Config(kafkatest.Admin)
	config.Producer.Return.Successes = true
	config.Producer.Partitioner = sarama.NewManualPartitioner
	config.Producer.Idempotent, config.Producer.RequiredAcks, config.Net.MaxOpenRequests = true, sarama.WaitForAll, 1
	config.Producer.Transaction.ID = r.prefix + "-outbox-0"
	debezium, err := sarama.NewSyncProducer(r.kafka.Brokers(), config)
	require.NoError(t, err)
	defer debezium.Close()
	require.NoError(t, debezium.BeginTxn())
	for n := 10; n < 12; n++ {
		_, _, err = debezium.SendMessage(r.byDebezium(n))
		require.NoError(t, err)
	}
	output, code := r.command("take-over", "debezium", "--json", "--fence-transactional-id", r.prefix+"-outbox-0")
	require.Zero(t, code, output)
	assert.Contains(t, output, `"published": 10`)
	_, _, err = debezium.SendMessage(r.byDebezium(13))
	require.Error(t, err)

	committed, err := r.kafka.Consume(t.Context(), r.topic("order"))
	require.NoError(t, err)
	seen := map[string]int{}
	for _, m := range committed {
		if header(m, "ce_id") != "" || !slices.Contains(r.ids[10:12], header(m, "id")) { // the aborted ones are there, and no consumer gets them
			seen[idOf(m)]++
		}
	}
	for n, id := range r.ids {
		assert.Equal(t, 1, seen[id], "row %d", n)
	}
}

// A principal that may not write any more cannot write late.
func TestTakeOverFencesPrincipal(t *testing.T) {
	t.Parallel()
	const connect = "connect"
	cluster := kafkatest.New(t, kafkatest.Options{Authorizer: true, Users: map[string]string{connect: passwordCanary}})
	r := newTaken(t, 20, func(n int) bool { return n < 10 }, withKafka(cluster), withConfig("kafka.sasl.mechanism=PLAIN",
		"kafka.sasl.username="+kafkatest.Admin,
		"kafka.sasl.password="+cluster.Config(kafkatest.Admin).Net.SASL.Password, "kafka.sasl.allow_plaintext=true"))
	require.NoError(t, cluster.Allow(t.Context(), connect, sarama.Resource{
		ResourceType: sarama.AclResourceTopic, ResourceName: r.topic("order"), ResourcePatternType: sarama.AclPatternLiteral,
	}, sarama.AclOperationDescribe, sarama.AclOperationWrite))
	config := cluster.Config(connect)
	config.Producer.Return.Successes, config.Producer.Partitioner, config.Producer.Retry.Max = true, sarama.NewManualPartitioner, 0
	debezium, err := sarama.NewSyncProducer(cluster.Brokers(), config)
	require.NoError(t, err)
	defer debezium.Close()
	_, _, err = debezium.SendMessage(r.byDebezium(10))
	require.NoError(t, err)

	output, code := r.command("take-over", "debezium", "--fence-principal", "User:"+connect)
	require.Zero(t, code, output)
	assert.Contains(t, output, "fenced: User:connect")
	_, _, err = debezium.SendMessage(r.byDebezium(11))
	require.ErrorIs(t, err, sarama.ErrTopicAuthorizationFailed)
	r.eachOnce()
}
