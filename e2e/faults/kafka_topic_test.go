package faults

import (
	"strings"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// grace is how long a topic may be missing or forbidden in these runs.
const grace = "2s"

var _ = register(
	deleted(),
	recreated("topic re-created", false),
	recreated("topic re-created, streamer killed", true),
	fault{
		name: "partitions added", group: kafkaGroup,
		what:   "a topic gets more partitions: its keys move, and none of them is in two partitions at a time",
		strike: func(r *run) { require.NoError(r.t, r.kafka.AddPartitions(r.ctx, r.topic("order"), 7)) },
		hold:   func(r *run) { r.awaitLog("new partitions"); r.progress() },
		heal:   (*run).progress,
		judge:  (*run).judgeMoved,
	},
	fault{
		name: "partitions added, streamer killed", group: kafkaGroup,
		what: "a topic gets more partitions, and the streamer is killed at the same time: it finds its keys where they were",
		strike: func(r *run) {
			killed := r.killMeanwhile()
			require.NoError(r.t, r.kafka.AddPartitions(r.ctx, r.topic("order"), 7))
			killed()
		},
		heal: (*run).progress,
		judge: func(r *run, f findings) {
			r.judgeMoved(f)
			r.requireRoutingSaid(f)
		},
	},
	fault{
		name: "partitions added, and that is refused", group: kafkaGroup,
		what:     "a topic gets more partitions where kafka.on_partition_change is stop",
		settings: map[string]string{"kafka.on_partition_change": "stop"},
		expect:   refuses, says: []string{`\.order"? has grown from 3 to 7 partitions`, "kafka.on_partition_change"},
		strike: func(r *run) { require.NoError(r.t, r.kafka.AddPartitions(r.ctx, r.topic("order"), 7)) },
		refused: func(r *run) {
			r.streamer.start()
			r.progress()
		},
		judge: (*run).judgeMoved, patience: 2 * patience,
	},
	fault{
		name: "record too large", group: kafkaGroup,
		// Compressed, the writers' events are small.
		settings: map[string]string{"kafka.compression": "none"},
		what:     "max.message.bytes of a topic is lowered below what is committed, and raised again after the refusal, which names the row",
		expect:   refuses, says: []string{`row "?[0-9a-f-]{36}`, `\.order"?`, "max.message.bytes"},
		strike: func(r *run) { r.limitRecords("10000") },
		refused: func(r *run) {
			r.refusesAgain("max.message.bytes")
			r.limitRecords("")
			r.streamer.start()
		},
	},
)

// limitRecords sets how large a batch in a topic may be.
func (r *run) limitRecords(bytes string) {
	r.t.Helper()
	require.NoError(r.t, r.kafka.SetTopic(r.ctx, r.topic("order"), "max.message.bytes", bytes))
}

// refusesAgain starts the streamer, which must end for the same reason.
func (r *run) refusesAgain(says string) {
	r.t.Helper()
	before := len(r.streamer.log())
	r.streamer.start()
	r.until("the streamer refuses again", func() bool { return !r.streamer.running() })
	assert.Equal(r.t, exitRefused, r.streamer.code(), "exit code")
	assert.Contains(r.t, r.streamer.log()[before:], says)
}

// awaitLog waits until the streamer's log contains a text.
func (r *run) awaitLog(text string) {
	r.t.Helper()
	r.until("the log says "+text, func() bool { return strings.Contains(r.streamer.log(), text) })
}

// judgeMoved tolerates that keys have moved once, to partitions that are read
// in another order. It tolerates neither loss nor a change in the order of a
// key.
func (r *run) judgeMoved(f findings) {
	r.t.Helper()
	moved := f.Misordered
	f.Misordered, r.result.Misordered = 0, 0
	assert.Zero(r.t, f, "the audit")
	assert.Positive(r.t, moved, "no key has moved: the fault had no effect")
	r.requireOrder()
}

// requireRoutingSaid asserts that the streamer says when it can no longer rule
// out repeats.
func (r *run) requireRoutingSaid(f findings) {
	r.t.Helper()
	if f.Repeated > 0 {
		assert.Regexp(r.t, `(?i)(at.least.once|repeat)`, r.streamer.log(), "events were repeated and the streamer does not say so")
	}
}

// deleted is the fault of a topic that is deleted, and created by the operator
// after the refusal.
func deleted() fault {
	return fault{
		name: "topic deleted", group: kafkaGroup,
		what:     "a topic is deleted while it is written to; after the refusal the operator creates it",
		settings: map[string]string{"kafka.unknown_topic_grace": grace},
		prepare:  func(r *run) { r.createTopics(3, nil) },
		expect:   refuses, says: []string{`\.order"?`, "(?i)create"},
		strike: func(r *run) {
			r.deleteTopic()
			r.streamer.thaw()
		},
		refused: func(r *run) {
			r.refusesAgain(r.topic("order"))
			require.NoError(r.t, r.kafka.CreateTopic(r.ctx, r.topic("order"), 3, nil))
			r.streamer.start()
			r.progress()
		},
		judge: func(r *run, f findings) { r.judgeAfter(f, `\.order"`) },
	}
}

// recreated is the fault of a topic that is deleted and created before the
// streamer has given it up.
func recreated(name string, killed bool) fault {
	return fault{
		name: name, group: kafkaGroup,
		what:     "a topic is deleted and created again, under the same name, while it is written to: the streamer says so and goes on",
		settings: map[string]string{"kafka.unknown_topic_grace": "60s"},
		prepare:  func(r *run) { r.createTopics(3, nil) },
		strike: func(r *run) {
			r.deleteTopic()
			require.NoError(r.t, r.kafka.CreateTopic(r.ctx, r.topic("order"), 3, nil))
			if killed {
				r.killNow()
			}
			r.streamer.thaw()
		},
		hold: func(r *run) { pause(r.ctx, time.Second) },
		heal: (*run).progress,
		judge: func(r *run, f findings) {
			r.judgeAfter(f, `(?i)(re-?created|created again|topic.id|another topic|shorter|deleted)`)
		},
	}
}

// deleteTopic deletes the topic of orders while the streamer is frozen, so that
// the run knows what was in it.
func (r *run) deleteTopic() {
	r.t.Helper()
	r.freezeStreamer()
	r.until("everything acknowledged is read", func() bool { return r.audit.follow(r.ctx) == nil })
	require.NoError(r.t, r.kafka.DeleteTopic(r.ctx, r.topic("order")))
	r.audit.destroyed()
}
