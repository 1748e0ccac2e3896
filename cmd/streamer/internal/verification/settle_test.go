package verification

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/outboxstream/streamer/checkpoint"
	"github.com/outboxstream/streamer/cmd/streamer/internal/console"
	"github.com/outboxstream/streamer/cmd/streamer/internal/site"
	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/replication"
)

// Nobody reads the slot, so what it holds will not be published meanwhile. A
// row that cannot be published is among what waits as well.
func TestRowsThatWait(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.insert("order", "1")
	r.passOver()
	r.insert("order", "2")
	r.exec("insert into outbox (id, aggregatetype) values ('3', 'order')")
	o := r.verify(nil).finds("missing 1")
	assert.EqualValues(t, 2, o.summary.InFlight)
}

// The stored checkpoint may be ahead of what the slot has confirmed.
func TestCheckpointAheadOfTheSlot(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "checkpoint")
	r := newRig(t, "checkpoint.store=file", "checkpoint.file.path="+file)
	r.insert("order", "1")
	end := r.save(file, 0)
	r.insert("order", "2")
	o := r.verify(nil).finds("missing 1")
	assert.EqualValues(t, 1, o.summary.InFlight)

	// One that is ahead of the server is of another history.
	r.save(file, end+1<<40)
	assert.EqualValues(t, 2, r.verify(nil).finds().summary.InFlight)

	require.NoError(t, os.WriteFile(file, []byte("damaged"), 0o600))
	o = r.verify(nil).finds().notes(2, "checkpoint could not be read")
	assert.EqualValues(t, 2, o.summary.InFlight)
}

// save stores a checkpoint at a position, or at the end of the WAL for 0.
func (r *rig) save(file string, at replication.LSN) replication.LSN {
	r.t.Helper()
	cfg := r.config()
	control, _, err := site.ConnectPostgres(r.t.Context(), cfg)
	require.NoError(r.t, err)
	defer control.Close()
	server, err := control.Identify(r.t.Context())
	require.NoError(r.t, err)
	if at == 0 {
		at = server.Flushed
	}
	content, err := checkpoint.Encode(checkpoint.Record{Identity: site.IdentityOf(server, cfg), Timeline: server.Timeline, LSN: at})
	require.NoError(r.t, err)
	require.NoError(r.t, os.WriteFile(file, content, 0o600))
	return at
}

// Nothing will publish what is left, so every row is due.
func TestSlotThatIsGone(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.insert("order", "1")
	r.exec("select pg_drop_replication_slot($1)", r.slot)
	r.verify(nil).finds("missing 1").notes(2, `"`+r.slot+`" is missing or lost`, "does not exist")
}

// What waits in a slot that is not a streamer's cannot be looked at.
func TestSlotThatCannotBeRead(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.insert("order", "1")
	r.exec("select pg_drop_replication_slot($1)", r.slot)
	r.exec("select pg_create_physical_replication_slot($1)", r.slot)
	o := r.verify(nil).finds().notes(2, "count as in flight")
	assert.EqualValues(t, 1, o.summary.InFlight)
	r.exec("select pg_drop_replication_slot($1)", r.slot)
}

// The primary may have the slot that its standby does not have.
func TestStandbyWithoutSlot(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.exec("select pg_drop_replication_slot($1)", r.slot)
	v, m := r.settling(0)
	v.server.InStandby = true
	err := v.settle(t.Context(), m)
	assert.Equal(t, failure.Misconfigured, failure.ClassOf(err))
	require.ErrorContains(t, err, r.slot)
	assert.Contains(t, failure.Fix(err), "--truth")
}

// A streamer that runs gets the time to confirm what was read.
func TestWaitForConfirmation(t *testing.T) {
	t.Parallel()
	r := newRig(t, "checkpoint.store=postgres")
	fault := r.cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.NotEnoughReplicas, Count: -1})
	defer r.stream()()
	r.await("active")
	r.insert("order", "1")
	v, m := r.settling(time.Hour)
	v.settled = v.server.Flushed
	settled := make(chan error, 1)
	go func() { settled <- v.settle(t.Context(), m) }()
	r.awaitQuestion(m)
	assert.Empty(t, settled, "the row is not published")
	fault.Remove()
	require.NoError(t, <-settled)
	r.await("confirmed_flush_lsn >= '" + v.settled.String() + "'")
}

// The operator need not wait for a streamer that does not confirm.
func TestInterruptedWhileWaiting(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	defer r.stream()()
	r.await("active")
	v, m := r.settling(time.Hour)
	v.settled = 1 << 62
	ctx, cancel := context.WithCancelCause(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- v.settle(ctx, m) }()
	r.awaitQuestion(m)
	interrupted := errors.New("interrupted")
	cancel(interrupted)
	require.Error(t, <-ended)

	v, m = r.settling(0)
	v.settled = 1 << 62
	require.NoError(t, v.settle(t.Context(), m), "no longer than --wait")

	c := command(t, nil)
	err := c.Run(ctx, r.load, console.Streams{Out: io.Discard, Err: io.Discard})
	require.ErrorIs(t, err, interrupted)
	assert.ErrorContains(t, err, "not finished")
}

// awaitQuestion waits until the slot was asked for once.
func (r *rig) awaitQuestion(m *member) {
	r.t.Helper()
	require.Eventually(r.t, func() (is bool) {
		err := r.conn.QueryRow(r.t.Context(),
			"select state = 'idle' and query like '%pg_replication_slots%' from pg_stat_activity where pid = $1",
			m.control.Conn().PgConn().PID()).Scan(&is)
		return err == nil && is
	}, 30*time.Second, 10*time.Millisecond)
}

// settling is a comparison that has read its rows, and its first stream.
func (r *rig) settling(wait time.Duration) (*verification, *member) {
	r.t.Helper()
	std := console.Streams{Err: io.Discard}
	v := &verification{cfg: r.config(), std: std, progress: newProgress(std), command: Command{Wait: wait}}
	r.t.Cleanup(v.close)
	require.NoError(r.t, v.identify(r.t.Context()))
	return v, v.members[0]
}

// Each shard has a slot of its own, and what waits in any is in flight.
func TestShards(t *testing.T) {
	t.Parallel()
	r := newRig(t, "shard.count=2")
	for _, shard := range []string{"_0_of_2", "_1_of_2"} {
		r.exec("select pg_copy_logical_replication_slot($1, $2)", r.slot, r.slot+shard)
		r.exec(`create publication "` + r.slot + shard + `" for table outbox with (publish = 'insert')`)
	}
	r.insert("order", "1", "2")
	r.exec("select pg_replication_slot_advance($1, pg_current_wal_lsn())", r.slot+"_0_of_2")
	o := r.verify(nil).finds()
	assert.EqualValues(t, 2, o.summary.InFlight)
	assert.Len(t, o.summary.Streams, 2)
}
