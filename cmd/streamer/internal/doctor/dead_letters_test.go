package doctor

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/outboxstream/streamer/internal/kafkatest/fake"
)

// letterTopic is the topic of dead letters in these tests.
const letterTopic = "dead letter topic letters"

func TestDeadLetterTopic(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		topic   map[string]string // nil: it does not exist
		create  string
		verdict Verdict
		words   []string
	}{
		"missing":       {nil, "true", Fine, []string{"the first dead letter creates it"}},
		"not created":   {nil, "false", Warned, []string{"kafka.topics.create is false", "streamer setup"}},
		"good":          {map[string]string{"max.message.bytes": "2000"}, "false", Fine, []string{"exists"}},
		"compacted":     {map[string]string{"cleanup.policy": "compact,delete"}, "false", Warned, []string{"cleanup.policy=compact,delete"}},
		"forgets":       {map[string]string{"retention.ms": "3600000"}, "false", Warned, []string{"retention.ms=3600000", "1h after", "7 days"}},
		"a week":        {map[string]string{"retention.ms": "604800000", "max.message.bytes": "2000"}, "false", Fine, []string{"exists"}},
		"for ever":      {map[string]string{"retention.ms": "-1", "max.message.bytes": "2000"}, "false", Fine, []string{"exists"}},
		"no larger row": {map[string]string{"max.message.bytes": "1000"}, "false", Warned, []string{`"events.bill" (1000)`, "17825792"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cluster := fake.Start(t, kfake.NumBrokers(1))
			require.NoError(t, cluster.CreateTopic("events.bill", 1, map[string]string{"max.message.bytes": "1000"}))
			if c.topic != nil {
				require.NoError(t, cluster.CreateTopic("letters", 1, c.topic))
			}
			d, client := connected(t, cluster, "poison.policy=dead-letter", "poison.topic=letters", "kafka.topics.create="+c.create)
			d.deadLetters(t.Context(), client, []string{"events.bill"})
			e := d.report(t).says(c.verdict, letterTopic, c.words...)
			if c.topic != nil {
				e.says(Fine, "dead letters", "none waits")
			}
			assert.Zero(t, e.Failures)
		})
	}
}

// Without dead letters nothing is said of them.
func TestNoDeadLetters(t *testing.T) {
	t.Parallel()
	d, client := connected(t, fake.Start(t, kfake.NumBrokers(1)))
	d.deadLetters(t.Context(), client, nil)
	assert.Empty(t, d.found)
}

func TestDeadLetterTopicThatCannotBeSeen(t *testing.T) {
	t.Parallel()
	cluster := fake.Start(t, kfake.NumBrokers(1), kfake.SeedTopics(1, "letters"))
	d, client := connected(t, cluster, "poison.policy=dead-letter", "poison.topic=letters")
	fault := cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Metadata}, Topic: "letters", Err: kerr.TopicAuthorizationFailed, Count: -1})
	d.deadLetters(t.Context(), client, nil)
	d.report(t).says(Failed, letterTopic, "not authorized").silent("dead letters")

	fault.Remove()
	cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.ListOffsets}, Topic: "letters", Err: kerr.TopicAuthorizationFailed, Count: -1})
	d.found = nil
	d.deadLetters(t.Context(), client, nil)
	d.report(t).says(Failed, "dead letters", "not authorized")
}

func TestDeadLettersThatWait(t *testing.T) {
	t.Parallel()
	r := newRig(t, "poison.policy=dead-letter", "poison.topic=letters")
	r.insert("1", "no/topic", "a")
	r.insert("2", "order", nil)
	e := r.examine()
	e.says(Warned, "waiting rows", `row "1"`, "becomes a dead letter", "dead-letters list").says(Warned, "waiting rows", `row "2"`)
	assert.Zero(t, e.Failures)
	r.publish()
	e = r.examine()
	e.says(Warned, "dead letters", "2 rows", `"letters"`, "streamer dead-letters list").says(Fine, letterTopic)
	require.NoError(t, e.err)
}
