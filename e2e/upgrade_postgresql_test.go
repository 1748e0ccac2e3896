package e2e

import (
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/internal/pgtest"
	"github.com/outboxstream/streamer/internal/testserver"
)

const newCluster = "belongs to another cluster"

// upgrading is a streamer on a whole installation of a major version, with an
// application that writes, and the page that says how to upgrade.
type upgrading struct {
	*procedure

	streamer *process
	written  func() int
	kill     bool // the streamer is killed instead of stopped
}

func newUpgrading(t *testing.T, from, store string, options ...option) *upgrading {
	t.Helper()
	server := pgtest.New(t, pgtest.Options{Version: from, Complete: true})
	r := newRig(t, outboxTable, append(options, withServer(server), withStore(store))...)
	r.callSlotStreamer()
	u := &upgrading{procedure: r.follow("upgrade-postgresql.md"), streamer: r.startReady()}
	u.written = r.writing(0)
	return u
}

// drain follows the page until nothing is left to read.
func (u *upgrading) drain() (total int) {
	u.t.Helper()
	u.streamer.eventually("some have arrived", func() bool { return len(u.records("order")) > 300 })
	u.section("## Drain").sql("NOLOGIN")
	total = u.written()
	if u.kill {
		u.streamer.kill()
	} else {
		require.Zero(u.t, u.streamer.stop())
	}
	u.does("--until")
	assert.Contains(u.t, u.does("streamer verify"), "findings   none")
	return total
}

// letGo follows the page until nothing keeps pg_upgrade from moving the slot.
func (u *upgrading) letGo() {
	u.t.Helper()
	u.section("## `pg_upgrade` with the slot").sql("rewind")
	assert.Contains(u.t, u.does("streamer verify"), "findings   none")
}

// upgrade replaces the server by one of a new major version.
func (u *upgrading) upgrade(version string) error {
	u.t.Helper()
	upgraded, err := u.pg.MajorUpgrade(u.t, version)
	if err == nil {
		u.pg = upgraded
	}
	return err
}

// goOn starts the streamer, lets the application in, and requires everything once
// and in order.
func (u *upgrading) goOn(total int) {
	u.t.Helper()
	u.streamer = u.startReady()
	u.loadBetween(total, total+200)()
	u.requireOnce(u.streamer, total+200)
	assert.Zero(u.t, u.streamer.stop())
	u.section("## Check")
	assert.Contains(u.t, u.does("streamer verify"), "findings   none")
	u.verify().clean(u.t)
	output, code := u.command("replay", "--missing")
	assert.Zero(u.t, code, output)
	assert.Contains(u.t, output, "nothing is missing")
}

// pg_upgrade from 17 on takes the slot along.
func TestMajorUpgradeWithTheSlot(t *testing.T) {
	testserver.Long(t)
	t.Parallel()
	u := newUpgrading(t, "17", "kafka")
	total := u.drain()
	u.letGo()
	require.NoError(t, u.upgrade("18"))
	u.db = u.open()
	requireOptions(t, u.take("sh", "pg_upgrade"))
	u.start().refused(exitRefused, newCluster, "streamer checkpoint set")
	u.does("checkpoint set slot")
	u.goOn(total)
}

// requireOptions requires that the page calls pg_upgrade as the test does.
func requireOptions(t *testing.T, command string) {
	t.Helper()
	for _, option := range []string{"--old-bindir", "--new-bindir", "--old-datadir", "--new-datadir"} {
		assert.Contains(t, command, option)
	}
}

// The other ways, with every store: without the slot and after a crash, with slots
// that cannot move, and back to the old server.
func TestMajorUpgradeLong(t *testing.T) {
	testserver.Long(t)
	t.Parallel()
	for _, c := range []struct{ from, to, store string }{
		{"15", "17", "kafka"}, {"15", "18", "postgres"}, {"15", "17", "file"},
	} {
		t.Run(strings.Join([]string{c.from, c.to, c.store}, " "), func(t *testing.T) {
			t.Parallel()
			u := newUpgrading(t, c.from, c.store)
			u.kill = true
			total := u.drain()
			require.NoError(t, u.upgrade(c.to))
			u.db = u.open()
			u.start().refused(exitRefused, u.slot, "does not exist")
			u.section("## A new slot").does("streamer setup")
			u.goOn(total)
		})
	}
	for _, store := range []string{"postgres", "file"} {
		t.Run("rewind and back, "+store, func(t *testing.T) {
			t.Parallel()
			u := newUpgrading(t, "17", store, withConfig("rewind.keep=1h"))
			total := u.drain()
			old := u.pg
			require.ErrorContains(t, u.upgrade("18"), "has not consumed the WAL yet", "the rewind slot keeps the past")
			require.NoError(t, old.StartAgain(t.Context()))
			u.db = u.open()
			u.letGo()
			require.NoError(t, u.upgrade("18"))
			requireOptions(t, u.take("sh", "pg_upgrade"))
			u.does("checkpoint set slot")
			require.NoError(t, u.pg.Stop())
			require.NoError(t, old.StartAgain(t.Context()))
			u.pg, u.db = old, u.open()
			output, code := u.command("checkpoint", "set", "slot", "--yes", "--set", "outbox.cleanup.mode=none")
			require.Zero(t, code, output)
			u.goOn(total)
		})
	}
}

// A second server that is kept in step by logical replication takes over, as in
// the blue/green deployments of managed services.
func TestBlueGreen(t *testing.T) {
	testserver.Long(t)
	t.Parallel()
	u := newUpgrading(t, "15", "kafka")
	u.ahead()
	blue := u.db
	onGreen := u.follows("18")
	total := u.drain()
	u.db, u.dsn = onGreen, onGreen.Config().ConnString()
	require.Eventually(t, func() bool { return u.count() == total }, patience, 20*time.Millisecond, "green has everything")
	u.exec("drop subscription green")
	require.NoError(t, blue.Close(t.Context()))
	u.start().refused(exitRefused, u.slot, "does not exist")
	u.section("## Blue/green").does("streamer setup")
	u.goOn(total)
}

// ahead moves the end of the WAL forward, so that positions on another server are
// lower.
func (u *upgrading) ahead() {
	u.t.Helper()
	for range 8 {
		u.exec("select pg_logical_emit_message(true, 'noise', 'x')")
		u.exec("select pg_switch_wal()")
	}
}

// follows starts a server of another version that is kept in step by logical
// replication, and returns a connection to it.
func (u *upgrading) follows(version string) *pgx.Conn {
	u.t.Helper()
	u.exec("create publication everything for all tables")
	green := pgtest.New(u.t, pgtest.Options{Version: version, Complete: true})
	other := *u.rig
	other.dsn = green.DSN("postgres")
	other.db = other.open()
	other.exec("create database " + pgx.Identifier{u.db.Config().Database}.Sanitize())
	other.dsn = green.DSN(u.db.Config().Database)
	other.db = other.open()
	other.exec(outboxTable)
	other.exec("create publication streamer for table outbox with (publish = 'insert', publish_via_partition_root = true)")
	other.exec("create subscription green connection '" + u.dsn + "' publication everything")
	return other.db
}
