package faults

import (
	"fmt"
	"syscall"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/internal/kafkatest"
)

const (
	// oldAfter is when Kafka forgets a producer in these runs, measured by the
	// times of its records. It is long enough for a standby to take over from a
	// frozen instance that would not stop by itself.
	oldAfter = 90 * time.Second
	// oldRows is how many events wait until they are that old. oldRate is how
	// many bytes of them a broker accepts in a second, so that there is
	// something to interrupt.
	oldRows = 60_000
	oldRate = 250_000
)

var _ = register(
	fault{
		name: "old events while brokers are killed", group: kafkaGroup,
		what: "the streamer was down for longer than Kafka remembers a producer; " +
			"while it catches up, one broker after the other is killed and started again",
		kafka:    &kafkatest.Options{Brokers: 3, Settings: kafkatest.ForgetfulSettings(oldAfter)},
		settings: oldSettings,
		strike: func(r *run) {
			r.grow()
			r.streamer.start()
			r.progress()
			for i := range 6 {
				r.moment(500, 2500)
				r.killBrokers(i % 3)
				r.moment(0, 1000)
				r.startBrokers()
			}
			r.result.Injections += 5
			require.NoError(r.t, r.kafka.ThrottleProducers(0))
		},
		patience: 3 * patience,
	},
	fault{
		name: "old events and a zombie", group: kafkaGroup,
		what: "the streamer was down for longer than Kafka remembers a producer; " +
			"while it catches up it is frozen, a standby instance takes over and catches up, and the frozen one wakes up",
		kafka:    &kafkatest.Options{Brokers: 3, Settings: kafkatest.ForgetfulSettings(oldAfter)},
		settings: oldSettings,
		prepare:  func(r *run) { r.second() },
		strike: func(r *run) {
			resume := r.holdWriters() // their events would be young
			r.grow()
			for _, s := range r.instances() {
				s.start()
			}
			holder := r.holder()
			r.progress()
			holder.signal(syscall.SIGSTOP)
			r.until("the other instance has taken over", func() bool { return r.other(holder).streams() })
			require.NoError(r.t, r.kafka.ThrottleProducers(0))
			r.awaitConfirmation()
			pause(r.ctx, 2*time.Second) // that is when Kafka would forget
			holder.signal(syscall.SIGCONT)
			r.until("the woken instance knows its place", func() bool { return holder.running() && !holder.streams() })
			resume()
			r.progress()
		},
		patience: 3 * patience,
	},
)

// oldSettings make many small batches, which are sent again where they were not
// acknowledged.
var oldSettings = map[string]string{
	"kafka.compression": "none", "kafka.max_batch_bytes": "16KiB", "postgres.wal_sender_timeout": "2s",
}

// grow stops the streamers and lets events wait until they are old. From then
// on brokers accept them slowly.
func (r *run) grow() {
	r.t.Helper()
	for _, s := range r.instances() {
		assert.Equal(r.t, exitFine, s.end(syscall.SIGTERM), "exit code of a graceful stop")
	}
	for i := range 3 {
		r.insertMany(fmt.Sprint("old-", i), oldRows/3, func() {})
	}
	pause(r.ctx, oldAfter+10*time.Second)
	require.NoError(r.t, r.kafka.ThrottleProducers(oldRate))
}
