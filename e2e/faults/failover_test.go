package faults

import (
	"syscall"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/internal/pgtest"
)

var _ = register(
	fault{
		name: "failover, slot left behind", group: postgresGroup, expect: refuses,
		what:     "the primary dies and a physical standby is promoted, on which there are no logical slots",
		says:     []string{`slot "slot_\w+"`, `does not exist`, position},
		postgres: own, forgets: true, judge: apartFromForgotten,
		prepare: (*run).withStandby,
		strike:  (*run).failOver,
	},
	fault{
		name: "failover, slot created on the standby", group: postgresGroup, expect: refuses,
		what:     "after a failover, the operator creates the slot on the new primary, where it begins later",
		says:     []string{position},
		postgres: own, forgets: true, judge: apartFromForgotten,
		prepare: (*run).withStandby,
		strike: func(r *run) {
			r.streamer.end(syscall.SIGKILL)
			r.result.Kills++
			r.failOver()
			r.written(1 << 14)
			r.exec("select pg_create_logical_replication_slot($1, 'pgoutput')", r.slot)
			r.streamer.start()
		},
	},
	fault{
		name: "failover with a synchronised slot", group: postgresGroup, since: 17,
		what:     "the primary dies and a standby that synchronises the slot, and that the slot waits for, is promoted",
		postgres: own, forgets: true, judge: apartFromForgotten,
		prepare: (*run).withSynchronousStandby,
		strike: func(r *run) {
			r.awaitSynchronised()
			r.moment(0, 2000)
			r.failOver()
		},
	},
	fault{
		name: "failover to a standby that lags", group: postgresGroup, since: 17, expect: refuses,
		what:     "the slot is synchronised, but the standby had not yet received what was published when the primary died",
		says:     []string{`timeline`, position},
		postgres: own, forgets: true, judge: apartFromForgotten,
		prepare: func(r *run) {
			r.withStandby()
			r.synchroniseSlot()
		},
		strike: func(r *run) {
			r.awaitSynchronised()
			require.NoError(r.t, r.standby.Stop())
			r.progress()
			r.progress()
			require.NoError(r.t, r.pg.StopImmediate())
			require.NoError(r.t, r.standby.StartAgain(r.ctx))
			r.promoteStandby()
		},
	},
	fault{
		name: "restored from a backup", group: postgresGroup, expect: refuses,
		what:     "the server is restored from an older copy: its WAL ends before what was published",
		says:     []string{`the checkpoint ` + position + ` is ahead of the server, whose WAL ends at ` + position},
		postgres: own, forgets: true, judge: apartFromForgotten,
		strike: (*run).restoreBackup,
	},
	fault{
		name: "restored from a backup and written to, after SIGKILL", group: postgresGroup, expect: refuses,
		what: "the streamer is killed, the server is restored from an older copy, " +
			"and new commits reach positions that were published before the streamer looks",
		says:     []string{`not the history that was published`, `sequence [0-9a-f-]+|` + position},
		postgres: own, forgets: true, judge: apartFromForgotten,
		strike: func(r *run) { r.restoreAndOvertake(syscall.SIGKILL) },
	},
	fault{
		name: "restored from a backup and written to, after SIGTERM", group: postgresGroup, expect: refuses,
		what: "the streamer is stopped cleanly, so that the checkpoint is where publishing ended; the server is restored from an older copy, " +
			"and new commits reach positions that were published before the streamer looks",
		says:     []string{`not the history that was published`, `sequence [0-9a-f-]+|` + position},
		postgres: own, forgets: true, judge: apartFromForgotten,
		strike: func(r *run) { r.restoreAndOvertake(syscall.SIGTERM) },
	},
)

// apartFromForgotten judges a run in which the database has forgotten published
// commits. They are in Kafka and in no table, for good.
func apartFromForgotten(r *run, found findings) {
	r.t.Logf("%d published events were forgotten by the database", found.Phantom)
	r.result.Phantom, found.Phantom = 0, 0
	assert.Zero(r.t, found)
}

// withStandby gives the server a standby, and the streamer an address that can
// move to it.
func (r *run) withStandby() {
	r.t.Helper()
	r.standby = r.pg.NewStandby(r.t, r.database, nil)
	r.behindProxy()
}

// synchroniseSlot creates the slot again, as one that standbys synchronise.
func (r *run) synchroniseSlot() {
	r.t.Helper()
	r.exec("select pg_drop_replication_slot($1)", r.slot)
	r.exec("select pg_create_logical_replication_slot($1, 'pgoutput', false, false, true)", r.slot)
}

// awaitSynchronised waits until the standby has the slot and would keep it.
func (r *run) awaitSynchronised() {
	r.t.Helper()
	r.until("the slot is synchronised", func() bool {
		var ready bool
		conn, err := connect(r.ctx, r.standby.DSN(r.database))
		if err != nil {
			return false
		}
		defer conn.Close(r.ctx)
		err = conn.QueryRow(r.ctx, "select synced and not temporary and invalidation_reason is null "+
			"from pg_replication_slots where slot_name = $1", r.slot).Scan(&ready)
		return err == nil && ready
	})
}

// failOver ends the primary and promotes the standby.
func (r *run) failOver() {
	r.t.Helper()
	require.NoError(r.t, r.pg.StopImmediate())
	r.promoteStandby()
}

// promoteStandby makes the standby the primary for all clients.
func (r *run) promoteStandby() {
	r.t.Helper()
	r.slotMoves() // back to where it was synchronised last
	r.promote()
}

// promote promotes a standby whose slot stays where it is.
func (r *run) promote() {
	r.t.Helper()
	require.NoError(r.t, r.standby.Promote(r.ctx))
	r.moveTo(r.standby.DSN(r.database))
	r.proxy.Retarget(serverAddress(r.standby))
}

// restoreBackup takes a copy of the server, lets events be published, and
// replaces the server with the copy.
func (r *run) restoreBackup() {
	r.t.Helper()
	backup := r.backup()
	// Far enough that the writers do not get there before the streamer looks.
	r.exec("select pg_logical_emit_message(true, 'filler', repeat('x', 1 << 20)) from generate_series(1, 16)")
	r.progress()
	r.progress()
	r.slotMoves()
	require.NoError(r.t, r.pg.Restore(r.ctx, backup))
}

// restoreAndOvertake ends the streamer with a signal and restores the server.
// It starts the streamer only after the writers have overtaken what was
// published.
func (r *run) restoreAndOvertake(signal syscall.Signal) {
	r.t.Helper()
	backup := r.backup()
	r.progress()
	r.progress()
	r.streamer.end(signal)
	if signal == syscall.SIGKILL {
		r.result.Kills++
	}
	published := r.logEnd()
	r.slotMoves()
	require.NoError(r.t, r.pg.Restore(r.ctx, backup))
	r.until("the writers have overtaken what was published", func() bool { return r.logEnd() > published+1<<14 })
	r.streamer.start()
}

// backup copies the server's data.
func (r *run) backup() *pgtest.Backup {
	r.t.Helper()
	backup, err := r.pg.Backup(r.ctx)
	require.NoError(r.t, err)
	r.t.Cleanup(func() { assert.NoError(r.t, backup.Remove()) })
	return backup
}
