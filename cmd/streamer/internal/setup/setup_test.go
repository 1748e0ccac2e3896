package setup

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/internal/pgtest"
)

// requireRefused checks that a command was refused, and what it said with all
// its remedies.
func requireRefused(t *testing.T, got result, says ...string) {
	t.Helper()
	require.Error(t, got.err, got.out)
	assert.Equal(t, failure.Refused, failure.ClassOf(got.err), got.err)
	for _, words := range says {
		assert.Contains(t, failure.Describe(got.err), words)
	}
}

func TestSetupCreatesWhatIsMissingOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	got := r.setup(Command{CreateTable: true})
	require.NoError(t, got.err)
	at := value[string](r, "select confirmed_flush_lsn::text from pg_replication_slots where slot_name = '$slot'")
	assert.Equal(t, "created  table public.outbox\ncreated  publication "+r.slot+"\ncreated  slot "+r.slot+" at "+at+"\n", got.out)

	again := r.setup(Command{CreateTable: true})
	require.NoError(t, again.err)
	assert.Equal(t, strings.ReplaceAll(got.out, "created", "exists "), again.out)
}

// The table is the application's.
func TestSetupDoesNotCreateTheTableUnasked(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	requireRefused(t, r.setup(Command{}), "public.outbox", "--create-table", "--print", "outbox.table")
	assert.Zero(t, value[int](r, "select count(*) from pg_publication"))
}

func TestSetupRefuses(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		sql  []string
		says string
	}{
		"a publication without inserts": {[]string{`alter publication "$slot" set (publish = 'update')`}, "does not publish inserts"},
		"a publication of another table": {[]string{
			`create table other (id int primary key)`, `alter publication "$slot" set table other`,
		}, "does not contain table"},
		"a slot of another plugin": {[]string{
			`select pg_drop_replication_slot('$slot')`, `select pg_create_logical_replication_slot('$slot', 'test_decoding')`,
		}, "test_decoding"},
		"a physical slot": {[]string{
			`select pg_drop_replication_slot('$slot')`, `select pg_create_physical_replication_slot('$slot')`,
		}, "is a physical slot"},
		"a slot without its publication": {[]string{`drop publication "$slot"`}, "pg_drop_replication_slot"},
		"a missing column":               {[]string{`alter table outbox drop column type`}, `has no column "type"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newSlot(t)
			for _, sql := range c.sql {
				r.exec(sql)
			}
			t.Cleanup(func() { // a physical slot belongs to no database
				_, err := r.conn.Exec(context.WithoutCancel(t.Context()), "select pg_drop_replication_slot(slot_name) "+
					"from pg_replication_slots where slot_name = $1 and database is null", r.slot)
				assert.NoError(t, err)
			})
			requireRefused(t, r.setup(Command{}), c.says)
		})
	}
}

// A slot keeps the WAL from its creation on, so it comes after everything else
// is right.
func TestSetupCreatesNoSlotForAWrongPublication(t *testing.T) {
	t.Parallel()
	r := newSlot(t)
	r.exec("select pg_drop_replication_slot('$slot')")
	r.exec(`alter publication "$slot" set (publish = 'update')`)
	got := r.setup(Command{})
	requireRefused(t, got, r.slot, "created only after this is corrected", "does not publish inserts", "SET (publish = 'insert, update')")
	assert.Contains(t, got.out, "exists   publication")
	assert.Zero(t, value[int](r, "select count(*) from pg_replication_slots where slot_name = '$slot'"))
}

// What does not stop the streamer is only said.
func TestSetupWarns(t *testing.T) {
	t.Parallel()
	r := newSlot(t)
	r.exec(`alter publication "$slot" set (publish = 'insert, delete')`)
	got := r.setup(Command{})
	require.NoError(t, got.err)
	assert.Regexp(t, `warning  .*also publishes delete.*\n +fix: give .*outbox.* a primary key, or, .*ALTER PUBLICATION`, got.out)
}

func TestSetupRefusesAServerWithoutLogicalDecoding(t *testing.T) {
	t.Parallel()
	r := newRigOn(t, pgtest.New(t, pgtest.Options{Settings: map[string]string{"wal_level": "replica"}}))
	got := r.setup(Command{CreateTable: true})
	requireRefused(t, got, "wal_level", "restart PostgreSQL")
	assert.Empty(t, got.out, "nothing is created")
}

func TestSetupWaitsForTransactions(t *testing.T) {
	t.Parallel()
	// A server of its own: otherwise the slot would also wait for writers of
	// other tests.
	r := newRigOn(t, pgtest.New(t, pgtest.Options{}))
	r.exec("create table busy (id int)")
	tx, err := r.conn.Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), "insert into busy values (1)")
	require.NoError(t, err)

	got := r.setup(Command{CreateTable: true, Timeout: 3 * time.Second})
	require.Error(t, got.err)
	assert.Equal(t, failure.Transient, failure.ClassOf(got.err))
	assert.Contains(t, got.told, "waits for running transactions, the oldest is a transaction of process")
	assert.Contains(t, got.err.Error(), "waited 3s for running transactions to end: the oldest is a transaction of process")
	assert.Contains(t, got.err.Error(), `user "postgres"`)

	require.NoError(t, tx.Rollback(t.Context()))
	got = r.setup(Command{CreateTable: true})
	require.NoError(t, got.err)
	assert.Contains(t, got.out, "created  slot")
}

func TestSetupIsBlockedByALock(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.makeTable()
	tx, err := r.conn.Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), "lock table outbox in share update exclusive mode")
	require.NoError(t, err)
	got := r.setup(Command{Timeout: time.Second})
	require.ErrorContains(t, got.err, "another session holds a lock")
	assert.Equal(t, failure.Transient, failure.ClassOf(got.err))
	require.NoError(t, tx.Rollback(t.Context()))
}

func TestSetupOnReadOnlyServer(t *testing.T) {
	t.Parallel()
	standby := pgtest.New(t, pgtest.Options{}).NewStandby(t, "postgres", nil)
	r := newRig(t)
	got := r.setup(Command{CreateTable: true}, "STREAMER_POSTGRES_DSN="+standby.DSN("postgres"))
	require.Error(t, got.err)
	assert.Equal(t, failure.Misconfigured, failure.ClassOf(got.err))
	assert.Contains(t, failure.Describe(got.err), "target_session_attrs=read-write")
}

func TestSetupWithoutPrivileges(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.makeTable()
	_, asRole := r.role("replication")
	requireRefused(t, r.setup(Command{}, asRole), "the owner of table public.outbox")
}

func TestSetupFailoverSlot(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	got := r.setup(Command{CreateTable: true, Failover: true})
	if pgtest.Shared(t).Version() < 170000 {
		requireRefused(t, got, "a failover slot needs PostgreSQL 17 or later")
		return
	}
	require.NoError(t, got.err)
	assert.True(t, value[bool](r, "select failover from pg_replication_slots where slot_name = '$slot'"))
}

// An existing slot stays as it is.
func TestSetupDoesNotMakeASlotAFailoverSlot(t *testing.T) {
	t.Parallel()
	r := newSlot(t)
	got := r.setup(Command{Failover: true})
	requireRefused(t, got, r.slot, "is not a failover slot", "ALTER_REPLICATION_SLOT")
	assert.Contains(t, got.out, "exists   slot")
}

func TestSetupWithoutAServer(t *testing.T) {
	t.Parallel()
	dsn := "STREAMER_POSTGRES_DSN=postgres://nobody@127.0.0.1:1/none"
	got := execute(t.Context(), Command{Timeout: time.Minute}, dsn)
	require.Error(t, got.err)
	assert.Equal(t, failure.Transient, failure.ClassOf(got.err))
	got = execute(t.Context(), Command{}, dsn, "STREAMER_SHARD_COUNT=-1")
	require.ErrorContains(t, got.err, "shard.count")
}
