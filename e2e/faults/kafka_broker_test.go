package faults

import (
	"fmt"
	"slices"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/internal/kafkatest"
)

const (
	// longOutage is longer than a hiccup: every timeout of a client expires
	// during the fault.
	longOutage = 65 * time.Second
	// inFlight bounds what waits for its acknowledgement in the runs that check
	// memory.
	inFlight = 4 << 20
	// memoryCeiling is what the streamer may need then, in bytes: half as much
	// again as the largest measured peak, 43 MiB.
	memoryCeiling = 64 << 20
	// requestTimeout is short enough to expire while a fault lasts.
	requestTimeout = "3s"
)

var (
	oneBroker    = &kafkatest.Options{}
	threeBrokers = &kafkatest.Options{Brokers: 3}
)

var _ = register(
	fault{
		name: "the only broker killed", group: kafkaGroup, fast: true, kafka: oneBroker,
		what:   "SIGKILL of the only broker at a random moment; it starts again a moment later",
		times:  seldom(5),
		strike: func(r *run) { r.moment(0, 500); r.killBrokers(0) },
		heal:   (*run).startBrokers, recover: true, stop: stopped,
	},
	fault{
		name: "one of three brokers killed", group: kafkaGroup, kafka: threeBrokers,
		what:   "SIGKILL of any of three brokers at a random moment; it starts again a moment later",
		times:  strikes(6),
		strike: func(r *run) { r.moment(0, 500); r.killBrokers(r.random.IntN(3)) },
		heal:   (*run).startBrokers, recover: true, stop: stopped,
	},
	fault{
		name: "one of three brokers stopped in order", group: kafkaGroup, kafka: threeBrokers,
		what:  "a rolling restart: one broker after the other is stopped cleanly and started again",
		times: strikes(3),
		strike: func(r *run) {
			require.NoError(r.t, r.kafka.StopBroker(r.result.Injections%3))
		},
		heal: (*run).startBrokers, recover: true,
	},
	fault{
		name: "one of three brokers frozen", group: kafkaGroup, kafka: threeBrokers,
		what:     "SIGSTOP of any of three brokers until the others have taken its place; then it wakes and still believes that it leads",
		settings: map[string]string{"kafka.request_timeout": requestTimeout},
		times:    strikes(4),
		strike:   func(r *run) { r.moment(0, 500); r.freezeBroker(r.random.IntN(3)) },
		hold:     func(r *run) { r.moment(6000, 9000) },
		heal:     (*run).wakeBrokers, recover: true, stop: stopped,
	},
	fault{
		name: "the only broker frozen", group: kafkaGroup, kafka: oneBroker,
		what:     "SIGSTOP of the only broker for longer than every timeout: connections stay open and get no answer",
		settings: map[string]string{"kafka.request_timeout": requestTimeout},
		times:    strikes(2),
		strike:   func(r *run) { r.moment(0, 500); r.freezeBroker(0) },
		hold:     func(r *run) { r.moment(15_000, 20_000) },
		heal:     (*run).wakeBrokers, recover: true, stop: stopped,
	},
	allDown("the only broker down for a minute", oneBroker),
	allDown("all three brokers down for a minute", threeBrokers),
	fault{
		name: "not enough replicas", group: kafkaGroup, kafka: threeBrokers,
		what:    "one of three brokers is killed while the topics ask for three replicas in sync: nothing may be written until it is back",
		prepare: func(r *run) { r.createTopics(3, map[string]string{"min.insync.replicas": "3"}) },
		times:   strikes(3),
		strike:  func(r *run) { r.moment(0, 500); r.killBrokers(r.random.IntN(3)) },
		hold:    func(r *run) { r.moment(6000, 10_000) },
		heal:    (*run).startBrokers, recover: true, stop: stopped,
	},
	fault{
		name: "the only broker's disk full", group: kafkaGroup, kafka: &kafkatest.Options{DiskBytes: 160 << 20},
		what:   "the log directory of the only broker is full, which ends the broker; it is started again when there is room",
		times:  strikes(3),
		strike: func(r *run) { r.moment(0, 500); r.fillDisk(0) },
		hold:   func(r *run) { r.moment(500, 3000) },
		heal:   func(r *run) { r.freeDisk(0) }, recover: true, stop: stopped,
	},
	fault{
		name: "one of three brokers' disk full", group: kafkaGroup, kafka: &kafkatest.Options{Brokers: 3, DiskBytes: 160 << 20},
		what:   "the log directory of one of three brokers is full, which ends that broker; it is started again when there is room",
		times:  strikes(3),
		strike: func(r *run) { r.moment(0, 500); r.fillDisk(r.result.Injections % 3) },
		hold:   func(r *run) { r.moment(500, 3000) },
		heal:   func(r *run) { r.freeDisk((r.result.Injections - 1) % 3) }, recover: true, stop: stopped,
	},
	fault{
		name: "throttled", group: kafkaGroup, kafka: oneBroker,
		what:   "the brokers take 20 kB a second from every client: less than is committed",
		times:  strikes(2),
		strike: func(r *run) { require.NoError(r.t, r.kafka.ThrottleProducers(20_000)) },
		hold:   func(r *run) { r.moment(10_000, 15_000) },
		heal:   func(r *run) { require.NoError(r.t, r.kafka.ThrottleProducers(0)) },
		// What was announced before must still be waited for.
		patience: 3 * patience, stop: stopped,
	},
)

// seldom returns n strikes for a full run, and one for the fast part: a broker
// takes seconds to start.
func seldom(n int) func() int {
	return func() int {
		if everything() {
			return n
		}
		return 1
	}
}

// allDown is the fault of a cluster that is away for long. The streamer must
// not need more memory the longer the outage lasts.
func allDown(name string, cluster *kafkatest.Options) fault {
	return fault{
		name: name, group: kafkaGroup, kafka: cluster,
		what:     fmt.Sprintf("every broker is killed, and none is started for %v", longOutage),
		settings: map[string]string{"kafka.max_in_flight_bytes": "4MiB", "kafka.request_timeout": requestTimeout},
		strike: func(r *run) {
			all := make([]int, len(r.kafka.Brokers()))
			for i := range all {
				all[i] = i
			}
			r.killBrokers(all...)
		},
		hold: func(r *run) { pause(r.ctx, longOutage) },
		heal: func(r *run) {
			r.requireLittleMemory()
			r.startBrokers()
		},
		judge: func(r *run, f findings) {
			assert.Zero(r.t, f, "the audit")
			r.requireLittleMemory()
		},
		patience: 2 * patience, stop: stopped,
	}
}

// requireLittleMemory asserts that no process has needed more than the ceiling.
func (r *run) requireLittleMemory() {
	r.t.Helper()
	peak := r.streamer.peakMemory()
	assert.Less(r.t, peak, memoryCeiling, "peak of resident memory in bytes, with %d in flight at most", inFlight)
	r.t.Logf("peak of resident memory: %d MiB", peak>>20)
}

func (r *run) killBrokers(brokers ...int) {
	r.t.Helper()
	for _, i := range brokers {
		require.NoError(r.t, r.kafka.KillBroker(i))
	}
}

// startBrokers starts all stopped brokers and looks at once at what is in them.
// The sampler may not have been able to look.
func (r *run) startBrokers() {
	r.t.Helper()
	require.NoError(r.t, r.kafka.StartAgain(r.ctx))
	r.until("Kafka can be read again", func() bool { return r.look(r.ctx) == nil })
}

func (r *run) freezeBroker(i int) {
	r.t.Helper()
	require.NoError(r.t, r.kafka.PauseBroker(i))
}

// wakeBrokers wakes all brokers, including those that are awake.
func (r *run) wakeBrokers() {
	r.t.Helper()
	for i := range r.kafka.Brokers() {
		require.NoError(r.t, r.kafka.ResumeBroker(i))
	}
}

// fillDisk fills the disk of a broker and waits for the broker's end. The
// broker ends when it writes what is left of its last block.
func (r *run) fillDisk(i int) {
	r.t.Helper()
	require.NoError(r.t, r.kafka.FillDisk(i))
	r.until("the broker has ended", func() bool { return !r.kafka.Running(i) })
}

func (r *run) freeDisk(i int) {
	r.t.Helper()
	require.NoError(r.t, r.kafka.FreeDisk(i))
	r.startBrokers()
}

// createTopics creates the output topics instead of letting the streamer do it.
func (r *run) createTopics(partitions int, config map[string]string) {
	r.t.Helper()
	for _, name := range aggregateTypes {
		require.NoError(r.t, r.kafka.CreateTopic(r.ctx, r.topic(name), partitions, config))
	}
	r.settings["kafka.topics.create"] = "false"
}

// awaitInSync waits until exactly these brokers are in sync for a partition.
func (r *run) awaitInSync(topic string, partition int, brokers ...int) {
	r.t.Helper()
	var partitions []kafkatest.Partition
	var err error
	reached := r.wait(r.patience(), func() bool {
		partitions, err = r.kafka.Partitions(topic)
		if err != nil || partition >= len(partitions) {
			return false
		}
		slices.Sort(partitions[partition].InSync)
		return slices.Equal(partitions[partition].InSync, brokers)
	})
	require.True(r.t, reached, "brokers %v alone are in sync with partition %d of %s: %+v, %v", brokers, partition, topic, partitions, err)
}
