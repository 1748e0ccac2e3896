package faults

import (
	"regexp"
	"syscall"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/internal/pgtest"
)

var _ = register(
	fault{
		name: "standby that is streamed from is promoted", group: postgresGroup, since: 16,
		what: "the slot is on a standby, which is promoted when the primary dies; " +
			"then the walsender is terminated, then the streamer is stopped and started",
		postgres: own, forgets: true,
		prepare: (*run).streamFromStandby,
		strike: func(r *run) {
			r.moment(0, 1000)
			require.NoError(r.t, r.pg.StopImmediate())
			r.promote()
			r.comeThrough()
		},
	},
	fault{
		name: "connection string leads to the standby before its promotion", group: postgresGroup,
		what: "the streamer is sent to the standby while the primary still lives, " +
			"by its running connection or by a start, and waits there until the standby is promoted",
		postgres: own, forgets: true,
		prepare: (*run).withLaggingStandby,
		strike: func(r *run) {
			r.giveSlot()
			r.sendToStandby()
			r.written(1 << 16)
			r.awaitReplayed()
			r.failOver()
			r.progress()
		},
	},
	fault{
		name: "connection string leads to a standby for a while", group: postgresGroup,
		what: "the streamer is sent to a standby on which it has no slot, " +
			"by its running connection or by a start, and then back to the primary",
		postgres: own, times: strikes(2), recover: true,
		prepare: (*run).withStandby,
		strike:  (*run).sendToStandby,
		heal: func(r *run) {
			r.proxy.Retarget(serverAddress(r.pg))
			r.proxy.Reset()
		},
	},
)

// withSynchronousStandby gives the server a standby that the slot waits for.
func (r *run) withSynchronousStandby() {
	r.t.Helper()
	r.withStandby()
	r.synchroniseSlot()
	require.NoError(r.t, r.pg.AlterSystem(r.ctx, "synchronized_standby_slots", pgtest.StandbySlot))
}

// streamFromStandby moves the slot to a standby.
func (r *run) streamFromStandby() {
	r.t.Helper()
	r.withStandby()
	r.exec("select pg_drop_replication_slot($1)", r.slot)
	r.mu.Lock()
	r.source = r.standby.DSN(r.database)
	r.mu.Unlock()
	r.proxy.Retarget(serverAddress(r.standby))
	created := make(chan error, 1)
	go func() {
		conn, err := connect(r.ctx, r.reading())
		if err == nil {
			defer conn.Close(r.ctx)
			_, err = conn.Exec(r.ctx, "select pg_create_logical_replication_slot($1, 'pgoutput')", r.slot)
		}
		created <- err
	}()
	r.until("the slot is created on the standby", func() bool {
		r.exec("select pg_log_standby_snapshot()") // creating the slot waits for it
		select {
		case err := <-created:
			require.NoError(r.t, err)
			return true
		default:
			return false
		}
	})
}

// looked matches what the streamer says about a standby. It waits there, in the
// words of a server that does not support slots on standbys. Or it streams,
// which PostgreSQL 16 allows from a copied slot.
var looked = regexp.MustCompile(`server is a standby|while in recovery|msg=streaming`)

// sendToStandby sends the streamer to the standby, with its next connection or
// with a start, and waits until the streamer has looked there.
func (r *run) sendToStandby() {
	r.t.Helper()
	restart := r.random.IntN(2) == 0
	if restart {
		assert.Equal(r.t, exitFine, r.streamer.end(syscall.SIGTERM), "exit code of a graceful stop")
	}
	before := len(r.streamer.log())
	r.proxy.Retarget(serverAddress(r.standby))
	if restart {
		r.streamer.start()
	} else {
		r.proxy.Reset()
	}
	r.until("the streamer has looked at the standby", func() bool {
		_, state := r.streamer.get("/readyz") // the log does not repeat a message
		return looked.MatchString(state+r.streamer.log()[before:]) || !r.streamer.running()
	})
	assert.True(r.t, r.streamer.running(), "the streamer waits")
}

// awaitReplayed waits until the standby has what the primary has now.
func (r *run) awaitReplayed() {
	r.t.Helper()
	end := r.endOfLog()
	r.until("the standby has replayed everything", func() bool {
		conn, err := connect(r.ctx, r.standby.DSN(r.database))
		if err != nil {
			return false
		}
		defer conn.Close(r.ctx)
		var replayed lsn
		err = conn.QueryRow(r.ctx, "select pg_last_wal_replay_lsn() - '0/0'::pg_lsn").Scan(&replayed)
		return err == nil && replayed >= end
	})
}
