package doctor

import (
	"context"
	"fmt"
	"testing"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/internal/pgtest"
	"github.com/outboxstream/streamer/replication"
)

func TestShards(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.examine().silent("shards")
	r.set("shard.count=3")
	copied := func(n int) {
		name := fmt.Sprintf("%s_%d_of_3", r.slot, n)
		r.exec("select pg_copy_logical_replication_slot($1, $2)", r.slot, name)
		r.exec(`create publication "` + name + `" for table outbox with (publish = 'insert')`)
	}
	copied(0)
	e := r.examine()
	e.says(Failed, "shards", "shard 1 of 3", "streamer setup").says(Failed, "shards", "shard 2 of 3")
	copied(1)
	copied(2)
	r.examine("shard.index=1").says(Fine, "shards", "shard 1 of 3")
}

func TestSlotsOfThePast(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	rewind, replay := replication.RewindSlot(r.slot), replication.ReplaySlot(r.slot)
	r.examine().says(Fine, "rewind slot", "rewind.keep is 0s").silent("replay")
	r.examine("rewind.keep=1h").says(Warned, "rewind slot", rewind, "nothing can be replayed")
	r.exec("select pg_copy_logical_replication_slot($1, $2)", r.slot, rewind)
	r.examine("rewind.keep=1h").says(Fine, "rewind slot", rewind)
	r.examine().says(Warned, "rewind slot", "rewind.keep is 0s", "pg_drop_replication_slot('"+rewind+"')")

	r.exec("select pg_copy_logical_replication_slot($1, $2)", r.slot, replay)
	r.examine().says(Warned, "replay", "interrupted", replay, "streamer replay --discard")
	r.stream(replay)
	r.examine().says(Fine, "replay", "is running", replay)
}

// stream reads a slot, as a replay does, until the test ends.
func (r *rig) stream(slot string) {
	r.t.Helper()
	parsed, err := pgconn.ParseConfig(r.dsn)
	require.NoError(r.t, err)
	parsed.RuntimeParams["replication"] = "database"
	conn, err := pgconn.ConnectConfig(r.t.Context(), parsed)
	require.NoError(r.t, err)
	r.t.Cleanup(func() { conn.Close(context.WithoutCancel(r.t.Context())) })
	require.NoError(r.t, pglogrepl.StartReplication(r.t.Context(), conn, slot, 0, pglogrepl.StartReplicationOptions{
		PluginArgs: []string{"proto_version '1'", `publication_names '"` + r.slot + `"'`},
	}))
}

// What slots keep on the disk has limits, which are the server's.
func TestWALThatSlotsKeep(t *testing.T) {
	t.Parallel()
	server := pgtest.New(t, pgtest.Options{Settings: map[string]string{"max_wal_size": "32MB", "min_wal_size": "32MB"}})
	r := newRigOn(t, server, "rewind.keep=1h", "rewind.max_bytes=1MiB")
	const limit = "max_slot_wal_keep_size"
	r.examine().says(Fine, limit, "sets no limit").says(Warned, "rewind slot", "does not exist")
	r.exec("select pg_copy_logical_replication_slot($1, $2)", r.slot, replication.RewindSlot(r.slot))
	r.exec("select pg_copy_logical_replication_slot($1, $2)", r.slot, r.slot+"_0_of_2")
	for range 5 { // of 16 MiB
		r.exec("select pg_logical_emit_message(false, 'filler', '')")
		r.exec("select pg_switch_wal()")
	}
	e := r.examine().says(Warned, "slot", "max_wal_size").says(Warned, limit, "no streamer reads it", "streamer run", "the-disk-is-filling")
	e.says(Warned, "rewind slot", "more than rewind.max_bytes (1MiB)")
	assert.Zero(t, e.Failures)

	r.exec("alter system set max_slot_wal_keep_size = '64MB'")
	r.exec("select pg_reload_conf()")
	r.awaitSetting(limit, "64MB")
	r.examine().says(Warned, "slot", "about to be lost", limit).says(Fine, limit, "64MB")
	r.exec("checkpoint")
	r.await("wal_status = 'lost'")
	r.examine().says(Failed, "slot", "is lost").says(Warned, "rewind slot", "is lost", limit, "rewind.max_bytes").silent("waiting rows")
	r.examine("shard.count=2").says(Failed, "shards", "shard 0 of 2")
}

// awaitSetting waits until sessions see a setting.
func (r *rig) awaitSetting(name, value string) {
	r.t.Helper()
	r.await("current_setting('" + name + "') = '" + value + "'")
}
