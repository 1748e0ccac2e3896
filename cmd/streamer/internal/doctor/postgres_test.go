package doctor

import (
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/cmd/streamer/internal/site"
	"github.com/outboxstream/streamer/internal/config"
	"github.com/outboxstream/streamer/replication"
)

func TestTableAndPublication(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.exec("alter table outbox drop column payload")
	r.exec(`alter publication "` + r.slot + `" set (publish = 'insert, delete')`)
	r.dropSlot()
	e := r.examine()
	e.says(Failed, "outbox table", "public.outbox", `"payload"`).says(Warned, "outbox table", r.slot, "delete")
	e.says(Failed, "slot", r.slot, "streamer setup").says(Fine, "Kafka").silent("waiting rows", "max_slot_wal_keep_size", "largest payload")
	r.examine("outbox.table=missing").says(Failed, "outbox table", "public.missing")
}

// A slot of another number of shards may not be passed by.
func TestFormerSlots(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	former := r.slot + "_0_of_2"
	r.exec("select pg_copy_logical_replication_slot($1, $2)", r.slot, former)
	r.insert("1", "order", "a")
	r.exec("select pg_replication_slot_advance($1, pg_current_wal_lsn())", former)
	r.examine().says(Failed, "slot", former)
}

func TestRights(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	e := r.examine("postgres.dsn=" + r.role(""))
	e.says(Fine, "PostgreSQL").says(Failed, "replication connection", "REPLICATION").silent("server", "slot")

	// The stream needs no right on the table.
	reader := "postgres.dsn=" + r.role("replication")
	e = r.examine(reader)
	require.NoError(t, e.err)
	e.says(Fine, "largest payload", "not compared")
	r.exec("alter table outbox enable row level security")
	r.exec("grant select on outbox to public")
	e = r.examine(reader)
	require.NoError(t, e.err)
	e.says(Warned, "outbox table", "streamer verify", "row level security").silent("largest payload")
}

func TestLargestPayload(t *testing.T) {
	t.Parallel()
	const what = "largest payload"
	r := newRig(t)
	r.examine().silent(what) // an empty table has none
	r.exec(`insert into outbox (id, payload) values ('1', to_jsonb(repeat('x', 2000)))`)
	r.examine().says(Fine, what, "2002 bytes")
	r.examine("outbox.max_row_bytes=1KiB").says(Warned, what, "2002 bytes", "outbox.max_row_bytes = 1024")
	require.NoError(t, r.cluster.CreateTopic("events.order", 1, map[string]string{"max.message.bytes": "2513"}))
	r.examine().says(Warned, "topic events.order", "payload of 2002 bytes", "5028")
	r.examine("outbox.columns.payload=nothing").says(Failed, "outbox table", `"nothing"`).silent(what)
}

// A table that somebody has locked is not waited for long.
func TestLockedTable(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	other, err := pgx.Connect(t.Context(), r.dsn)
	require.NoError(t, err)
	defer other.Close(t.Context())
	locked, err := other.Begin(t.Context())
	require.NoError(t, err)
	_, err = locked.Exec(t.Context(), "lock table outbox in access exclusive mode")
	require.NoError(t, err)
	control, _, err := site.ConnectPostgres(t.Context(), r.config())
	require.NoError(t, err)
	defer control.Close()
	d := with(r.config())
	table := replication.Table{Outbox: replication.Outbox{Table: "public.outbox"}, Columns: []replication.Column{{Name: "payload"}}}
	d.payloads(t.Context(), control, table, d.cfg.Outbox, 0)
	d.report(t).says(Fine, "largest payload", "not compared")
	require.NoError(t, locked.Rollback(t.Context()))
}

// Settings that are no mistakes have a price.
func TestSettings(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.examine().says(Fine, "wal_sender_timeout", "30s", "60000 ms").silent("synchronous_commit", "server role")
	database := pgx.Identifier{r.conn.Config().Database}.Sanitize()
	r.exec("alter database " + database + " set synchronous_commit = off")
	r.examine().says(Warned, "synchronous_commit", "off")

	control, _, err := site.ConnectPostgres(t.Context(), r.config())
	require.NoError(t, err)
	defer control.Close()
	d := with(r.config())
	d.settings(t.Context(), control, replication.Server{InStandby: true})
	d.report(t).says(Warned, "server role", "standby", "target_session_attrs=read-write")
}

func TestPartitionKey(t *testing.T) {
	t.Parallel()
	const what = "partition key"
	r := newRig(t)
	r.examine().silent(what)
	r.exec("drop table outbox")
	r.exec(`create table outbox (id text, aggregatetype text, aggregateid text, type text, payload jsonb, at date) partition by range (at)`)
	r.exec(`create table outbox_all partition of outbox default`)
	r.exec(`alter publication "` + r.slot + `" add table outbox`)
	r.examine().says(Fine, what, "at")
	r.role("noinherit")
	r.exec("grant update on outbox to public")
	r.examine().says(Warned, what, "REVOKE UPDATE")
}

// What a slot without a limit keeps is a danger by its size, and sooner when
// nobody reads it.
func TestRetained(t *testing.T) {
	t.Parallel()
	const limit = "max_slot_wal_keep_size"
	unlimited, active := replication.Server{MaxSlotKeepSize: "-1"}, true
	for name, c := range map[string]struct {
		slot    replication.Slot
		server  replication.Server
		verdict Verdict
		words   []string
	}{
		"a limit":         {replication.Slot{RetainedWAL: 1 << 40}, replication.Server{MaxSlotKeepSize: "1GB"}, Fine, []string{"1GB"}},
		"little":          {replication.Slot{RetainedWAL: 64<<20 - 1}, unlimited, Fine, []string{"no limit"}},
		"unread":          {replication.Slot{RetainedWAL: 64 << 20}, unlimited, Warned, []string{"64.0 MiB", "no streamer reads it"}},
		"read":            {replication.Slot{RetainedWAL: 1<<30 - 1, Active: active}, unlimited, Fine, []string{"no limit"}},
		"much":            {replication.Slot{RetainedWAL: 1 << 30, Active: active}, unlimited, Warned, []string{"1.0 GiB", "ALTER SYSTEM"}},
		"much, by copies": {replication.Slot{RetainedWAL: 1 << 30, Copies: 2}, unlimited, Warned, []string{"Kafka acknowledges"}},
	} {
		d := with(config.Config{})
		d.retained(c.slot, c.server)
		require.Len(t, d.found, 1, name)
		assert.Equal(t, limit, d.found[0].What)
		d.report(t).says(c.verdict, limit, c.words...)
	}
}
