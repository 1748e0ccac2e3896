package faults

import (
	"math/rand/v2"
	"syscall"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A fault is over only when the streamer has come through a reconnect and a
// restart afterwards. What it survives by luck, or by what its process still
// knows, shows then.

// aftermath is how many transactions are written during each of the two.
const aftermath = 25

// goOn continues a run that has become quiet: through the end of its connection
// and through a restart, each under a little load. It stops the streamer.
func (r *run) goOn() {
	r.t.Helper()
	if !r.going() {
		return
	}
	r.write(r.disconnect)
	if !r.stopAll() {
		return
	}
	for _, s := range r.instances() {
		s.start()
	}
	r.write(func() {})
	r.stopAll()
	require.NoError(r.t, r.look(r.ctx), "what is confirmed at the end")
}

// write does some transactions while something happens, and waits until their
// events are published. The audit judges events that are still missing then.
func (r *run) write(meanwhile func()) {
	r.t.Helper()
	done := make(chan struct{})
	random := rand.New(rand.NewPCG(r.random.Uint64(), 0))
	go func() {
		defer close(done)
		r.load.more(r.ctx, random, aftermath)
	}()
	meanwhile()
	<-done
	r.resolve()
	r.awaitPublished()
}

// disconnect ends the connection that reads: the walsender, or the sessions
// that catch up.
func (r *run) disconnect() {
	r.t.Helper()
	r.moment(0, 200)
	conn, err := connect(r.ctx, r.reading())
	require.NoError(r.t, err)
	defer conn.Close(r.ctx)
	r.until("a connection is ended", func() bool {
		var ended int
		err := conn.QueryRow(r.ctx, `select count(pg_terminate_backend(pid)) from pg_stat_activity where datname = current_database()
			and (pid in (select active_pid from pg_replication_slots where slot_name = $1) or $2 and application_name = 'streamer:' || $1)`,
			r.slot, r.settings["replication.reader"] == "catch-up").Scan(&ended)
		require.NoError(r.t, err)
		return ended > 0 || !r.streamer.running()
	})
}

// going reports whether all instances run.
func (r *run) going() bool {
	r.t.Helper()
	for _, s := range r.instances() {
		if !s.running() {
			assert.Fail(r.t, "the streamer has ended", "exit code %d", s.code())
			return false
		}
	}
	return true
}

// stopAll stops all instances cleanly, and reports whether they were running.
func (r *run) stopAll() bool {
	r.t.Helper()
	if !r.going() {
		return false
	}
	for i, s := range r.instances() {
		assert.Equal(r.t, exitFine, s.end(syscall.SIGTERM), "exit code of a graceful stop, instance %d", i)
	}
	return true
}
