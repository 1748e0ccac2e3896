package faults

import (
	"fmt"
	"maps"
	"net"
	"strconv"
	"strings"
	"syscall"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/internal/kafkatest"
	"github.com/outboxstream/streamer/internal/pgtest"
	"github.com/outboxstream/streamer/internal/proxytest"
)

// Positions mean nothing on another line of WAL. The faults here switch the
// streamer to another line while it runs, and let the writers reach the
// positions that were published. Only what stands at these positions tells the
// two lines apart.

// otherHistory is what the refusal of a reused position says.
var otherHistory = []string{`not the history that was published|timeline|ahead of the server`, `sequence [0-9a-f-]+|` + position}

var _ = register(
	lagging("kafka"), lagging("file"), lagging("postgres"), frozenMeanwhile(lagging("kafka")),
	restored("kafka"), restored("file"), restored("postgres"), frozenMeanwhile(restored("kafka")),
	fault{
		name: "lossless failover, then a reconnect, then a restart", group: postgresGroup,
		what: "a standby that has everything, and the slot, is promoted under a running streamer, " +
			"whose checkpoints are in the database; then its walsender is terminated, then it is stopped and started",
		postgres: own, settings: postgresStore,
		prepare: (*run).withLaggingStandby,
		strike: func(r *run) {
			r.giveSlot()
			r.switchOver()
			r.comeThrough()
		},
	},
)

// stored returns the settings of a checkpoint store, and its suffix in the name
// of a fault.
func stored(store string) (settings map[string]string, suffix string) {
	return map[string]string{"checkpoint.store": store}, ", store " + store
}

// lagging is the fault of a standby that lacks the last half second.
func lagging(store string) fault {
	settings, suffix := stored(store)
	return fault{
		name: "failover with lag under a running streamer" + suffix, group: postgresGroup, expect: refuses,
		what: "a standby that lacks half a second of what was published is promoted, and new commits " +
			"reach positions that were published; the streamer runs on; the operator accepts what the database has",
		says:     otherHistory,
		postgres: own, forgets: true, settings: settings,
		prepare: (*run).withLaggingStandby, strike: (*run).failOverWithLag,
		refused: (*run).acceptHistory, judge: apartFromAccepted,
	}
}

// restored is the fault of a server that is restored on the same timeline.
func restored(store string) fault {
	settings, suffix := stored(store)
	return fault{
		name: "restored under a running streamer" + suffix, group: postgresGroup, expect: refuses,
		what: "the server is restored from an older copy, on the same timeline, and new commits " +
			"reach positions that were published; the streamer runs on; the operator accepts what the database has",
		says:     otherHistory,
		postgres: own, forgets: true, settings: settings,
		prepare: (*run).behindProxy, strike: (*run).restoreUnderneath,
		refused: (*run).acceptHistory, judge: apartFromAccepted,
	}
}

// frozenMeanwhile is a fault during which Kafka does not answer, so that no
// checkpoint moves.
func frozenMeanwhile(f fault) fault {
	f.name, _, _ = strings.Cut(f.name, ",")
	f.name += ", Kafka frozen"
	f.what = "Kafka is frozen, so that what was handed to it is not acknowledged; meanwhile, " + f.what
	f.kafka = &kafkatest.Options{}
	f.settings = maps.Clone(f.settings)
	f.settings["kafka.request_timeout"] = requestTimeout
	f.heal, f.hold = (*run).wakeBrokers, func(*run) {}
	return f
}

// withLaggingStandby gives the server a standby that can be cut off.
func (r *run) withLaggingStandby() {
	r.t.Helper()
	r.line = proxytest.New(r.t, serverAddress(r.pg))
	host, port, err := net.SplitHostPort(r.line.Address())
	require.NoError(r.t, err)
	r.standby = r.pg.NewStandby(r.t, r.database, map[string]string{
		"primary_conninfo": fmt.Sprintf("host=%s port=%s user=postgres dbname=%s application_name=%s",
			host, port, r.database, pgtest.StandbySlot),
	})
	r.behindProxy()
	if r.synchronises() {
		r.synchroniseSlot()
	}
}

// synchronises reports whether standbys of this version synchronise slots.
func (r *run) synchronises() bool { return r.pg.Version() >= 170000 }

// giveSlot makes sure that the standby has the slot. The slot is copied where
// it cannot be synchronised.
func (r *run) giveSlot() {
	r.t.Helper()
	if r.synchronises() {
		r.awaitSynchronised()
		return
	}
	require.NoError(r.t, r.pg.CopySlot(r.ctx, r.standby, r.slot))
}

// switchOver stops the primary, which sends everything to the standby, and
// promotes the standby.
func (r *run) switchOver() {
	r.t.Helper()
	require.NoError(r.t, r.pg.Stop())
	r.promoteStandby()
}

// comeThrough ends the connection and then the process of a streamer that
// continues.
func (r *run) comeThrough() {
	r.t.Helper()
	r.progress()
	r.disconnect()
	r.progress()
	assert.Equal(r.t, exitFine, r.streamer.end(syscall.SIGTERM), "exit code of a graceful stop")
	r.streamer.start()
	r.progress()
}

// failOverWithLag promotes a standby that lacks what was published last.
func (r *run) failOverWithLag() {
	r.t.Helper()
	r.giveSlot()
	frozen := r.freezeKafka()
	r.line.Stall()
	if frozen {
		r.moment(400, 600)
	} else {
		r.progress()
		r.moment(0, 400)
	}
	r.replaceServer(func() {
		require.NoError(r.t, r.pg.StopImmediate())
		r.line.Refuse()
		r.promoteStandby()
	})
}

// restoreUnderneath replaces the running server with an older copy.
func (r *run) restoreUnderneath() {
	r.t.Helper()
	backup := r.backup()
	r.progress()
	r.progress()
	if r.freezeKafka() {
		r.moment(400, 600)
	}
	r.slotMoves()
	r.replaceServer(func() { require.NoError(r.t, r.pg.Restore(r.ctx, backup)) })
}

// replaceServer replaces the server with another one. The streamer looks at the
// new server at once, or when the writers have overtaken what was published.
func (r *run) replaceServer(replace func()) {
	r.t.Helper()
	published := r.logEnd()
	soon := r.random.IntN(2) == 0
	if !soon {
		r.proxy.Refuse()
	}
	replace()
	r.until("the writers have overtaken what was published", func() bool { return r.logEnd() > published+1<<14 })
	r.proxy.Clear()
	r.t.Logf("the streamer looked at the other server at once: %t", soon)
}

// freezeKafka freezes the broker if it belongs to the fault alone, and reports
// whether it did.
func (r *run) freezeKafka() bool {
	r.t.Helper()
	if r.fault.kafka == nil {
		return false
	}
	r.freezeBroker(0)
	return true
}

// acceptHistory is the operator's remedy, as docs/how-to/failover.md describes
// it: compare, accept, start, and publish from the table what is still missing.
func (r *run) acceptHistory() {
	r.t.Helper()
	output, code := r.command("verify")
	assert.Contains(r.t, []int{exitFine, exitFailed}, code, output) // rows may be missing
	r.t.Logf("verify before: %s", output)
	output, code = r.command("checkpoint", "set", "slot", "--yes")
	require.Zero(r.t, code, output)
	r.t.Logf("checkpoint set: %s", output)
	r.streamer.start()
	r.progress()
	output, code = r.command("replay", "--missing", "--yes")
	assert.Zero(r.t, code, output)
	r.t.Logf("replay --missing: %s", output)
}

// apartFromAccepted judges a run after which the operator has accepted what the
// database has. What the database has forgotten is in Kafka. What is above the
// slot's position is published again.
func apartFromAccepted(r *run, found findings) {
	r.t.Logf("%d published events were forgotten by the database, %d came again when its history was accepted", found.Phantom, found.Repeated)
	r.result.Note = fmt.Sprintf("%d events came again when the operator accepted the database's history", found.Repeated)
	found.Phantom, found.Repeated, found.Misordered = 0, 0, 0
	r.result.Phantom, r.result.Repeated, r.result.Misordered = 0, 0, 0
	assert.Zero(r.t, found)
	r.requireOrder()
}

// serverAddress returns the address at which a server listens.
func serverAddress(s *pgtest.Server) string {
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.Port()))
}
