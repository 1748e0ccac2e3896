package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/internal/kafkatest"
	"github.com/outboxstream/streamer/internal/pgtest"
	"github.com/outboxstream/streamer/internal/testserver"
)

// load commits n numbered rows over seven aggregates, one transaction each, in
// the background. The returned function waits for the end.
func (r *rig) load(n int) (wait func()) { return r.loadBetween(0, n) }

// loadBetween is load for the numbers from first up to, but not including, end.
func (r *rig) loadBetween(first, end int) (wait func()) {
	conn := r.open()
	done := make(chan error, 1)
	go func() {
		for i := first; i < end; i++ {
			_, err := conn.Exec(context.Background(), "insert into outbox (aggregatetype, aggregateid, type, payload) "+
				"values ('order', $1, 't', jsonb_build_object('n', $2::int))",
				fmt.Sprint("o", i%7), i)
			if err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	return func() {
		r.t.Helper()
		require.NoError(r.t, <-done)
	}
}

// requireOnce reads the topic and requires every number exactly once, in order
// for each key.
func (r *rig) requireOnce(p *process, total int) {
	r.t.Helper()
	messages := r.await(p, "order", total)
	seen := 0
	for key, numbers := range byKey(r.t, messages) {
		assert.IsIncreasing(r.t, numbers, key)
		seen += len(numbers)
	}
	assert.Equal(r.t, total, seen)
}

func TestLostReplicationConnectionRepeatsNothing(t *testing.T) {
	t.Parallel()
	r := newRig(t, outboxTable)
	p := r.startReady()
	const total = 6000
	wait := r.load(total)
	for range 8 {
		time.Sleep(time.Duration(rand.IntN(200)) * time.Millisecond)
		r.exec("select pg_terminate_backend(active_pid) from pg_replication_slots where slot_name = $1 and active", r.slot)
	}
	wait()
	r.requireOnce(p, total)
	r.confirmed(p)
	assert.Equal(t, 0, p.stop())
}

func TestLostLockConnectionRepeatsNothing(t *testing.T) {
	t.Parallel()
	r := newRig(t, outboxTable)
	p := r.startReady()
	const total = 4000
	wait := r.load(total)
	for range 3 {
		time.Sleep(time.Duration(rand.IntN(300)) * time.Millisecond)
		r.exec("select pg_terminate_backend(pid) from pg_stat_activity where application_name = $1", "streamer:"+r.slot)
	}
	wait()
	r.requireOnce(p, total)
}

func TestServerRestart(t *testing.T) {
	t.Parallel()
	server := pgtest.New(t, pgtest.Options{Settings: map[string]string{"fsync": "on"}})
	r := newRig(t, outboxTable, withServer(server))
	p := r.startReady()
	total := 0
	for _, stop := range []func() error{server.StopImmediate, server.Stop, server.StopImmediate} {
		wait := r.load(500)
		wait()
		total += 500
		began := time.Now()
		require.NoError(t, stop())
		assert.Less(t, time.Since(began), 15*time.Second, "the server's shutdown must not wait for us")
		require.NoError(t, server.StartAgain(t.Context()))
		r.db = r.open()
	}
	messages := r.await(p, "order", total)
	assert.Len(t, messages, total)
	r.confirmed(p)
}

// A server that shuts down waits for acknowledgements that a dead broker will
// not give. The streamer gives up the connection instead.
func TestServerShutdownWhileTheBrokerIsAway(t *testing.T) {
	testserver.Long(t)
	t.Parallel()
	server := pgtest.New(t, pgtest.Options{})
	kafka := kafkatest.New(t, kafkatest.Options{})
	r := newRig(t, outboxTable, withServer(server), withKafka(kafka))
	p := r.startReady()
	r.load(50)()
	r.await(p, "order", 50)
	require.NoError(t, kafka.PauseBroker(0))
	r.load(50)()
	began := time.Now()
	require.NoError(t, server.Stop())
	assert.Less(t, time.Since(began), 40*time.Second)
	require.NoError(t, server.StartAgain(t.Context()))
	require.NoError(t, kafka.ResumeBroker(0))
	messages := r.await(p, "order", 100)
	assert.Len(t, messages, 100)
}

// Whatever was acknowledged, or written and not acknowledged, is read back at
// the next start. Nothing is lost and nothing repeated.
func TestKilledAgainAndAgain(t *testing.T) {
	t.Parallel()
	for name, settings := range readers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			killedAgainAndAgain(t, newRig(t, outboxTable, withConfig(settings...)))
		})
	}
}

func killedAgainAndAgain(t *testing.T, r *rig) {
	t.Helper()
	const total = 4000
	wait := r.load(total)
	for range 10 {
		p := r.start()
		time.Sleep(time.Duration(100+rand.IntN(500)) * time.Millisecond)
		p.kill()
	}
	wait()
	p := r.startReady()
	r.confirmed(p)
	published := 0
	for key, numbers := range byKey(t, r.records("order")) {
		assert.IsIncreasing(t, numbers, "in order, and none twice: "+key)
		published += len(numbers)
	}
	assert.Equal(t, total, published)
}
