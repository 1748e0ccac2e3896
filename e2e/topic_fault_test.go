package e2e

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/internal/kafkatest"
)

// A row that chooses a topic that Kafka can never have is itself at fault: it is
// named, and a policy lets the others go on.
func TestImpossibleTopic(t *testing.T) {
	t.Parallel()
	r := newRig(t, outboxTable)
	deadLetters := r.prefix + "-letters"
	r.lines = append(r.lines, "poison.topic="+deadLetters)
	r.numbered("o1", 1)
	r.insert("big.order", "o1", "t", `{"n": 2}`)
	bad := r.insert("big_order", "o1", "t", `{"n": 3}`)
	r.numbered("o1", 5)
	says := []string{bad, `"` + r.topic("big_order") + `" cannot exist`, `"` + r.topic("big.order") + `"`, "correct the row's aggregate type"}
	for range 2 {
		r.start().refused(exitRefused, append(says, "poison.policy=dead-letter")...)
	}
	output, code := r.command("doctor")
	assert.Equal(t, exitRefused, code, output)
	assert.Contains(t, output, says[1])
	output, code = r.command("preview")
	assert.Zero(t, code, output)
	assert.Contains(t, output, "cannot exist")

	p := r.startReady("poison.policy=dead-letter")
	assert.Equal(t, map[string][]int{"o1": {1, 5}}, byKey(t, r.await(p, "order", 2)))
	assert.Equal(t, map[string][]int{"o1": {2}}, byKey(t, r.await(p, "big.order", 1)))
	r.confirmed(p)
	letters, err := r.kafka.Consume(t.Context(), deadLetters)
	require.NoError(t, err)
	require.Len(t, letters, 1)
	assert.Equal(t, "unroutable", header(letters[0], "streamer-dead-letter"))
	assert.Equal(t, bad, header(letters[0], "streamer-event-id"))
	assert.Equal(t, 0, p.stop())
	output, code = r.command("dead-letters", "retry", "--yes", "--all", "--set", "poison.policy=dead-letter")
	assert.Equal(t, exitRefused, code, output)
	assert.Contains(t, output, "cannot exist")
}

// The settings of a topic refuse a record for its time, whatever the policy for
// bad rows. When they are corrected, the same rows are published.
func TestTopicThatRefusesTimes(t *testing.T) {
	t.Parallel()
	limit := "message.timestamp.before.max.ms"
	if !kafkatest.AtLeast(3, 6) {
		limit = "message.timestamp.difference.max.ms"
	}
	const tooOld = 2 * time.Second // for events, but not for a marker that a busy broker writes
	r := newRig(t, outboxTable)
	require.NoError(t, r.kafka.CreateTopic(t.Context(), r.topic("order"), 2, map[string]string{limit: "2000"}))
	r.lines = append(r.lines, "poison.topic="+r.prefix+"-letters")
	r.numbered("o1", 1, 2, 3)
	r.numbered("o2", 4)
	committed := time.Now()
	require.Eventually(t, func() bool { return time.Since(committed) > tooOld }, 2*tooOld, tooOld/20, "the events grow old")
	output, code := r.command("doctor")
	assert.Equal(t, exitRefused, code, output)
	assert.Contains(t, output, limit+" = 2000 of topic")
	for _, policy := range []string{"stop", "dead-letter"} {
		r.start("poison.policy="+policy).refused(exitRefused, `"`+r.topic("order")+`" partition`, limit+" = 2000 of the topic refuses",
			"outbox row", "set "+limit, "86400000", "message.timestamp.type=LogAppendTime")
	}
	require.NoError(t, r.kafka.SetTopic(t.Context(), r.topic("order"), "message.timestamp.type", "LogAppendTime"))
	p := r.startReady("poison.policy=dead-letter")
	assert.Equal(t, map[string][]int{"o1": {1, 2, 3}, "o2": {4}}, byKey(t, r.await(p, "order", 4)))
	r.confirmed(p)
	assert.Equal(t, 0, p.stop())
}

// A topic that is created again with fewer partitions is another topic, to which
// the streamer goes on without an operator.
func TestTopicCreatedAgainSmaller(t *testing.T) {
	t.Parallel()
	r := newRig(t, outboxTable)
	topic := r.topic("order")
	require.NoError(t, r.kafka.CreateTopic(t.Context(), topic, 8, nil))
	p := r.startReady()
	keys := []string{"o1", "o2", "o3", "o4", "o5", "o6"}
	for n, key := range keys {
		r.numbered(key, n)
	}
	r.await(p, "order", len(keys))
	r.confirmed(p)
	require.NoError(t, r.kafka.DeleteTopic(t.Context(), topic))
	require.NoError(t, r.kafka.CreateTopic(t.Context(), topic, 1, nil))
	want := map[string][]int{}
	for n, key := range keys {
		r.numbered(key, 10+n)
		want[key] = []int{10 + n}
	}
	assert.Equal(t, want, byKey(t, r.await(p, "order", len(keys))))
	r.confirmed(p)
	p.logged("with fewer partitions")
	p.logged("topic has been deleted and created again")
	assert.Equal(t, 0, p.stop())
}
