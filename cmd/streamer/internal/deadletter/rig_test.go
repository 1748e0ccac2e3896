package deadletter

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/outboxstream/streamer/cmd/streamer/internal/console"
	"github.com/outboxstream/streamer/cmd/streamer/internal/site"
	"github.com/outboxstream/streamer/internal/config"
	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/internal/kafkatest"
	"github.com/outboxstream/streamer/internal/kafkatest/fake"
	"github.com/outboxstream/streamer/internal/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

// topic is the dead letter topic of a rig.
const topic = "dead-letters"

// rig is a fake Kafka with a dead letter topic and a topic "order", and the
// configuration of a streamer. Events go to the topic of their aggregate type.
type rig struct {
	t       *testing.T
	cluster fake.Cluster
	environ []string
}

// newRig has no PostgreSQL, and a checkpoint file that does not exist.
func newRig(t *testing.T, more ...string) *rig {
	t.Helper()
	r := &rig{t: t, cluster: fake.Start(t, kfake.NumBrokers(1), kfake.SeedTopics(1, topic, "order"))}
	r.environ = append([]string{
		"STREAMER_POSTGRES_DSN=postgres://nobody@127.0.0.1:1/none", // no server listens there
		"STREAMER_KAFKA_BROKERS=" + strings.Join(r.cluster.Brokers(), ","), "STREAMER_KAFKA_TOPIC={aggregate_type}",
		"STREAMER_POISON_TOPIC=" + topic,
		"STREAMER_CHECKPOINT_STORE=file", "STREAMER_CHECKPOINT_FILE_PATH=" + filepath.Join(t.TempDir(), "checkpoint"),
	}, more...)
	return r
}

// newStream has a database as well, and returns the stream from it.
func newStream(t *testing.T, more ...string) (r *rig, stream string) {
	t.Helper()
	r = newRig(t, append([]string{"STREAMER_POSTGRES_DSN=" + pgtest.Shared(t).CreateDatabase(t)}, more...)...)
	_, streams, err := identifyStreams(t.Context(), r.config())
	require.NoError(t, err)
	require.Len(t, streams, 1)
	return r, streams[0]
}

func (r *rig) load() (*config.Loaded, error) { return config.Load(config.Options{Environ: r.environ}) }

func (r *rig) config() config.Config {
	r.t.Helper()
	loaded, err := r.load()
	require.NoError(r.t, err)
	return loaded.Config
}

// runner is one of the commands.
type runner interface {
	Run(context.Context, site.Configuration, console.Streams) error
}

// result is what a command printed, and how it ended.
type result struct {
	out, told string
	err       error
}

// run runs a command where no answer can be given.
func (r *rig) run(command runner) result { return r.answered(nil, command) }

// answered runs a command with an operator who gives these answers.
func (r *rig) answered(in io.Reader, command runner) result {
	var out, told bytes.Buffer
	err := command.Run(r.t.Context(), r.load, console.Streams{In: in, Out: &out, Err: &told})
	return result{out.String(), told.String(), err}
}

// list returns the dead letters as list --json prints them.
func (r *rig) list(all bool) []Letter {
	r.t.Helper()
	got := r.run(listCommand{All: all, JSON: true})
	require.NoError(r.t, got.err)
	var letters []Letter
	for line := range strings.Lines(got.out) {
		var l Letter
		require.NoError(r.t, json.Unmarshal([]byte(line), &l), line)
		letters = append(letters, l)
	}
	return letters
}

// columns are the columns of a row, all of the type text, by name.
type columns map[string]string

// buried is a row that a streamer wrote to the dead letter topic.
type buried struct {
	stream  string
	at      int // sorts the rows of a stream
	columns columns
	payload []byte // nil is NULL
	oid     uint32 // of the payload, jsonb if 0
	binary  bool   // whether the payload is in PostgreSQL's binary format
}

// order is a row of the aggregate type order that could be published.
func order(stream string, at int, key string) buried {
	return buried{stream: stream, at: at, payload: []byte(`{"n": ` + strconv.Itoa(at) + `}`), columns: columns{
		"id": fmt.Sprint("event-", at), "aggregatetype": "order", "aggregateid": key, "type": "placed",
	}}
}

// with is the row with another value in a column.
func (b buried) with(column, value string) buried {
	b.columns = maps.Clone(b.columns)
	b.columns[column] = value
	return b
}

// record is the row in the form of docs/wire-format.md.
func (b buried) record(t *testing.T) *sarama.ProducerMessage {
	t.Helper()
	if b.oid == 0 {
		b.oid = jsonbOID
	}
	formats := map[string]map[string]any{"payload": {"type": b.oid, "payload": true, "binary": b.binary}}
	message := &sarama.ProducerMessage{Topic: topic, Partition: 0, Key: sarama.StringEncoder(b.columns["aggregateid"])}
	if b.payload != nil {
		message.Value = sarama.ByteEncoder(b.payload)
	}
	add := func(name, value string) {
		message.Headers = append(message.Headers, sarama.RecordHeader{Key: []byte(name), Value: []byte(value)})
	}
	for name, value := range b.columns {
		formats[name] = map[string]any{"type": textOID}
		add("streamer-column-"+name, value)
	}
	described, err := json.Marshal(formats)
	require.NoError(t, err)
	add("streamer-dead-letter", "too_large")
	add("streamer-reason", "is too large")
	add("streamer-sequence", fmt.Sprintf("%016x-%08x", b.at, 1))
	add("streamer-commit-time", strconv.FormatInt(time.Now().Add(-90*time.Minute).UnixMicro(), 10))
	add("streamer-event-id", b.columns["id"])
	add("streamer-formats", string(described))
	add("streamer-stream", b.stream)
	return message
}

// bury writes rows to the dead letter topic. The first has the offset 0.
func (r *rig) bury(rows ...buried) {
	r.t.Helper()
	c := sarama.NewConfig()
	c.Version = sarama.V2_4_0_0
	c.Producer.Return.Successes = true
	producer, err := sarama.NewSyncProducer(r.cluster.Brokers(), c)
	require.NoError(r.t, err)
	defer producer.Close()
	for _, row := range rows {
		_, _, err := producer.SendMessage(row.record(r.t))
		require.NoError(r.t, err)
	}
}

// published lists the event IDs in a topic.
func (r *rig) published(name string) (ids []string) {
	r.t.Helper()
	messages, err := kafkatest.Consume(r.t.Context(), r.cluster.Brokers(), name)
	require.NoError(r.t, err)
	for _, m := range messages {
		ids = append(ids, header(m, "ce_id"))
	}
	return ids
}

func header(m *sarama.ConsumerMessage, name string) string {
	i := slices.IndexFunc(m.Headers, func(h *sarama.RecordHeader) bool { return string(h.Key) == name })
	if i < 0 {
		return ""
	}
	return string(m.Headers[i].Value)
}

// answerProduce makes Kafka answer records for a topic with an error code, as
// often as times says, or always if that is negative.
func (r *rig) answerProduce(name string, code int16, times int) {
	r.cluster.ControlKey(int16(kmsg.Produce), func(request kmsg.Request) (kmsg.Response, error, bool) {
		produce := request.(*kmsg.ProduceRequest)
		if times == 0 || produce.Topics[0].Topic != name {
			r.cluster.KeepControl()
			return nil, nil, false
		}
		if times--; times != 0 {
			r.cluster.KeepControl()
		}
		response := produce.ResponseKind().(*kmsg.ProduceResponse)
		answered := kmsg.NewProduceResponseTopic()
		answered.Topic, answered.TopicID = produce.Topics[0].Topic, produce.Topics[0].TopicID
		partition := kmsg.NewProduceResponseTopicPartition()
		partition.Partition, partition.ErrorCode = produce.Topics[0].Partitions[0].Partition, code
		answered.Partitions = append(answered.Partitions, partition)
		response.Topics = append(response.Topics, answered)
		return response, nil, true
	})
}

// requireRefused checks that a command was refused, and what it said with all
// its remedies.
func requireRefused(t *testing.T, got result, says ...string) {
	t.Helper()
	require.Error(t, got.err, got.out)
	assert.Equal(t, failure.Refused, failure.ClassOf(got.err), got.err)
	for _, words := range says {
		assert.Contains(t, failure.Describe(got.err), words)
	}
}
