package faults

import (
	"syscall"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/internal/kafkatest"
)

// expiry is how long Kafka remembers an idle producer in these runs, instead
// of a day or a week.
const expiry = 8 * time.Second

// forgetful is a cluster that forgets idle producers.
var forgetful = &kafkatest.Options{Settings: kafkatest.ForgetfulSettings(expiry)}

const (
	// lastEpoch is the last epoch that Kafka hands out for a producer id. After
	// that Kafka assigns another id.
	lastEpoch = 32_766
	// beforeTheEnd is the number of take-overs by others that leaves room for a
	// few of the streamer's own before the streamer should react.
	beforeTheEnd = 29_990
)

var _ = register(
	fault{
		name: "producer forgotten while idle", group: kafkaGroup, kafka: forgetful,
		what: "nothing is committed for so long that Kafka would forget the transactional id and the producer, if they were not kept alive",
		strike: func(r *run) {
			r.idleFor(2*expiry + expiry/2)
		},
		heal: (*run).progress,
	},
	fault{
		name: "producer forgotten while frozen", group: kafkaGroup, kafka: forgetful,
		what:  "the streamer is frozen (SIGSTOP) for longer than Kafka remembers it",
		times: strikes(3), recover: true,
		strike: (*run).freezeStreamer,
		hold:   func(r *run) { pause(r.ctx, 2*expiry) },
		heal:   func(r *run) { r.streamer.thaw() },
	},
	fault{
		name: "producer forgotten while down", group: kafkaGroup, kafka: forgetful,
		what:  "the streamer is killed and stays down for longer than Kafka remembers it: it gets another producer id",
		times: strikes(3), recover: true,
		strike: func(r *run) {
			r.moment(0, 1000)
			r.streamer.end(syscall.SIGKILL)
			r.result.Kills++
		},
		hold: func(r *run) {
			pause(r.ctx, 2*expiry)
			r.until("Kafka has forgotten the transactional id", func() bool { return len(r.transactionalIDs()) == 0 })
		},
		heal: func(r *run) {
			r.streamer.start()
			r.awaitLog("Kafka has forgotten")
		},
	},
	fault{
		name: "transactional id taken by another", group: kafkaGroup, kafka: oneBroker,
		what:  "another client takes the streamer's transactional id while the streamer runs, which fences the streamer at its next transaction",
		times: strikes(5), recover: true,
		strike: func(r *run) {
			_, _, err := r.kafka.TakeOver(r.ctx, r.transactionalID(), 1)
			require.NoError(r.t, err)
			r.killStreamer()
		},
	},
	fault{
		name: "epochs used up", group: kafkaGroup, kafka: oneBroker,
		what: "the transactional id has been taken over so often that its epochs run out, while the streamer is killed again and again",
		strike: func(r *run) {
			id := r.transactionalID()
			r.streamer.end(syscall.SIGKILL)
			_, epoch, err := r.kafka.TakeOver(r.ctx, id, beforeTheEnd)
			require.NoError(r.t, err)
			require.EqualValues(r.t, beforeTheEnd, epoch, "epoch of the last of others, after the streamer's own 0")
			r.streamer.start()
			for range 20 {
				r.progress()
				r.killStreamer()
				r.result.Injections++
			}
			assert.Len(r.t, r.transactionalIDs(), 2, "the streamer goes on with another transactional id in time")
		},
	},
	fault{
		name: "epochs gone", group: kafkaGroup, kafka: oneBroker,
		what: "the transactional id has been taken over until Kafka gave it another producer id, while the streamer was down",
		strike: func(r *run) {
			id := r.transactionalID()
			r.streamer.end(syscall.SIGKILL)
			before, _, err := r.kafka.TakeOver(r.ctx, id, 1)
			require.NoError(r.t, err)
			after, _, err := r.kafka.TakeOver(r.ctx, id, lastEpoch)
			require.NoError(r.t, err)
			require.NotEqual(r.t, before, after, "Kafka goes on with the same producer id")
			r.streamer.start()
			for range 3 {
				r.progress()
				r.killStreamer()
			}
		},
	},
)

// idleFor lets nothing be committed for a while.
func (r *run) idleFor(d time.Duration) {
	r.t.Helper()
	resume := r.holdWriters()
	defer resume()
	pause(r.ctx, d)
}

// transactionalIDs returns the transactional ids that Kafka remembers.
func (r *run) transactionalIDs() []string {
	r.t.Helper()
	ids, err := r.kafka.TransactionalIDs(r.ctx)
	require.NoError(r.t, err)
	return ids
}

// transactionalID returns the streamer's transactional id, the only one on a
// cluster of its own.
func (r *run) transactionalID() string {
	r.t.Helper()
	ids := r.transactionalIDs()
	require.NotEmpty(r.t, ids, "the streamer uses no transactional id")
	assert.Len(r.t, ids, 1, "the streamer uses one")
	return ids[0]
}
