package faults

import (
	"syscall"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var _ = register(
	fault{
		name: "checkpoint topic without replicas in sync", group: checkpointGroup, kafka: threeBrokers,
		what: "the checkpoint topic asks for three replicas in sync while one of three brokers is killed: " +
			"events go on, nothing is confirmed meanwhile",
		prepare: func(r *run) { r.createCheckpointTopic(map[string]string{"min.insync.replicas": "3"}) },
		times:   strikes(3), recover: true,
		strike: func(r *run) { r.moment(0, 500); r.killBrokers(r.random.IntN(3)) },
		hold:   func(r *run) { r.moment(6000, 10_000) },
		heal:   (*run).startBrokers, stop: stopped,
	},
	fault{
		name: "checkpoint topic deleted", group: checkpointGroup,
		what:     "the checkpoint topic is deleted while the streamer runs; the streamer is stopped, unless it has ended, and started again",
		settings: map[string]string{"kafka.unknown_topic_grace": grace},
		strike: func(r *run) {
			r.awaitConfirmation()
			require.NoError(r.t, r.kafka.DeleteTopic(r.ctx, r.settings["checkpoint.kafka.topic"]))
		},
		heal: (*run).startAsTold,
	},
	fault{
		name: "checkpoint topic deleted, streamer killed", group: checkpointGroup,
		what:     "the checkpoint topic is deleted while the streamer is down after a SIGKILL",
		settings: map[string]string{"kafka.unknown_topic_grace": grace},
		strike: func(r *run) {
			r.awaitConfirmation()
			r.moment(0, 1000)
			r.streamer.end(syscall.SIGKILL)
			r.result.Kills++
			require.NoError(r.t, r.kafka.DeleteTopic(r.ctx, r.settings["checkpoint.kafka.topic"]))
			r.streamer.start()
		},
		heal: (*run).startAsTold,
		judge: func(r *run, f findings) {
			// What came after the slot's position is no longer in any
			// checkpoint.
			r.requireRoutingSaid(f)
			f.Repeated = 0
			assert.Zero(r.t, f, "the audit")
		},
	},
	fault{
		name: "checkpoint topic forgets", group: checkpointGroup,
		what:   "cleanup.policy of the checkpoint topic is changed to delete: the next start refuses, until it is changed back",
		expect: refuses, says: []string{"checkpoints-", "cleanup.policy=delete", "set cleanup.policy=compact"},
		strike: func(r *run) {
			require.NoError(r.t, r.kafka.SetTopic(r.ctx, r.settings["checkpoint.kafka.topic"], "cleanup.policy", "delete"))
			r.killStreamer()
		},
		refused: func(r *run) {
			require.NoError(r.t, r.kafka.SetTopic(r.ctx, r.settings["checkpoint.kafka.topic"], "cleanup.policy", "compact"))
			r.streamer.start()
		},
	},
)

// createCheckpointTopic creates the topic as an operator would.
func (r *run) createCheckpointTopic(config map[string]string) {
	r.t.Helper()
	config["cleanup.policy"] = "compact"
	require.NoError(r.t, r.kafka.CreateTopic(r.ctx, r.settings["checkpoint.kafka.topic"], 1, config))
}

// startAsTold does what an operator does about a streamer without checkpoints.
// A running streamer is fine. A streamer that has refused has named the
// checkpoint and the remedy, and startAsTold applies it.
func (r *run) startAsTold() {
	r.t.Helper()
	if !r.refusing() {
		r.awaitConfirmation() // it has recovered by itself
		return
	}
	require.Equal(r.t, exitRefused, r.streamer.code(), "exit code")
	said := tail(r.streamer.log(), 2000)
	assert.Regexp(r.t, `(?i)checkpoint`, said, "the refusal")
	r.t.Logf("refusal: %s", lastWords(said))
	r.streamer.start()
	if !r.refusing() {
		return // it only had to be started again
	}
	assert.Contains(r.t, tail(r.streamer.log(), 2000), "streamer checkpoint set", "the refusal names the way out")
	output, code := r.command("checkpoint", "set", "slot", "--yes")
	require.Zero(r.t, code, output)
	r.streamer.start()
}

// refusing waits until the streamer either confirms what is committed now or
// has ended. It reports whether the streamer has ended.
func (r *run) refusing() bool {
	r.t.Helper()
	end := r.endOfLog()
	r.until("the streamer confirms or ends", func() bool { return !r.streamer.running() || r.confirmedUpTo(end) })
	return !r.streamer.running()
}
