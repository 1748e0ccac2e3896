package faults

import (
	"maps"
	"syscall"

	"github.com/IBM/sarama"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/internal/kafkatest"
)

const (
	user         = "app"
	userPassword = "S3cr3t-of-the-broker"
)

// withRights is a cluster that authenticates clients and checks their rights.
var withRights = &kafkatest.Options{Authorizer: true, Users: map[string]string{user: userPassword}}

var rightsSettings = map[string]string{
	"kafka.sasl.mechanism": "PLAIN", "kafka.sasl.username": user, "kafka.sasl.password": userPassword,
	"kafka.sasl.allow_plaintext": "true", "kafka.unknown_topic_grace": grace,
}

var _ = register(
	fault{
		name: "Write on a topic withdrawn", group: kafkaGroup, kafka: withRights, settings: rightsSettings,
		what:    "the right to write to a topic is withdrawn, and given back after the refusal",
		prepare: (*run).allowAll,
		expect:  refuses, says: []string{`\.order"?`, "grant .*Write"},
		strike: func(r *run) { r.deny(r.ordersTopic(), sarama.AclOperationWrite) },
		refused: func(r *run) {
			r.refusesAgain("grant")
			r.giveBack(r.ordersTopic(), sarama.AclOperationWrite)
			r.streamer.start()
		},
		judge: (*run).judgeDiscreetly,
	},
	fault{
		name: "Write on a topic withdrawn for a moment", group: kafkaGroup, kafka: withRights, settings: patient(rightsSettings),
		what:    "the right to write to a topic is withdrawn and given back before the streamer gives up",
		prepare: (*run).allowAll, times: strikes(5), recover: true,
		strike: func(r *run) { r.deny(r.ordersTopic(), sarama.AclOperationWrite) },
		heal:   func(r *run) { r.giveBack(r.ordersTopic(), sarama.AclOperationWrite) },
		judge:  (*run).judgeDiscreetly, stop: stopped,
	},
	fault{
		name: "Describe on a topic withdrawn for a moment", group: kafkaGroup, kafka: withRights, settings: patient(rightsSettings),
		what:    "the right to describe, and with it to see, a topic is withdrawn and given back before the streamer gives up",
		prepare: (*run).allowAll, times: strikes(5), recover: true,
		strike: func(r *run) {
			r.deny(r.ordersTopic(), sarama.AclOperationDescribe, sarama.AclOperationRead, sarama.AclOperationWrite)
		},
		heal: func(r *run) {
			r.giveBack(r.ordersTopic(), sarama.AclOperationDescribe, sarama.AclOperationRead, sarama.AclOperationWrite)
		},
		judge: (*run).judgeDiscreetly,
	},
	fault{
		name: "Read on the topics withdrawn", group: kafkaGroup, kafka: withRights, settings: rightsSettings,
		what: "the right to read the output topics is withdrawn while the streamer runs, " +
			"which does not need it, and then it is killed: it cannot read back what it has written, and says so",
		prepare: (*run).allowAll,
		expect:  refuses, says: []string{"grant .*Read"},
		strike: func(r *run) {
			r.deny(r.ordersTopic(), sarama.AclOperationRead)
			r.progress()
			r.killStreamer()
		},
		refused: func(r *run) {
			r.giveBack(r.ordersTopic(), sarama.AclOperationRead)
			r.streamer.start()
		},
		judge: (*run).judgeDiscreetly,
	},
	fault{
		name: "transactional id withdrawn", group: kafkaGroup, kafka: withRights, settings: rightsSettings,
		what: "the right to use the transactional id is withdrawn while the streamer runs, " +
			"and it is stopped and started: it cannot fence others any more, and says so",
		prepare: (*run).allowAll,
		strike: func(r *run) {
			r.deny(anyTransaction(), sarama.AclOperationWrite)
			r.progress()
			assert.Equal(r.t, exitFine, r.streamer.end(syscall.SIGTERM), "exit code of a graceful stop")
			r.streamer.start()
			r.awaitLog("transactional id")
			r.progress()
		},
		heal: func(r *run) {
			r.giveBack(anyTransaction(), sarama.AclOperationWrite)
			assert.Equal(r.t, exitFine, r.streamer.end(syscall.SIGTERM), "exit code of a graceful stop")
			r.streamer.start()
		},
		judge: (*run).judgeDiscreetly,
	},
	fault{
		name: "checkpoint topic withdrawn", group: kafkaGroup, kafka: withRights, settings: patient(rightsSettings),
		what:    "the right to write to the checkpoint topic is withdrawn and given back: events go on, nothing is confirmed meanwhile",
		prepare: (*run).allowAll,
		strike:  func(r *run) { r.deny(r.checkpointTopic(), sarama.AclOperationWrite) },
		hold:    func(r *run) { r.moment(3000, 6000) },
		heal:    func(r *run) { r.giveBack(r.checkpointTopic(), sarama.AclOperationWrite) },
		judge:   (*run).judgeDiscreetly,
	},
	fault{
		name: "password changed", group: kafkaGroup, kafka: withRights, settings: rightsSettings,
		what:    "the streamer is started with a password that the brokers do not accept, and then with the right one",
		prepare: (*run).allowAll,
		strike: func(r *run) {
			assert.Equal(r.t, exitFine, r.streamer.end(syscall.SIGTERM), "exit code of a graceful stop")
			r.set("kafka.sasl.password", "wrong-"+userPassword)
			r.streamer.start()
			r.until("the streamer ends", func() bool { return !r.streamer.running() })
			assert.Equal(r.t, exitUsage, r.streamer.code(), "exit code")
			assert.Contains(r.t, r.streamer.log(), "check kafka.sasl")
		},
		heal: func(r *run) {
			r.set("kafka.sasl.password", userPassword)
			r.streamer.start()
		},
		judge: (*run).judgeDiscreetly,
	},
)

// exitUsage is the exit code of a configuration that cannot work.
const exitUsage = 2

// patient returns the settings with a longer grace for what may come back.
func patient(settings map[string]string) map[string]string {
	longer := maps.Clone(settings)
	longer["kafka.unknown_topic_grace"] = "60s"
	return longer
}

func (r *run) allowAll() {
	r.t.Helper()
	require.NoError(r.t, r.kafka.AllowAll(r.ctx, user))
}

func (r *run) deny(resource sarama.Resource, operations ...sarama.AclOperation) {
	r.t.Helper()
	require.NoError(r.t, r.kafka.Deny(r.ctx, user, resource, operations...))
}

func (r *run) giveBack(resource sarama.Resource, operations ...sarama.AclOperation) {
	r.t.Helper()
	require.NoError(r.t, r.kafka.LiftDenial(r.ctx, user, resource, operations...))
}

func (r *run) ordersTopic() sarama.Resource {
	return sarama.Resource{
		ResourceType: sarama.AclResourceTopic, ResourceName: r.topic("order"),
		ResourcePatternType: sarama.AclPatternLiteral,
	}
}

func (r *run) checkpointTopic() sarama.Resource {
	return sarama.Resource{
		ResourceType: sarama.AclResourceTopic, ResourceName: r.settings["checkpoint.kafka.topic"],
		ResourcePatternType: sarama.AclPatternLiteral,
	}
}

func anyTransaction() sarama.Resource {
	return sarama.Resource{ResourceType: sarama.AclResourceTransactionalID, ResourceName: "*", ResourcePatternType: sarama.AclPatternLiteral}
}

// judgeDiscreetly is the usual judgement where a password for Kafka is known.
func (r *run) judgeDiscreetly(f findings) {
	r.t.Helper()
	assert.Zero(r.t, f, "the audit")
	assert.NotContains(r.t, r.streamer.log(), userPassword, "the streamer's log")
}
