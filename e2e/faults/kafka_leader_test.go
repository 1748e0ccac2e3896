package faults

import (
	"regexp"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// anyTransactionalID stands for that of the streamer. Test clusters keep all
// transactional ids in one partition, so they have one coordinator.
const anyTransactionalID = "streamer"

var _ = register(
	fault{
		name: "leader moved", group: kafkaGroup, brokers: 3,
		what:  "the leader of a random partition is moved to a random broker, back and forth",
		times: strikes(40),
		strike: func(r *run) {
			topic := r.topic(aggregateTypes[r.random.IntN(len(aggregateTypes))])
			require.NoError(r.t, r.kafka.MoveLeader(r.ctx, topic, r.random.IntN(3), r.random.IntN(3)))
		},
	},
	fault{
		name: "leader moved while the streamer is killed", group: kafkaGroup, brokers: 3,
		what:    "the leader of a random partition moves, and the streamer is killed at the same time: it reads back from another leader",
		times:   strikes(15),
		recover: true,
		strike: func(r *run) {
			topic, partition := r.topic(aggregateTypes[r.random.IntN(len(aggregateTypes))]), r.random.IntN(3)
			killed := r.killMeanwhile()
			require.NoError(r.t, r.kafka.MoveLeader(r.ctx, topic, partition, r.result.Injections%3))
			killed()
		},
	},
	fault{
		name: "coordinator moved", group: kafkaGroup, brokers: 3,
		what: "the coordinator of the transactional id moves to another broker, " +
			"and the streamer is killed at the same time: it takes over through another broker",
		times:   strikes(15),
		recover: true,
		strike: func(r *run) {
			killed := r.killMeanwhile()
			require.NoError(r.t, r.kafka.MoveCoordinator(r.ctx, anyTransactionalID, r.result.Injections%3))
			killed()
		},
	},
	fault{
		name: "coordinator killed", group: kafkaGroup, kafka: threeBrokers,
		what: "the broker that coordinates the transactional id is killed, and the streamer with it: " +
			"it takes over while there is no coordinator yet",
		times: strikes(4),
		strike: func(r *run) {
			i, err := r.kafka.Coordinator(anyTransactionalID)
			require.NoError(r.t, err)
			r.killBrokers(i)
			r.killNow()
		},
		heal: (*run).startBrokers, recover: true, stop: stopped,
	},
	unclean("unclean election, streamer goes on", func(r *run) {
		r.loseLeader(r.progress)
	}),
	unclean("unclean election, streamer killed", func(r *run) {
		r.loseLeader(r.progress)
		r.killNow()
	}),
	unclean("unclean election, one event gone", func(r *run) {
		resume := r.holdWriters()
		defer resume()
		r.awaitConfirmation()
		r.loseLeader(func() { r.publishOne() })
	}),
)

// unclean is the fault of a leader that was not in sync: Kafka loses what it
// has acknowledged. The streamer is frozen during the loss, so that the run
// knows exactly what is lost. For the streamer this makes no difference.
func unclean(name string, strike func(*run)) fault {
	return fault{
		name: name, group: kafkaGroup, kafka: threeBrokers,
		what: "the operator elects a leader that was not in sync, and acknowledged records are gone: " +
			"the streamer says so and loses nothing else",
		prepare: (*run).createOnTwoBrokers,
		strike: func(r *run) {
			strike(r)
			r.streamer.thaw()
		},
		heal: func(r *run) {
			r.startBrokers()
			r.progress()
		},
		judge: func(r *run, f findings) {
			assert.Positive(r.t, r.audit.missingThough(), "Kafka has lost nothing: the fault had no effect")
			// "Lost the producer's sequence" is not enough: that is about later
			// events.
			r.judgeAfter(f, regexp.QuoteMeta(r.topic("order"))+`[^\n]*lost acknowledged events`)
		},
	}
}

const (
	lastInSync = 0 // the broker that has everything
	leftBehind = 1 // the broker that will lead instead
)

// createOnTwoBrokers keeps the output topics off the third broker, which is
// needed for a majority of controllers.
func (r *run) createOnTwoBrokers() {
	r.t.Helper()
	r.createTopics(1, map[string]string{"min.insync.replicas": "1"})
	for _, name := range aggregateTypes {
		require.NoError(r.t, r.kafka.Reassign(r.ctx, r.topic(name), 0, lastInSync, leftBehind))
		require.NoError(r.t, r.kafka.MoveLeader(r.ctx, r.topic(name), 0, lastInSync))
	}
}

// loseLeader ends with a frozen streamer and with a leader of each topic that
// lacks what was acknowledged while it was away. The function publish publishes
// those events.
func (r *run) loseLeader(publish func()) {
	r.t.Helper()
	r.killBrokers(leftBehind)
	for _, name := range aggregateTypes {
		r.awaitInSync(r.topic(name), 0, lastInSync)
	}
	publish()
	r.awaitConfirmation() // otherwise the lost events would only be published again
	r.freezeStreamer()
	r.until("everything acknowledged is read", func() bool { return r.audit.follow(r.ctx) == nil })
	r.killBrokers(lastInSync)
	require.NoError(r.t, r.kafka.StartBroker(r.ctx, leftBehind))
	for _, name := range aggregateTypes {
		require.NoError(r.t, r.kafka.ElectUnclean(r.ctx, r.topic(name), 0))
	}
	r.audit.destroyed()
}
