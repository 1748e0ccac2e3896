package languages

import (
	"strings"
	"testing"

	"github.com/IBM/sarama"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// What cannot be handled stops each program with one clear error and its remedy.
// What came before is handled once, and nothing after it.
func TestOtherLanguagesRefuse(t *testing.T) {
	t.Parallel()
	kafka := sharedKafka(t)
	for _, in := range languages {
		t.Run(in.name, func(t *testing.T) {
			t.Parallel()
			l := newLedger(t, kafka, in)
			l.refuses([]string{"GROUP="}, "GROUP is empty", "fix: set it")
			for _, c := range []struct {
				bad   *sarama.ProducerMessage
				parts []string
			}{
				{&sarama.ProducerMessage{Value: sarama.StringEncoder("hello")}, []string{"@1 is no CloudEvent", "set its offset to 2"}},
				{cloudEvent("b", `{}`, "2.0"), []string{"@1 is no CloudEvent", "2.0", "set its offset to 2"}},
				{cloudEvent("b", `{"amount": 1}`, "1.0"), []string{"@1, event b: cannot be handled", "fix: correct the handler or the data"}},
			} {
				l.topic += "x"
				l.group = l.topic
				require.NoError(t, kafka.CreateTopic(t.Context(), l.topic, 1, nil))
				run(t, l.db, "truncate account, entry, inbox.claim")
				l.produce(cloudEvent("a", `{"account": "k", "amount": 1}`, "1.0"), c.bad, cloudEvent("c", `{"account": "k", "amount": 1}`, "1.0"))
				for range 2 {
					l.refuses(nil, c.parts...)
					assert.Equal(t, 1, number(t, l.db, entries))
				}
			}
			run(t, l.db, "drop schema inbox cascade")
			l.refuses(nil, "the inbox is missing", "fix: run consume/schema.sql")
		})
	}
}

// refuses asserts that an instance ends, and says why, with one remedy.
func (l *ledger) refuses(settings []string, parts ...string) {
	l.Helper()
	before := len(said(l.T, l.log))
	instance := l.join(append(settings, "ATTEMPTS=2")...)
	assert.Equal(l, 1, l.ended(instance))
	output := said(l.T, l.log)[before:]
	for _, part := range parts {
		assert.Contains(l, output, part)
	}
	assert.Equal(l, 1, strings.Count(output, "fix: "), output)
}

func (l *ledger) produce(messages ...*sarama.ProducerMessage) {
	l.Helper()
	config := l.kafka.Config("")
	config.Producer.Return.Successes = true
	producer, err := sarama.NewSyncProducer(l.kafka.Brokers(), config)
	require.NoError(l, err)
	defer producer.Close()
	for _, m := range messages {
		m.Topic, m.Key = l.topic, sarama.StringEncoder("k")
		_, _, err := producer.SendMessage(m)
		require.NoError(l, err)
	}
}

func cloudEvent(id, payload, version string) *sarama.ProducerMessage {
	m := &sarama.ProducerMessage{Value: sarama.StringEncoder(payload)}
	for _, h := range [][2]string{
		{"ce_specversion", version}, {"ce_id", id}, {"ce_source", "/bank"}, {"ce_type", "booked"}, {"content-type", "application/json"},
	} {
		m.Headers = append(m.Headers, sarama.RecordHeader{Key: []byte(h[0]), Value: []byte(h[1])})
	}
	return m
}
