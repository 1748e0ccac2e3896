package faults

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/internal/kafkatest"
)

// position is an LSN in a sentence.
const position = `[0-9A-F]+/[0-9A-F]+`

// own requests a server for this run alone, with the usual settings.
var own = map[string]string{}

var _ = register(
	fault{
		name: "immediate stop", group: postgresGroup, stop: stopped,
		what: "PostgreSQL is stopped at once, without a checkpoint, and goes through crash recovery",
		// Without fsync a crash of the server loses nothing as long as the
		// machine stays up.
		postgres: own, times: strikes(4), recover: true,
		strike: func(r *run) { require.NoError(r.t, r.pg.StopImmediate()) },
		heal:   (*run).startPostgres,
	},
	fault{
		name: "fast restart", group: postgresGroup, stop: stopped,
		what:     "PostgreSQL is restarted as for an update",
		postgres: own, times: strikes(4), recover: true,
		strike: func(r *run) { require.NoError(r.t, r.pg.Stop(), "the shutdown must not wait for the streamer") },
		heal:   (*run).startPostgres,
	},
	fault{
		name: "fast restart while the broker is silent", group: postgresGroup, stop: stopped,
		what:     "PostgreSQL is restarted while Kafka acknowledges nothing",
		postgres: own, kafka: &kafkatest.Options{}, times: strikes(2), recover: true,
		strike: (*run).restartWithoutBroker,
		heal: func(r *run) {
			require.NoError(r.t, r.kafka.ResumeBroker(0))
		},
	},
	fault{
		name: "walsender terminated", group: postgresGroup,
		what:  "the backend that streams is terminated",
		times: strikes(15),
		strike: func(r *run) {
			r.moment(0, 500)
			r.exec("select pg_terminate_backend(active_pid) from pg_replication_slots where slot_name = $1 and active", r.slot)
		},
	},
	fault{
		name: "transactions limited in time", group: postgresGroup, since: 17,
		what:     "the streamer's role has a transaction_timeout that is shorter than a large transaction takes",
		postgres: own, patience: 30 * time.Second,
		settings: map[string]string{"kafka.max_in_flight_bytes": "1MiB"},
		prepare: func(r *run) {
			r.exec("create role impatient login superuser")
			r.exec("alter role impatient set transaction_timeout = '50ms'")
			u, err := url.Parse(r.through)
			require.NoError(r.t, err)
			u.User = url.UserPassword("impatient", secretPassword)
			r.connect(u.String())
		},
		strike: func(r *run) { r.load.large(r.ctx, r.seed, 60_000) },
	},
	fault{
		name: "lock session terminated", group: postgresGroup,
		what:  "the backend that holds the lock is terminated",
		times: strikes(10),
		strike: func(r *run) {
			r.moment(0, 1000)
			r.exec("select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() " +
				"and application_name like 'streamer%' and backend_type = 'client backend'")
		},
	},
	fault{
		name: "all sessions terminated", group: postgresGroup,
		what:  "all the streamer's backends are terminated together",
		times: strikes(10),
		strike: func(r *run) {
			r.moment(0, 1000)
			r.exec("select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and application_name like 'streamer%'")
		},
	},
	fault{
		name: "slot dropped while running", group: postgresGroup, expect: refuses,
		what:   "the walsender is terminated and the slot dropped",
		says:   []string{`slot "slot_`, `does not exist`, position},
		strike: (*run).dropSlot,
	},
	fault{
		name: "slot dropped while down", group: postgresGroup, expect: refuses,
		what: "the slot is dropped while the streamer is away",
		says: []string{`slot "slot_`, `does not exist`, position},
		strike: whileDown(func(r *run) {
			r.dropSlot()
			r.written(1 << 16)
		}),
	},
	fault{
		name: "slot created again", group: postgresGroup, expect: refuses, fast: true,
		what: "the slot is dropped and created again while the streamer is away; rows are committed in between",
		says: []string{`slot "slot_\w+" begins at ` + position + `, after the checkpoint ` + position},
		strike: whileDown(func(r *run) {
			r.dropSlot()
			r.written(1 << 16)
			r.exec("select pg_create_logical_replication_slot($1, 'pgoutput')", r.slot)
		}),
	},
	fault{
		name: "slot created again while running", group: postgresGroup, expect: refuses,
		what: "the slot is dropped and created again at once, while the streamer runs",
		says: []string{`slot "slot_`, position},
		strike: func(r *run) {
			r.dropSlot()
			r.exec("select pg_create_logical_replication_slot($1, 'pgoutput')", r.slot)
		},
	},
	fault{
		name: "slot advanced", group: postgresGroup, expect: refuses,
		what: "the slot is advanced while the streamer is away",
		says: []string{`slot "slot_\w+" begins at ` + position + `, after the checkpoint ` + position},
		strike: whileDown(func(r *run) {
			r.written(1 << 16)
			r.slotMoves()
			r.eventuallyExec("select pg_replication_slot_advance($1, pg_current_wal_lsn())", r.slot)
		}),
	},
	fault{
		name: "slot read by another client", group: postgresGroup, expect: refuses,
		what: "the slot is consumed with SQL while the streamer is away",
		says: []string{`slot "slot_\w+" begins at ` + position + `, after the checkpoint ` + position},
		strike: whileDown(func(r *run) {
			r.written(1 << 16)
			r.slotMoves()
			r.eventuallyExec("select count(*) from pg_logical_slot_get_binary_changes("+
				"$1, null, null, 'proto_version', '1', 'publication_names', 'streamer')", r.slot)
		}),
	},
	fault{
		name: "slot outgrown while down", group: postgresGroup, expect: refuses,
		what:     "the slot is invalidated by max_slot_wal_keep_size while the streamer is away",
		says:     []string{`slot "slot_\w+" is lost`, `committed after ` + position},
		postgres: smallWAL, strike: whileDown((*run).outgrow),
	},
	fault{
		name: "slot outgrown while frozen", group: postgresGroup, expect: refuses,
		what:     "the slot is invalidated by max_slot_wal_keep_size while the streamer hangs",
		says:     []string{`slot "slot_\w+" is lost`, `committed after ` + position},
		postgres: smallWAL,
		strike: func(r *run) {
			r.streamer.signal(syscall.SIGSTOP)
			r.outgrow()
			r.streamer.signal(syscall.SIGCONT)
		},
	},
	fault{
		name: "slot idle for too long", group: postgresGroup, expect: refuses, since: 18,
		what:     "the slot is invalidated by idle_replication_slot_timeout while the streamer is away",
		says:     []string{`slot "slot_\w+" is lost \(idle_timeout\)`, `committed after ` + position},
		postgres: map[string]string{"idle_replication_slot_timeout": "1s"},
		strike: whileDown(func(r *run) {
			r.until("the slot is invalidated", func() bool {
				r.exec("checkpoint")
				return r.slotLost()
			})
		}),
	},
	fault{
		name: "publication dropped", group: postgresGroup, expect: refuses,
		what:   "the publication is dropped while the streamer runs",
		says:   []string{`publication "streamer"`, position},
		strike: func(r *run) { r.exec("drop publication streamer") }, // noticed at the next row or check of the catalog
	},
	fault{
		name: "publication created again", group: postgresGroup, expect: refuses,
		what: "the publication is dropped, rows are committed, and it is created again",
		says: []string{`publication "streamer"`, position},
		strike: func(r *run) {
			r.exec("drop publication streamer")
			r.written(1 << 14)
			r.exec("create publication streamer for table outbox with (publish = 'insert', publish_via_partition_root = true)")
		},
	},
	fault{
		name: "publication replaced in one transaction", group: postgresGroup,
		what:  "the publication is dropped and created again in one transaction, so that no row is without it",
		times: strikes(2), recover: true,
		strike: func(r *run) {
			r.exec("do $$ begin drop publication streamer; " +
				"create publication streamer for table outbox with (publish = 'insert', publish_via_partition_root = true); end $$")
			r.inspected()
		},
	},
	fault{
		name: "table taken out of the publication", group: postgresGroup, expect: refuses,
		what:   "the outbox table is removed from the publication while the streamer runs",
		says:   []string{`publication "streamer" does not contain table public.outbox`, position},
		strike: func(r *run) { r.exec("alter publication streamer drop table outbox") },
		judge:  apartFromUnpublished,
	},
	fault{
		name: "table out of the publication for a moment", group: postgresGroup, expect: refuses,
		what: "the outbox table is removed from the publication, rows are committed, and it is added again",
		says: []string{`publication "streamer"`, position},
		strike: func(r *run) {
			r.exec("alter publication streamer drop table outbox")
			r.written(1 << 14)
			r.exec("alter publication streamer add table outbox")
		},
		judge: apartFromTheGap,
	},
	fault{
		name: "schema out of the publication for a moment", group: postgresGroup, expect: refuses, since: 15,
		what:    "the publication is for a schema, which is taken out, rows are committed, and it is added again",
		says:    []string{`publication "streamer"`, `may have been out`, position},
		prepare: func(r *run) { r.publish("for tables in schema public") },
		strike: func(r *run) {
			r.exec("alter publication streamer drop tables in schema public")
			r.written(1 << 14)
			r.exec("alter publication streamer add tables in schema public")
		},
		judge: apartFromTheGap,
	},
	fault{
		name: "schema out of the publication while down", group: postgresGroup, expect: refuses, since: 15,
		what:    "the publication is for a schema, which is taken out while the streamer is away; rows are committed, and it is added again",
		says:    []string{`publication "streamer"`, `may have been out`, position},
		prepare: func(r *run) { r.publish("for tables in schema public") },
		strike: whileDown(func(r *run) {
			r.exec("alter publication streamer drop tables in schema public")
			r.written(1 << 14)
			r.exec("alter publication streamer add tables in schema public")
		}),
		judge: apartFromTheGap,
	},
	fault{
		name: "inserts not published for a moment", group: postgresGroup, expect: refuses,
		what: "the publication publishes no inserts for a moment, in which rows are committed",
		says: []string{`publication "streamer"`, `may have been out`, position},
		strike: func(r *run) {
			r.exec("alter publication streamer set (publish = 'update')")
			r.written(1 << 14)
			r.exec("alter publication streamer set (publish = 'insert')")
		},
		judge: apartFromTheGap,
	},
	fault{
		name: "table UNLOGGED for a moment", group: postgresGroup, expect: refuses,
		what:    "the publication is for all tables; the outbox table is made UNLOGGED, rows are committed, and it is made LOGGED again",
		says:    []string{`publication "streamer"`, `UNLOGGED`, position},
		prepare: func(r *run) { r.publish("for all tables") },
		strike: func(r *run) {
			r.exec("alter table outbox set unlogged")
			r.committed(warmUp)
			r.exec("alter table outbox set logged")
		},
		judge: apartFromTheGap,
	},
	fault{
		name: "table swapped", group: postgresGroup,
		what:  "the outbox table is renamed, and another of its name created and published, in one transaction",
		times: strikes(2), recover: true,
		strike: func(r *run) {
			r.swap()
			r.inspected()
		},
	},
	fault{
		name: "table swapped while down", group: postgresGroup,
		what: "while the streamer is away, the outbox table is renamed, and another of its name created and published, " +
			"in one transaction",
		strike: whileDown((*run).swap),
	},
	fault{
		name: "table partitioned", group: postgresGroup,
		what: "the outbox table becomes a partition of another of its name, in one transaction",
		strike: func(r *run) {
			r.exec(`do $$ begin
				alter table outbox rename to part;
				create table outbox (like part) partition by hash (id);
				alter table outbox attach partition part for values with (modulus 1, remainder 0);
				alter publication streamer add table outbox;
			end $$`)
			r.inspected()
		},
	},
	fault{
		name: "table out and in at once", group: postgresGroup,
		what:  "the outbox table is taken out of the publication and added again in one transaction",
		times: strikes(2), recover: true,
		strike: func(r *run) {
			r.exec("do $$ begin alter publication streamer drop table outbox; alter publication streamer add table outbox; end $$")
			r.inspected()
		},
	},
)

// publish creates publication and slot again, before anything is published.
func (r *run) publish(what string) {
	r.t.Helper()
	r.exec("drop publication streamer")
	r.exec("create publication streamer " + what + " with (publish = 'insert', publish_via_partition_root = true)")
	r.exec("select pg_drop_replication_slot($1)", r.slot)
	r.exec("select pg_create_logical_replication_slot($1, 'pgoutput')", r.slot)
}

// inspected waits until the streamer has checked the catalog, which it does
// every 5 s.
func (r *run) inspected() { r.moment(6000, 7000) }

// committed waits until the writers have committed more events.
func (r *run) committed(n int) {
	r.t.Helper()
	before := r.load.journal.count()
	r.until(fmt.Sprintf("%d more events are committed", n), func() bool { return r.load.journal.count() >= before+n })
}

// swap replaces the outbox table in one transaction.
func (r *run) swap() {
	r.t.Helper()
	r.exec(fmt.Sprintf(`do $$ begin
		alter table outbox rename to outbox_%x;
		create table outbox (id uuid primary key, aggregatetype text not null, aggregateid text not null, type text not null, payload json);
		alter publication streamer add table outbox;
	end $$`, r.random.Uint32()))
}

// smallWAL makes the server remove WAL soon.
var smallWAL = map[string]string{"max_slot_wal_keep_size": "32MB", "max_wal_size": "48MB", "min_wal_size": "32MB", "wal_keep_size": "0"}

func (r *run) startPostgres() {
	r.t.Helper()
	require.NoError(r.t, r.pg.StartAgain(r.ctx))
}

// restartWithoutBroker restarts PostgreSQL while the broker does not answer. A
// server that shuts down waits for a walsender's acknowledgements. The streamer
// leaves after 10 s. That is as long as pgtest waits before it ends the server
// by force.
func (r *run) restartWithoutBroker() {
	require.NoError(r.t, r.kafka.PauseBroker(0))
	r.moment(200, 1500)
	began := time.Now()
	if err := r.pg.Stop(); err != nil {
		r.t.Logf("shutdown: %v", err)
	}
	r.t.Logf("PostgreSQL shut down in %s", time.Since(began).Round(time.Millisecond))
	assert.Less(r.t, time.Since(began), 40*time.Second, "the shutdown must not wait for the streamer")
	r.startPostgres()
}

// whileDown is a strike that kills the streamer, does something, and starts the
// streamer again.
func whileDown(do func(r *run)) func(r *run) {
	return func(r *run) {
		r.streamer.end(syscall.SIGKILL)
		r.result.Kills++
		do(r)
		r.streamer.start()
	}
}

// apartFromUnpublished judges a run in which rows were committed while the
// table was in no publication. They are in no stream, so the slot's position
// passes them, whichever client reads it. What counts is that the streamer says
// so.
func apartFromUnpublished(r *run, found findings) {
	found.Early = 0
	assert.Zero(r.t, found)
}

// apartFromTheGap judges the same when rows after the gap were published before
// it was noticed.
func apartFromTheGap(r *run, found findings) {
	r.result.Note = fmt.Sprintf("%d rows committed meanwhile are in no stream, as it says", found.Lost)
	found.Lost, found.Misordered, found.Early = 0, 0, 0
	assert.Zero(r.t, found)
}

// dropSlot drops the slot and ends its reader.
func (r *run) dropSlot() {
	r.t.Helper()
	r.slotMoves()
	conn := r.open()
	defer conn.Close(r.ctx)
	r.until("the slot is dropped", func() bool {
		_, err := conn.Exec(r.ctx, "select pg_terminate_backend(active_pid) from pg_replication_slots where slot_name = $1 and active", r.slot)
		require.NoError(r.t, err)
		_, err = conn.Exec(r.ctx, "select pg_drop_replication_slot($1)", r.slot)
		return err == nil
	})
}

// eventuallyExec repeats a statement while the slot is in use. A server needs a
// moment to notice that a streamer has gone.
func (r *run) eventuallyExec(sql string, arguments ...any) {
	r.t.Helper()
	conn := r.open()
	defer conn.Close(r.ctx)
	r.until(sql, func() bool {
		_, err := conn.Exec(r.ctx, sql, arguments...)
		if failed, ok := errors.AsType[*pgconn.PgError](err); ok && failed.Code == "55006" {
			return false // object in use
		}
		require.NoError(r.t, err, sql)
		return true
	})
}

// written waits until the writers have moved the WAL forward by some bytes.
func (r *run) written(bytes int) {
	r.t.Helper()
	conn := r.open()
	defer conn.Close(r.ctx)
	var from, now lsn
	const sql = "select pg_current_wal_lsn() - '0/0'::pg_lsn"
	require.NoError(r.t, conn.QueryRow(r.ctx, sql).Scan(&from))
	r.until(fmt.Sprintf("the log has grown by %d bytes", bytes), func() bool {
		require.NoError(r.t, conn.QueryRow(r.ctx, sql).Scan(&now))
		return now >= from+lsn(bytes)
	})
}

// outgrow fills the WAL until the slot is invalidated.
func (r *run) outgrow() {
	r.t.Helper()
	conn := r.open()
	defer conn.Close(r.ctx)
	r.until("the slot is invalidated", func() bool {
		_, err := conn.Exec(r.ctx, "select pg_logical_emit_message(false, 'filler', $1::text) "+
			"from generate_series(1, 16)", strings.Repeat("x", 1<<20))
		require.NoError(r.t, err)
		_, err = conn.Exec(r.ctx, "select pg_switch_wal()")
		require.NoError(r.t, err)
		_, err = conn.Exec(r.ctx, "checkpoint")
		require.NoError(r.t, err)
		return r.slotLost()
	})
}

func (r *run) slotLost() (lost bool) {
	r.t.Helper()
	conn := r.open()
	defer conn.Close(r.ctx)
	require.NoError(r.t, conn.QueryRow(r.ctx, "select wal_status = 'lost' from pg_replication_slots where slot_name = $1", r.slot).Scan(&lost))
	return lost
}
