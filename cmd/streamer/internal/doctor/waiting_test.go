package doctor

import (
	"regexp"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/outboxstream/streamer/checkpoint"
	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/replication"
)

func TestRowsThatWait(t *testing.T) {
	t.Parallel()
	const what = "waiting rows"
	r := newRig(t)
	r.insert("1", "order", "a")
	r.insert("2", "bill", "a")
	r.examine().says(Fine, what, "2 ")

	require.NoError(t, r.cluster.CreateTopic("events.bill", 1, nil))
	e := r.examine("kafka.topics.create=false")
	e.says(Failed, what, `"events.order"`, "kafka.topics.create is false", "streamer setup --topic events.order")
	assert.Equal(t, 1, e.Failures)
	assert.Equal(t, failure.Refused, failure.ClassOf(e.err))
	require.NoError(t, r.cluster.CreateTopic("events.order", 1, nil))
	r.examine("kafka.topics.create=false").says(Fine, what, "2 ")

	// Whether it exists is not known, so nothing is well.
	r.cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Metadata}, Topic: "events.order", Err: kerr.TopicAuthorizationFailed, Count: -1})
	r.examine("kafka.topics.create=false", "kafka.topic=events.{aggregate_type}").says(Failed, what, "events.order", "not authorized")
}

func TestRowThatStopsTheStream(t *testing.T) {
	t.Parallel()
	const what = "waiting rows"
	r := newRig(t)
	r.insert("1", "order", nil)
	e := r.examine()
	e.says(Failed, what, `row "1"`, "aggregateid", "poison.policy=dead-letter")
	assert.Equal(t, 1, e.Failures)

	// It was decided about before the checkpoint, whatever the slot says.
	r.save(nil)
	r.examine().says(Fine, what, "1 ")
	commit, err := replication.ParseLSN(regexp.MustCompile(`at ([0-9A-F]+/[0-9A-F]+)`).FindStringSubmatch(e.String())[1])
	require.NoError(t, err)
	r.save(func(c *checkpoint.Record) { c.LSN = commit })
	r.examine().says(Failed, what, `row "1"`)
	r.save(func(c *checkpoint.Record) { c.LSN = commit + 1 })
	r.examine().says(Fine, what)

	// Where something else keeps a start from reading, the rows do not matter.
	r.examine("kafka.brokers=" + nowhere).silent(what)
}

// A topic that refuses the time of a record refuses all of that age. No row is
// to blame.
func TestRowsThatAreTooOldForTheirTopic(t *testing.T) {
	t.Parallel()
	const what, limit = "waiting rows", "message.timestamp.before.max.ms"
	r := newRig(t)
	require.NoError(t, r.cluster.CreateTopic("events.order", 1, map[string]string{limit: "0"}))
	require.NoError(t, r.cluster.CreateTopic("events.bill", 1, map[string]string{limit: "1200001"}))
	r.insert("1", "bill", "a")
	r.examine().says(Fine, what, "1 ").says(Warned, "topic events.order", limit+" = 0", "up to 10m old", "86400000")
	r.insert("2", "order", "a")
	for _, policy := range []string{"stop", "dead-letter"} {
		e := r.examine("poison.policy=" + policy)
		e.says(Failed, what, `topic "events.order"`, limit+" = 0", "stops the stream", "set "+limit, "86400000", "LogAppendTime")
		assert.Equal(t, 1, e.Failures)
		assert.NotContains(t, e.String(), "setup --set poison.policy", "the row is not to be got past")
	}
	require.NoError(t, r.cluster.CreateTopic("stamped.order", 1, map[string]string{limit: "0", "message.timestamp.type": "LogAppendTime"}))
	require.NoError(t, r.cluster.CreateTopic("stamped.bill", 1, nil))
	r.examine("kafka.topic=stamped.{aggregate_type}").says(Fine, what, "2 ")
}

// A row whose topic Kafka can never have does not stop the check of the others.
func TestRowWithAnImpossibleTopic(t *testing.T) {
	t.Parallel()
	const what = "waiting rows"
	r := newRig(t)
	require.NoError(t, r.cluster.CreateTopic("events.big.order", 1, nil))
	r.insert("1", "big_order", "a")
	r.insert("2", "no topic", "a")
	for _, creates := range []string{"true", "false"} {
		r.examine("kafka.topics.create="+creates).
			says(Failed, what, `row "1"`, `topic "events.big_order" cannot exist`, `"events.big.order"`, "correct the row's aggregate type",
				"poison.policy=dead-letter").
			says(Failed, what, `row "2"`, "characters")
		r.examine("kafka.topics.create="+creates, "poison.policy=dead-letter").says(Warned, what, `row "1"`, "becomes a dead letter")
	}
}

// Nothing is looked at that a start would not read, or that one is reading.
func TestSlotWithoutRowsToLookAt(t *testing.T) {
	t.Parallel()
	for name, d := range map[string]*doctor{
		"no slot":       {},
		"in use":        {slot: &replication.Slot{Active: true}},
		"catching up":   {slot: &replication.Slot{Copies: 1}},
		"other trouble": {slot: &replication.Slot{}, failures: 1},
	} {
		d.waiting(t.Context())
		assert.Empty(t, d.found, name)
	}
}
