package replication

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/internal/pgtest"
)

func TestLock(t *testing.T) {
	t.Parallel()
	f := newFixture(t, pgtest.Shared(t))
	tryLock := func(c *Control) bool {
		t.Helper()
		locked, err := c.TryLock(t.Context())
		require.NoError(t, err)
		return locked
	}
	p := newProxy(t, fmt.Sprintf("127.0.0.1:%d", f.server.Port()))
	remote := *f
	remote.config.DSN = p.through(t, f.config.DSN)
	holder, standby := remote.control(), f.control()
	require.True(t, tryLock(holder))
	require.True(t, tryLock(holder), "its own")
	require.False(t, tryLock(standby))
	require.NoError(t, holder.Ping(t.Context()))

	other := *f
	other.config.Slot += "_2"
	assert.True(t, tryLock(other.control()), "another slot")

	// The lock ends with the connection, however it ends.
	p.cut()
	require.ErrorContains(t, holder.Ping(t.Context()), f.config.Slot)
	_, err := holder.TryLock(t.Context())
	require.Error(t, err)
	require.Eventually(t, func() bool { return tryLock(standby) }, patience, 10*time.Millisecond)
	third := f.control()
	require.False(t, tryLock(third))
	standby.Close()
	require.Eventually(t, func() bool { return tryLock(third) }, patience, 10*time.Millisecond)
	standby.Close() // a second time
}

func TestIdentify(t *testing.T) {
	t.Parallel()
	f := newFixture(t, pgtest.Shared(t))
	server, err := f.control().Identify(t.Context())
	require.NoError(t, err)
	want := Server{
		SystemID: query[string](f, "SELECT system_identifier::text FROM pg_control_system()"), Timeline: 1, Database: f.config.Slot,
		Version: f.server.Version(), Encoding: "UTF8", Flushed: server.Flushed, Started: server.Started,
		WALLevel: "logical", MaxSlotKeepSize: "-1", Publication: true,
	}
	assert.Equal(t, want, server)
	assert.NotZero(t, server.Flushed)
	assert.NotEmpty(t, server.Started)
}

func TestSlot(t *testing.T) {
	t.Parallel()
	testSlot(t, pgtest.Shared(t))
}

func testSlot(t *testing.T, server *pgtest.Server) {
	t.Helper()
	f := newFixture(t, server)
	control := f.control()
	slot, err := control.Slot(t.Context())
	require.NoError(t, err)
	lsn := func(column string) LSN {
		at, err := pglogrepl.ParseLSN(query[string](f, "SELECT "+column+"::text FROM pg_replication_slots WHERE slot_name = $1", f.config.Slot))
		require.NoError(t, err)
		return at
	}
	assert.Equal(t, f.config.Slot, slot.Name)
	assert.Equal(t, f.config.Slot, slot.Database)
	assert.Equal(t, "pgoutput", slot.Plugin)
	assert.Equal(t, "logical", slot.Type)
	assert.Equal(t, "reserved", slot.WALStatus)
	assert.Equal(t, lsn("restart_lsn"), slot.Restart)
	assert.Equal(t, lsn("confirmed_flush_lsn"), slot.Confirmed)
	assert.False(t, slot.Active || slot.Temporary || slot.Lost() || slot.TwoPhase || slot.Failover || slot.Conflicting)
	assert.Nil(t, slot.SafeWALSize)
	assert.WithinDuration(t, time.Now(), slot.At, patience)

	// 16 MiB more of WAL are retained and not yet confirmed.
	f.exec("SELECT pg_logical_emit_message(true, 'x', repeat('y', 16 << 20))")
	after, err := control.Slot(t.Context())
	require.NoError(t, err)
	assert.GreaterOrEqual(t, after.RetainedWAL, int64(16<<20))
	assert.GreaterOrEqual(t, after.Lag, int64(16<<20))
	assert.Equal(t, int64(after.Flushed-after.Confirmed), after.Lag)
	assert.Greater(t, after.Flushed, slot.Flushed)

	f.exec("SELECT pg_drop_replication_slot('" + f.config.Slot + "')")
	_, err = control.Slot(t.Context())
	require.ErrorIs(t, err, ErrSlotMissing)
	require.ErrorContains(t, err, f.config.Slot)
	assert.Equal(t, failure.Refused, failure.ClassOf(err))
}

func TestLostSlot(t *testing.T) {
	t.Parallel()
	f := newFixture(t, pgtest.New(t, pgtest.Options{Settings: map[string]string{"max_slot_wal_keep_size": "1MB"}}))
	server, slot := f.identify()
	assert.Equal(t, "1MB", server.MaxSlotKeepSize)
	require.NotNil(t, slot.SafeWALSize)
	assert.Empty(t, CheckSlot(slot, server))
	for range 3 {
		f.exec("SELECT pg_logical_emit_message(false, 'x', 'y')", "SELECT pg_switch_wal()")
	}
	f.exec("CHECKPOINT")
	lost := f.slot()
	assert.True(t, lost.Lost())
	findings := CheckSlot(lost, server)
	require.Len(t, findings, 1)
	assert.Contains(t, findings[0].Problem, "is lost")
	assert.Contains(t, findings[0].Problem, slot.Confirmed.String(), "after which something is missing")
	_, err := Open(t.Context(), f.config, server, slot.Confirmed)
	require.ErrorContains(t, err, "55000")
}

func TestSwitchPoint(t *testing.T) {
	t.Parallel()
	server := pgtest.New(t, pgtest.Options{})
	f := newFixture(t, server)
	before, _ := f.identify()
	assert.EqualValues(t, 1, before.Timeline)
	at, ok, err := f.control().SwitchPoint(t.Context(), before, 2)
	require.NoError(t, err, "the first timeline has no history")
	assert.False(t, ok)
	assert.Zero(t, at)

	// Recovery from an archive ends in a new timeline.
	require.NoError(t, server.AlterSystem(t.Context(), "restore_command", "false"))
	require.NoError(t, server.Stop())
	require.NoError(t, os.WriteFile(filepath.Join(server.DataDir(), "recovery.signal"), nil, 0o644))
	require.NoError(t, server.StartAgain(t.Context()))
	var after Server
	require.Eventually(t, func() bool {
		after, _ = f.identify()
		return after.Timeline == 2 && !after.InStandby
	}, patience, 50*time.Millisecond)
	assert.Equal(t, before.SystemID, after.SystemID)
	at, ok, err = f.control().SwitchPoint(t.Context(), after, 1)
	require.NoError(t, err)
	assert.True(t, ok)
	assert.GreaterOrEqual(t, at, before.Flushed)
	assert.LessOrEqual(t, at, after.Flushed)
	_, ok, err = f.control().SwitchPoint(t.Context(), after, 7)
	require.NoError(t, err)
	assert.False(t, ok)
}
