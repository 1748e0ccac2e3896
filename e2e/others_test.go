package e2e

import (
	"strings"
	"testing"

	"github.com/IBM/sarama"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/internal/kafkatest"
)

// asDebezium is the record that Debezium's outbox event router makes of a row.
func (r *rig) asDebezium(id, payload string) *sarama.ProducerMessage {
	return &sarama.ProducerMessage{
		Topic: r.topic("order"), Key: sarama.StringEncoder("o1"), Value: sarama.StringEncoder(payload),
		Headers: []sarama.RecordHeader{{Key: []byte("id"), Value: []byte(id)}},
	}
}

// A first start on the slot of a program that has published what waits in it
// would publish it again. It refuses, until the operator has decided.
func TestFirstStartAfterAnotherPublisher(t *testing.T) {
	t.Parallel()
	for name, record := range map[string]func(r *rig, id string) *sarama.ProducerMessage{
		"Debezium":                  func(r *rig, id string) *sarama.ProducerMessage { return r.asDebezium(id, `{"n": 1}`) },
		"Debezium, quoted headers":  func(r *rig, id string) *sarama.ProducerMessage { return r.asDebezium(`"`+id+`"`, `{"n": 1}`) },
		"another CloudEvents relay": cloudEventOf,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, outboxTable, withConfig("kafka.topics.partitions=1", "cloudevents.source=/shop"))
			output, code := r.command("setup", "--topic", r.topic("order"))
			require.Zero(t, code, output)
			first := r.insert("order", "o1", "placed", `{"n": 1}`)
			r.insert("order", "o1", "placed", `{"n": 2}`)
			r.put(record(r, first))
			r.notices("FAIL", "other publisher", first, "checkpoint set slot --yes")

			output, code = r.command("run")
			assert.Equal(t, 3, code, output)
			assert.Contains(t, output, first)
			assert.Contains(t, output, "it would be published again")
			assert.Contains(t, output, "docs/how-to/from-debezium.md")

			output, code = r.command("checkpoint", "set", "slot", "--yes")
			require.Zero(t, code, output)
			p := r.startReady()
			r.await(p, "order", 3)
		})
	}
}

func cloudEventOf(r *rig, id string) *sarama.ProducerMessage {
	m := r.asDebezium(id, `{"n": 1}`)
	m.Headers = []sarama.RecordHeader{{Key: []byte("ce_id"), Value: []byte(id)}, {Key: []byte("ce_source"), Value: []byte("/shop")}}
	return m
}

// Events that only look alike keep no one from starting: of another source, with
// other IDs, and of the streamer itself when its checkpoint is lost.
func TestFirstStartBesideOtherPublishers(t *testing.T) {
	t.Parallel()
	r := newRig(t, outboxTable, withConfig("kafka.topics.partitions=1", "cloudevents.source=/shop"))
	output, code := r.command("setup", "--topic", r.topic("order"))
	require.Zero(t, code, output)
	id := r.insert("order", "o1", "placed", `{"n": 1}`)
	other := cloudEventOf(r, id)
	other.Headers[1].Value = []byte("/other")
	r.put(r.asDebezium(strings.Replace(id, id[:4], "0000", 1), `{"n": 0}`), other)
	found, code := r.doctor()
	assert.Zero(t, code, found)
	p := r.startReady()
	r.await(p, "order", 3)
	assert.NotContains(t, p.log.String(), "not found out")
}

// Where the row's topic cannot be known beforehand, it is looked for all the
// same.
func TestFirstStartAfterAnotherPublisherWithTopicsOfRows(t *testing.T) {
	t.Parallel()
	r := newRig(t, strings.Replace(outboxTable, "payload jsonb", "payload jsonb, topic text", 1),
		withConfig("kafka.topics.partitions=1", "outbox.columns.topic=topic"))
	output, code := r.command("setup", "--topic", r.topic("order"))
	require.Zero(t, code, output)
	id := r.insert("order", "o1", "placed", `{"n": 1}`)
	r.exec("insert into outbox (aggregatetype, aggregateid, type, payload, topic) values ('order', 'o2', 't', '{}', $1)", r.prefix+".own")
	r.put(r.asDebezium(id, `{"n": 1}`))
	output, code = r.command("run")
	assert.Equal(t, 3, code, output)
	assert.Contains(t, output, "it would be published again")
}

// A streamer that repeats after a crash anyway need not be allowed to read. Then
// it cannot find out, says so, and starts.
func TestFirstStartWithoutTheRightToRead(t *testing.T) {
	t.Parallel()
	cluster := kafkatest.New(t, kafkatest.Options{Authorizer: true, Users: map[string]string{principal: passwordCanary}})
	r := newRig(t, outboxTable, withKafka(cluster), withStore("file"), withConfig(
		"kafka.sasl.mechanism=PLAIN", "kafka.sasl.username="+principal, "kafka.sasl.password="+passwordCanary, "kafka.sasl.allow_plaintext=true",
		"kafka.resume=at_least_once", "kafka.topics.create=false",
	))
	require.NoError(t, cluster.CreateTopic(t.Context(), r.topic("order"), 1, nil))
	require.NoError(t, cluster.Allow(t.Context(), principal,
		sarama.Resource{ResourceType: sarama.AclResourceTopic, ResourceName: r.topic("order"), ResourcePatternType: sarama.AclPatternLiteral},
		sarama.AclOperationDescribe, sarama.AclOperationWrite))
	r.put(r.asDebezium(r.insert("order", "o1", "placed", `{"n": 1}`), `{"n": 1}`))
	p := r.startReady()
	r.await(p, "order", 2)
	p.logged("not found out whether another program has published what waits in the slot")
}
