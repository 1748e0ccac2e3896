package deadletter

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/internal/kafkatest"
)

// retry is the command for certain letters, or for all, confirmed.
func retry(ids ...string) retryCommand {
	return retryCommand{resolving: resolving{ID: ids, All: len(ids) == 0, Yes: true, By: "me"}, Timeout: time.Minute}
}

// states lists the letters of the rig with their states.
func (r *rig) states() map[string]string {
	r.t.Helper()
	states := map[string]string{}
	for _, l := range r.list(true) {
		states[l.ID] = string(l.State)
	}
	return states
}

func TestRetry(t *testing.T) {
	t.Parallel()
	r, stream := newStream(t)
	r.bury(order(stream, 2, "k"), order(stream, 1, "k"), order("another", 1, "k"), order(stream, 3, "k"))
	unsure := r.answered(strings.NewReader("no\n"), retryCommand{resolving: resolving{All: true}})
	requireRefused(t, unsure, "nothing was changed")
	assert.Contains(t, unsure.out, "3 dead letters will be published")
	assert.Contains(t, unsure.out, "out of order")
	assert.Contains(t, unsure.out, `0:1  event "event-1" at 0/1+1 → topic "order"`)
	assert.Empty(t, r.published("order"))

	asking := retry("0:0", "0:1")
	asking.Yes = false
	got := r.answered(strings.NewReader("yes\n"), asking)
	require.NoError(t, got.err)
	assert.Contains(t, got.out, "retried  0:1 → topic \"order\" partition 0\nretried  0:0 ")
	assert.Equal(t, []string{"event-1", "event-2"}, r.published("order"), "in the order of the stream")
	assert.Equal(t, map[string]string{"0:0": "retried", "0:1": "retried", "0:2": "open", "0:3": "open"}, r.states())
	assert.Contains(t, r.run(listCommand{All: true}).out, "retried by me at ")

	messages, err := kafkatest.Consume(t.Context(), r.cluster.Brokers(), "order")
	require.NoError(t, err)
	assert.Equal(t, "dead-letter", header(messages[0], "streamer-replay"))
	assert.Equal(t, stream, header(messages[0], "streamer-stream"))
	assert.Equal(t, "k", string(messages[0].Key))
	assert.Equal(t, `{"n": 1}`, string(messages[0].Value))

	requireRefused(t, r.run(retry("0:0")), "0:0", "already retried by me")
	require.NoError(t, r.run(retry()).err)
	none := r.run(retry())
	require.NoError(t, none.err)
	assert.Contains(t, none.told, "no open dead letters", "that of another stream is not ours")
	assert.Equal(t, []string{"event-1", "event-2", "event-3"}, r.published("order"))
}

func TestRetryOfAnotherStream(t *testing.T) {
	t.Parallel()
	r, stream := newStream(t)
	r.bury(order(stream, 1, "k"), order("an\x1bother", 1, "k"))
	got := r.run(retry("0:0", "0:1"))
	requireRefused(t, got, "0:1", "an·other", "is not that of slot", "streamer")
	assert.Empty(t, r.published("order"), "not even what could be")
	r.environ = append(r.environ, "STREAMER_POSTGRES_DSN=postgres://nobody@127.0.0.1:1/none")
	require.Error(t, r.run(retry("0:0")).err, "whose letters they are is not known")
}

// What is still poison stays, and later letters of its aggregate ID with it.
// Those of others are published.
func TestRetryKeepsWhatIsStillPoison(t *testing.T) {
	t.Parallel()
	r, stream := newStream(t, "STREAMER_KAFKA_MAX_RECORD_BYTES=20")
	large := order(stream, 3, "large")
	large.payload = []byte(`"` + strings.Repeat("x", 20) + `"`)
	r.bury(
		order(stream, 1, "unroutable").with("aggregatetype", "no/topic"), order(stream, 2, "unroutable"),
		large, order(stream, 4, "other"),
		order(stream, 5, ""), order(stream, 6, ""), // each without an aggregate ID: none behind another
		order(stream, 7, "large"),
	)
	got := r.run(retry())
	requireRefused(t, got, "6 dead letters of 7 not retried", "streamer dead-letters drop")
	for id, why := range map[string]string{
		"0:0": "Kafka", "0:1": "an earlier dead letter", "0:2": "kafka.max_record_bytes",
		"0:4": "aggregateid", "0:5": "aggregateid", "0:6": "an earlier dead letter",
	} {
		assert.Regexp(t, "(?m)^"+id+"  not retried: .*"+why, got.out, id)
	}
	for _, behind := range []string{"0:1", "0:6"} {
		assert.NotContains(t, got.out, behind+"  event", "nobody is asked about it")
	}
	assert.NotContains(t, got.out, "xxx")
	assert.Equal(t, []string{"event-4"}, r.published("order"))
	assert.Equal(t, "retried", r.states()["0:3"])
	assert.Len(t, r.list(false), 6)

	nothing := r.run(retry("0:0"))
	requireRefused(t, nothing, "1 dead letter of 1 not retried")
	assert.NotContains(t, nothing.out, "will be published", "there is nothing to ask")
}

// Whether the broker takes an event shows only when it is sent.
func TestRetryIsRejected(t *testing.T) {
	t.Parallel()
	r, stream := newStream(t)
	r.bury(order(stream, 1, "k"), order(stream, 2, "k"), order(stream, 3, "other"))
	r.answerProduce("order", kerr.InvalidRecord.Code, 1)
	got := r.run(retry())
	requireRefused(t, got, "2 dead letters of 3 not retried")
	assert.Regexp(t, "(?m)^0:0  not retried: ", got.out)
	assert.Regexp(t, "(?m)^0:1  not retried: .*an earlier dead letter", got.out)
	assert.Equal(t, []string{"event-3"}, r.published("order"))
	assert.Equal(t, map[string]string{"0:0": "open", "0:1": "open", "0:2": "retried"}, r.states())
}

func TestRetryWithoutItsTopic(t *testing.T) {
	t.Parallel()
	r, stream := newStream(t)
	r.bury(order(stream, 1, "k").with("aggregatetype", "nobody"), order(stream, 2, "other"))
	got := r.run(retry())
	requireRefused(t, got, "1 dead letter of 2 not retried")
	assert.Regexp(t, "(?m)^0:0  not retried: .*--topic nobody", got.out)
	assert.Equal(t, []string{"event-2"}, r.published("order"))
	r.environ = append(r.environ, "STREAMER_KAFKA_TOPICS_CREATE=true")
	require.NoError(t, r.run(retry()).err)
	assert.Equal(t, []string{"event-1"}, r.published("nobody"))
}

func TestRetryTakesTooLong(t *testing.T) {
	t.Parallel()
	r, stream := newStream(t)
	r.bury(order(stream, 1, "k"), order(stream, 2, "other"))
	r.answerProduce("order", kerr.NotEnoughReplicas.Code, -1)
	command := retry()
	command.Timeout = 100 * time.Millisecond
	got := r.run(command)
	require.ErrorContains(t, got.err, "0:0")
	assert.Contains(t, got.err.Error(), "is not known")
	assert.Equal(t, failure.Transient, failure.ClassOf(got.err))
	assert.Len(t, r.list(false), 2)
}

// Kafka answers, and no second try would help.
func TestRetryIsForbidden(t *testing.T) {
	t.Parallel()
	r, stream := newStream(t)
	r.bury(order(stream, 1, "k"))
	r.answerProduce("order", kerr.ClusterAuthorizationFailed.Code, -1)
	got := r.run(retry())
	require.ErrorContains(t, got.err, "retry dead letter 0:0")
	assert.NotContains(t, got.err.Error(), "is not known")
	assert.Len(t, r.list(false), 1)
}

// A letter that is published but not recorded as retried is published once
// more, and not again.
func TestRetryThatIsNotWrittenDown(t *testing.T) {
	t.Parallel()
	r, stream := newStream(t)
	r.bury(order(stream, 1, "1"), order(stream, 2, "2"))
	r.answerProduce(topic, kerr.InvalidRecord.Code, 1)
	got := r.run(retry())
	require.Error(t, got.err)
	assert.Equal(t, failure.Refused, failure.ClassOf(got.err))
	for _, words := range []string{`event "event-1"`, "is published", "again", "dead letter 0:0 was retried"} {
		assert.Contains(t, got.err.Error(), words)
	}
	assert.NotContains(t, got.out, "retried  ")
	assert.Len(t, r.list(false), 2)

	require.NoError(t, r.run(retry()).err)
	assert.Empty(t, r.list(false))
	assert.Equal(t, []string{"event-1", "event-1", "event-2"}, r.published("order"))
}

// Whatever the policy is now, a letter does not go back to where it comes from.
func TestRetryIsNotBuriedAgain(t *testing.T) {
	t.Parallel()
	for _, policy := range []string{"stop", "dead-letter"} {
		t.Run(policy, func(t *testing.T) {
			t.Parallel()
			r, stream := newStream(t, "STREAMER_POISON_POLICY="+policy)
			r.bury(order(stream, 1, "k").with("aggregatetype", topic))
			got := r.run(retry())
			requireRefused(t, got, "1 dead letter of 1 not retried")
			assert.Regexp(t, "(?m)^0:0  not retried: .*dead letters", got.out)
			assert.Equal(t, map[string]string{"0:0": "open"}, r.states())
		})
	}
}
