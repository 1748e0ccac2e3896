package pgtest_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/internal/pgtest"
)

func TestStandby(t *testing.T) {
	t.Parallel()
	primary := pgtest.New(t, pgtest.Options{})
	dsn := primary.DSN("postgres")
	execute(t, dsn, "CREATE TABLE kept (n int)")
	execute(t, dsn, "SELECT pg_create_logical_replication_slot('left_behind', 'pgoutput')")
	standby := primary.NewStandby(t, "postgres", nil)
	assert.True(t, query[bool](t, standby.DSN("postgres"), "SELECT pg_is_in_recovery()"))
	execute(t, dsn, "INSERT INTO kept VALUES (1)")
	require.Eventually(t, func() bool {
		return query[int](t, standby.DSN("postgres"), "SELECT count(*)::int FROM kept") == 1
	}, time.Minute, 20*time.Millisecond)

	require.NoError(t, primary.StopImmediate())
	require.NoError(t, standby.Promote(t.Context()))
	execute(t, standby.DSN("postgres"), "INSERT INTO kept VALUES (2)")
	assert.Equal(t, "00000002", query[string](t, standby.DSN("postgres"), "SELECT left(pg_walfile_name(pg_current_wal_lsn()), 8)"), "timeline")
	assert.Zero(t, query[int](t, standby.DSN("postgres"), "SELECT count(*)::int FROM pg_replication_slots"))
}

func TestRestore(t *testing.T) {
	t.Parallel()
	server := pgtest.New(t, pgtest.Options{})
	dsn := server.DSN("postgres")
	execute(t, dsn, "CREATE TABLE kept (n int)")
	execute(t, dsn, "SELECT pg_create_logical_replication_slot('kept', 'pgoutput')")
	backup, err := server.Backup(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, backup.Remove()) })
	execute(t, dsn, "INSERT INTO kept VALUES (1)")

	require.NoError(t, server.Restore(t.Context(), backup))
	assert.Zero(t, query[int](t, dsn, "SELECT count(*)::int FROM kept"), "committed after the backup")
	assert.Equal(t, 1, query[int](t, dsn, "SELECT count(*)::int FROM pg_replication_slots"), "slots")
	execute(t, dsn, "INSERT INTO kept VALUES (2)")
}
