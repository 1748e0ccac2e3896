package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/internal/pgtest"
	"github.com/outboxstream/streamer/internal/testserver"
	"github.com/outboxstream/streamer/replication"
)

// newReplayRig has a running streamer that keeps the past.
func newReplayRig(t *testing.T, options ...option) (*rig, *process) {
	t.Helper()
	r := newRig(t, outboxTable, append(options, withConfig("rewind.keep=1h"))...)
	p := r.startReady()
	p.eventually("there is a rewind slot", func() bool { return r.slotExists(replication.RewindSlot(r.slot)) })
	return r, p
}

func (r *rig) slotExists(name string) (exists bool) {
	r.t.Helper()
	require.NoError(r.t, r.db.QueryRow(r.t.Context(),
		"select exists(select from pg_replication_slots where slot_name = $1)", name).Scan(&exists))
	return exists
}

// rows commits rows n to m-1, ten in each transaction, over seven aggregates of
// two types. It waits until the rows are published and their checkpoint is
// stored.
func (r *rig) rows(p *process, n, m int) {
	r.t.Helper()
	for ; n < m; n += 10 {
		r.exec(`insert into outbox (aggregatetype, aggregateid, type, payload)
			select case n % 2 when 0 then 'order' else 'invoice' end, 'o' || n % 7, 't', jsonb_build_object('n', n)
			from generate_series($1::int, $2::int - 1) n`, n, min(n+10, m))
	}
	r.confirmed(p)
}

// split separates the replayed records of a topic from the others.
func split(messages []*sarama.ConsumerMessage) (first, again []*sarama.ConsumerMessage) {
	for _, m := range messages {
		if header(m, "ce_replay") == "" {
			first = append(first, m)
		} else {
			again = append(again, m)
		}
	}
	return first, again
}

// replayOf returns the records of one replay.
func replayOf(messages []*sarama.ConsumerMessage, id string) (of []*sarama.ConsumerMessage) {
	for _, m := range messages {
		if header(m, "ce_replay") == id {
			of = append(of, m)
		}
	}
	return of
}

// replayID returns the ID of a replay that says that it is complete.
func replayID(t *testing.T, output string) string {
	t.Helper()
	_, after, found := strings.Cut(output, "streamer: replay ")
	require.True(t, found, output)
	return strings.Fields(after)[0]
}

// told describes each event: what identifies it, and where it is.
func told(messages []*sarama.ConsumerMessage) (all []string) {
	for _, m := range messages {
		all = append(all, fmt.Sprint(m.Partition, string(m.Key), header(m, "ce_id"),
			header(m, "ce_sequence"), header(m, "ce_time"), string(m.Value)))
	}
	return all
}

// byPartition groups records.
func byPartition(messages []*sarama.ConsumerMessage) map[int32][]*sarama.ConsumerMessage {
	groups := map[int32][]*sarama.ConsumerMessage{}
	for _, m := range messages {
		groups[m.Partition] = append(groups[m.Partition], m)
	}
	return groups
}

// requireSame asserts that the replayed events are the published ones, in the
// same order in each partition.
func requireSame(t *testing.T, first, again []*sarama.ConsumerMessage) {
	t.Helper()
	require.Len(t, again, len(first))
	want, got := byPartition(first), byPartition(again)
	for _, partition := range slices.Sorted(maps.Keys(want)) {
		assert.Equal(t, told(want[partition]), told(got[partition]), partition)
	}
}

func TestReplayPublishesThePastAgain(t *testing.T) {
	t.Parallel()
	for _, store := range []string{"kafka", "postgres", "file"} {
		t.Run(store, func(t *testing.T) {
			t.Parallel()
			r, p := newReplayRig(t, withStore(store))
			r.rows(p, 0, 200)
			output, code := r.command("replay", "--from", "beginning", "--dry-run")
			require.Zero(t, code, output)
			assert.Contains(t, output, "200, ")
			assert.Contains(t, output, r.topic("invoice")+": 100 events")

			for _, rate := range []string{"0", "5000"} {
				output, code = r.command("replay", "--from", "beginning", "--rate", rate)
				require.Zero(t, code, output)
				assert.Contains(t, output, "is complete")
				assert.False(t, r.slotExists(replication.ReplaySlot(r.slot)), "the log is not kept any longer")
				for _, aggregateType := range []string{"order", "invoice"} {
					first, again := split(r.records(aggregateType))
					require.Len(t, first, 100)
					requireSame(t, first, replayOf(again, replayID(t, output)))
				}
			}
			r.rows(p, 200, 300)
			first, again := split(r.records("order"))
			assert.Len(t, first, 150)
			assert.Len(t, again, 200)
			for _, m := range again {
				assert.Equal(t, header(m, "ce_replay"), header(m, "streamer-replay"))
				assert.Equal(t, header(first[0], "streamer-stream"), header(m, "streamer-stream"))
			}
			p.kill()
			p = r.startReady() // and reads back its own events
			r.rows(p, 300, 310)
			first, _ = split(r.records("order"))
			assert.Len(t, first, 155)
			a := r.verify().clean(t)
			assert.EqualValues(t, 400, a.summary.Replays)
			assert.Zero(t, p.stop())
			p.discreet()
		})
	}
}

func TestReplayOfAPart(t *testing.T) {
	t.Parallel()
	r, p := newReplayRig(t)
	r.rows(p, 0, 100)
	var middle, now string
	ask := func(sql string, into *string) {
		t.Helper()
		require.NoError(t, r.db.QueryRow(t.Context(), sql).Scan(into))
	}
	ask("select confirmed_flush_lsn::text from pg_replication_slots where slot_name = '"+r.slot+"'", &middle)
	ask("select to_char(clock_timestamp() at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')", &now)
	r.rows(p, 100, 200)

	numbers := func(arguments ...string) (all []int) {
		t.Helper()
		output, code := r.command(append([]string{"replay", "--rate", "0"}, arguments...)...)
		require.Zero(t, code, output)
		for _, aggregateType := range []string{"order", "invoice"} {
			for _, group := range byKey(t, replayOf(r.records(aggregateType), replayID(t, output))) {
				assert.IsIncreasing(t, append([]int{-1}, group...))
				all = append(all, group...)
			}
		}
		slices.Sort(all)
		return all
	}
	span := func(from, to, step int) (all []int) {
		for n := from; n < to; n += step {
			all = append(all, n)
		}
		return all
	}
	assert.Equal(t, span(100, 200, 1), numbers("--from", middle), "from an LSN")
	assert.Equal(t, span(0, 100, 1), numbers("--from", "beginning", "--to", middle), "to an LSN")
	assert.Equal(t, span(100, 200, 1), numbers("--from", now), "from a time")
	assert.Equal(t, span(0, 100, 1), numbers("--from", "beginning", "--to", now), "to a time")
	assert.Equal(t, span(0, 200, 2), numbers("--from", "beginning", "--aggregate-type", "ord*"))
	assert.Equal(t, span(1, 200, 2), numbers("--from", "beginning", "--topic", r.topic("invoice")))
	assert.Equal(t, span(3, 200, 7), numbers("--from", "beginning", "--key", "o3"))
	assert.Equal(t, span(10, 200, 14), numbers("--from", "beginning", "--key", "o3", "--aggregate-type", "order"))
	r.verify().clean(t)
	assert.Zero(t, p.stop())
}

// A killed replay continues where it was, and publishes nothing twice.
func TestKilledReplayGoesOn(t *testing.T) {
	t.Parallel()
	r, p := newReplayRig(t)
	const total = 6000
	r.exec("insert into outbox (aggregatetype, aggregateid, type, payload) "+
		"select 'order', 'o' || n % 7, 't', jsonb_build_object('n', n) from generate_series(1, $1::int) n", total/2)
	for n := total / 2; n < total; n += 300 {
		r.exec("insert into outbox (aggregatetype, aggregateid, type, payload) select 'order', "+
			"'o' || n % 7, 't', jsonb_build_object('n', n) from generate_series($1::int + 1, $1::int + 300) n", n)
	}
	r.confirmed(p)
	for kills := 1; kills <= 4; kills++ {
		replay := exec.CommandContext(t.Context(), binary,
			slices.Concat([]string{"replay", "--from", "beginning", "--rate", "500"}, r.arguments())...)
		replay.Env = []string{"PATH=" + os.Getenv("PATH")}
		require.NoError(t, replay.Start())
		p.eventually("the replay has come further", func() bool {
			_, again := split(r.records("order"))
			return len(again) > kills*300
		})
		require.NoError(t, replay.Process.Kill())
		_ = replay.Wait()
		r.insert("order", "o1", "t", fmt.Sprintf(`{"n": %d}`, total+kills))
		if kills == 1 {
			output, code := r.command("replay", "--from", "1h")
			assert.Equal(t, 3, code)
			oneSentence(t, code, output, "was interrupted at", `--from "beginning"`, "--discard")
		}
	}
	output, code := r.command("replay", "--from", "beginning", "--rate", "0")
	require.Zero(t, code, output)
	first, again := split(r.records("order"))
	requireSame(t, slices.DeleteFunc(first, func(m *sarama.ConsumerMessage) bool {
		var payload struct{ N int }
		require.NoError(t, json.Unmarshal(m.Value, &payload))
		return payload.N > total
	}), again)
	r.verify().clean(t)

	assert.False(t, r.slotExists(replication.ReplaySlot(r.slot)))
	output, code = r.command("replay", "--discard")
	assert.Equal(t, 3, code)
	oneSentence(t, code, output, "no interrupted replay")
	assert.Zero(t, p.stop())
}

// Without the WAL, only the table is left.
func TestReplayFromTheTable(t *testing.T) {
	t.Parallel()
	r := newRig(t, datedTable)
	p := r.startReady()
	output, code := r.command("replay", "--from-table")
	assert.Equal(t, 2, code)
	oneSentence(t, code, output, "--order-by")
	r.rows(p, 0, 200)
	r.exec("delete from outbox where payload->>'n' = '4'")
	output, code = r.command("replay", "--from-table", "--order-by", "created_at", "--rate", "0")
	require.Zero(t, code, output)
	first, again := split(r.records("order"))
	require.Len(t, first, 100)
	require.Len(t, again, 99)
	for _, numbers := range byKey(t, again) {
		assert.IsIncreasing(t, numbers)
	}
	byID := map[string]*sarama.ConsumerMessage{}
	for _, m := range first {
		byID[header(m, "ce_id")] = m
	}
	for _, m := range again {
		same := byID[header(m, "ce_id")]
		require.NotNil(t, same)
		assert.Equal(t, string(same.Value), string(m.Value))
		assert.Equal(t, same.Partition, m.Partition)
		assert.Empty(t, header(m, "ce_sequence"))
		assert.WithinDuration(t, time.Now(), m.Timestamp, time.Hour, "nothing else says when the row was written")
	}
	output, code = r.command("replay", "--from-table", "--order-by", "id")
	assert.Equal(t, 2, code, output)
	oneSentence(t, code, output, "is uuid, whose values have no order")
	output, code = r.command("replay", "--from-table", "--from", "2999-01-01", "--set", "outbox.columns.time=created_at")
	assert.Equal(t, 2, code, output)
	output, code = r.command("replay", "--from-table", "--to", "2020-01-01", "--set", "outbox.columns.time=created_at")
	assert.Zero(t, code, output)
	_, again = split(r.records("order"))
	assert.Len(t, again, 99)
	p.kill()
	p = r.startReady()
	r.rows(p, 200, 210)
	first, _ = split(r.records("order"))
	assert.Len(t, first, 105)
	r.verify().clean(t)
	assert.Zero(t, p.stop())
	output, code = r.command("replay", "--from-table", "--order-by", "created_at", "--to", "2020-01-01")
	assert.Zero(t, code, output) // there is nothing to wait for
	r.insert("order", "o1", "t", "{}")
	output, code = r.command("replay", "--from-table", "--order-by", "created_at")
	assert.Equal(t, 3, code, output)
	assert.Contains(t, output, "no streamer uses slot")
}

// lose makes the server give up the slot: the server removes the WAL that the
// slot needs.
func (r *rig) lose(server *pgtest.Server) {
	r.t.Helper()
	require.NoError(r.t, server.AlterSystem(r.t.Context(), "max_slot_wal_keep_size", "16MB"))
	for range 6 {
		r.exec("select pg_logical_emit_message(false, 'filler', repeat('x', 1 << 20)) from generate_series(1, 16)")
		r.exec("checkpoint")
	}
	var status string
	require.NoError(r.t, r.db.QueryRow(r.t.Context(),
		"select wal_status from pg_replication_slots where slot_name = $1", r.slot).Scan(&status))
	require.Equal(r.t, "lost", status)
	require.NoError(r.t, server.AlterSystem(r.t.Context(), "max_slot_wal_keep_size", "-1"))
}

// forget deletes all records of a topic.
func (r *rig) forget(aggregateType string) {
	r.t.Helper()
	admin, err := r.kafka.Admin()
	require.NoError(r.t, err)
	defer admin.Close()
	ends := map[int32]int64{}
	for _, m := range r.records(aggregateType) {
		ends[m.Partition] = max(ends[m.Partition], m.Offset+1)
	}
	require.NoError(r.t, admin.DeleteRecords(r.topic(aggregateType), ends))
}

// The remedy for a lost slot, as docs/how-to/slot-lost.md describes it. In the
// end nothing is missing and nothing is in Kafka twice.
func TestSlotLostIsCured(t *testing.T) {
	t.Parallel()
	for name, table := range map[string]string{"no column says when": outboxTable, "dated": datedTable} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := pgtest.New(t, pgtest.Options{Settings: map[string]string{"max_wal_size": "64MB", "min_wal_size": "32MB"}})
			r := newRig(t, table, withServer(server))
			p := r.startReady()
			r.rows(p, 0, 50)
			assert.Zero(t, p.stop())
			commit := func(n, m int) {
				r.exec(`insert into outbox (aggregatetype, aggregateid, type, payload) select 'order', `+
					`'o' || n % 7, 't', jsonb_build_object('n', n) from generate_series($1::int, $2::int - 1) n`, n, m)
			}
			commit(50, 80)
			commit(80, 90)
			r.lose(server)
			commit(90, 100)

			output, code := r.command("status")
			assert.Equal(t, 3, code)
			assert.Contains(t, output, "docs/how-to/slot-lost.md")
			r.start().refused(exitRefused, "is lost", "pg_drop_replication_slot",
				"streamer setup", "streamer checkpoint set slot --yes", "streamer replay --missing")
			output, code = r.command("replay", "--missing")
			assert.Equal(t, 3, code, output)

			r.exec("select pg_drop_replication_slot($1)", r.slot)
			r.start().refused(exitRefused, "does not exist", "streamer setup", "streamer replay --missing")
			output, code = r.command("setup")
			require.Zero(t, code, output)
			r.start().refused(exitRefused, "streamer checkpoint set slot --yes", "streamer replay --missing")
			if name == "dated" {
				output, code = r.command("checkpoint", "set", "slot", "--yes",
					"--set", "outbox.cleanup.mode=delete", "--set", "outbox.cleanup.time_column=created_at")
				assert.Equal(t, 3, code, output)
				assert.Contains(t, output, "set outbox.cleanup.mode to none")
			}
			output, code = r.command("checkpoint", "set", "slot", "--yes")
			require.Zero(t, code, output)
			p = r.startReady()
			commit(100, 110)
			output, code = r.command("replay", "--missing", "--dry-run")
			require.Zero(t, code, output)
			assert.Regexp(t, `events +50`, output)
			assert.Contains(t, output, r.topic("order")+": 50 events")
			output, code = r.command("replay", "--missing")
			assert.Equal(t, 3, code, output)
			assert.Contains(t, output, "add --yes")
			output, code = r.command("replay", "--missing", "--yes")
			require.Zero(t, code, output)
			first, again := split(r.await(p, "order", 25+60))
			assert.Len(t, first, 25+10)
			assert.Len(t, again, 50)
			for _, numbers := range byKey(t, again) {
				assert.IsIncreasing(t, numbers)
			}
			for _, m := range again {
				assert.WithinDuration(t, time.Now(), m.Timestamp, time.Hour)
			}
			r.verify().clean(t)
			output, code = r.command("replay", "--missing")
			require.Zero(t, code, output)
			assert.Contains(t, output, "nothing is missing")
			assert.Len(t, r.records("order"), 25+60)

			// Kafka deletes records. The time of a row decides whether it
			// counts as missing.
			r.forget("order")
			output, code = r.command("replay", "--missing")
			require.Zero(t, code, output)
			assert.Contains(t, output, "85 rows without a record left out")
			assert.Contains(t, output, "--time-column")
			if name == "dated" {
				output, code = r.command("replay", "--missing", "--time-column", "created_at", "--dry-run")
				require.Zero(t, code, output)
				assert.Contains(t, output, "85 rows without a record left out")
				assert.NotContains(t, output, "--time-column")
			}
			assert.Zero(t, p.stop())
		})
	}
}

// The server is restarted while a replay runs. The connection on which the
// replay began does not live until its end.
func TestReplayOutlivesTheServersRestart(t *testing.T) {
	t.Parallel()
	server := pgtest.New(t, pgtest.Options{})
	r, p := newReplayRig(t, withServer(server))
	r.rows(p, 0, 300)
	replay := r.startWith([]string{"replay", "--from", "beginning", "--rate", "100"})
	replay.eventually("the replay has begun", func() bool {
		_, again := split(r.records("order"))
		return len(again) > 10
	})
	require.NoError(t, r.db.Close(t.Context()))
	require.NoError(t, server.Restart(t.Context()))
	r.db = r.open()
	assert.Zero(t, replay.code(), replay.log)
	assert.Contains(t, replay.log.String(), "is complete")
	assert.False(t, r.slotExists(replication.ReplaySlot(r.slot)))
	_, again := split(r.records("order"))
	assert.Len(t, again, 150)

	// The slot of the replay is left, for whatever reason. The replay was
	// complete all the same.
	r.exec("select pg_create_logical_replication_slot($1, 'pgoutput')", replication.ReplaySlot(r.slot))
	output, code := r.command("replay", "--from", "beginning", "--rate", "100")
	assert.Zero(t, code, output)
	assert.Contains(t, output, "was complete")
	assert.False(t, r.slotExists(replication.ReplaySlot(r.slot)))
	_, again = split(r.records("order"))
	assert.Len(t, again, 150)
	assert.Zero(t, p.stop())
}

// Rows that another slot has published are missing unless --former-slot names
// that slot.
func TestReplayOfWhatAFormerSlotPublished(t *testing.T) {
	testserver.Long(t)
	t.Parallel()
	r := newRig(t, outboxTable)
	p := r.startReady()
	r.rows(p, 0, 20)
	assert.Zero(t, p.stop())
	former := r.slot
	r.slot = "new_" + former[max(0, len(former)-50):]
	r.exec("select pg_create_logical_replication_slot($1, 'pgoutput')", r.slot)
	p = r.startReady()
	r.rows(p, 20, 30)
	output, code := r.command("replay", "--missing")
	assert.Equal(t, 3, code)
	assert.Contains(t, output, "20 records in these topics are of other streams")
	assert.Contains(t, output, "--former-slot")
	assert.Regexp(t, `events +20`, output)
	output, code = r.command("replay", "--missing", "--from", "1h")
	assert.Equal(t, 2, code, "without a column that says when, that would find nothing")
	oneSentence(t, code, output, "--time-column")
	output, code = r.command("replay", "--missing", "--former-slot", former, "--yes")
	assert.Zero(t, code)
	assert.Contains(t, output, "nothing is missing")

	slow := r.startWith([]string{"replay", "--missing", "--yes", "--rate", "1"})
	slow.logged("begins")
	output, code = r.command("replay", "--missing", "--yes")
	assert.Equal(t, 3, code)
	oneSentence(t, code, output, "another replay is running")
	slow.kill()
	assert.Zero(t, p.stop())
}

func TestReplayRefusals(t *testing.T) {
	t.Parallel()
	without := newRig(t, outboxTable)
	p := without.startReady()
	without.rows(p, 0, 10)
	output, code := without.command("replay", "--from", "1h")
	assert.Equal(t, 3, code)
	oneSentence(t, code, output, "there is no rewind slot", "rewind.keep")
	assert.Zero(t, p.stop())

	r, p := newReplayRig(t)
	r.rows(p, 0, 10)
	for from, want := range map[string]struct {
		code  int
		words []string
	}{
		"1h":                   {3, []string{"older than what rewind slot", "--from beginning"}},
		"0/1":                  {3, []string{"older than what rewind slot", "--from beginning"}},
		"FFFF/0":               {2, []string{"above the checkpoint"}},
		"yesterday":            {2, []string{"write an LSN", "beginning"}},
		"2999-01-01T00:00:00Z": {2, []string{"is in the future"}},
	} {
		output, code := r.command("replay", "--from", from)
		assert.Equal(t, want.code, code, from)
		oneSentence(t, code, output, want.words...)
	}
	output, code = r.command("replay", "--from", "beginning", "--to", "FFFF/0")
	assert.Equal(t, 2, code)
	oneSentence(t, code, output, "above the checkpoint")
	assert.Empty(t, func() []*sarama.ConsumerMessage { _, again := split(r.records("order")); return again }())
	assert.False(t, r.slotExists(replication.ReplaySlot(r.slot)))
	assert.Zero(t, p.stop())
}

// The rewind slot follows the stream at a distance. It is created again if it
// was lost or dropped.
func TestRewindSlotFollows(t *testing.T) {
	t.Parallel()
	r := newRig(t, outboxTable, withConfig("rewind.keep=2s"))
	p := r.startReady()
	name := replication.RewindSlot(r.slot)
	p.eventually("there is a rewind slot", func() bool { return r.slotExists(name) })
	r.rows(p, 0, 100)
	var published string
	require.NoError(t, r.db.QueryRow(t.Context(),
		"select confirmed_flush_lsn::text from pg_replication_slots where slot_name = $1", r.slot).Scan(&published))
	p.eventually("the rewind slot has followed", func() (followed bool) {
		require.NoError(t, r.db.QueryRow(t.Context(), "select confirmed_flush_lsn >= $1::pg_lsn "+
			"from pg_replication_slots where slot_name = $2", published, name).Scan(&followed))
		return followed
	})
	p.eventually("the streamer does not move it just now, and it is dropped", func() bool {
		_, err := r.db.Exec(t.Context(), "select pg_drop_replication_slot($1)", name)
		return err == nil
	})
	p.eventually("there is one again", func() bool { return r.slotExists(name) })
	output, code := r.command("checkpoint", "show", "--history")
	require.Zero(t, code, output)
	assert.Regexp(t, `at 2\d{3}-\d\d-\d\dT\d\d:\d\d:\d\dZ +[0-9A-F]+/[0-9A-F]+`, output)
	assert.Zero(t, p.stop())
}

// A rewind slot that the server has given up is created again, and the stream
// does not notice.
func TestRewindSlotIsLost(t *testing.T) {
	testserver.Long(t)
	t.Parallel()
	server := pgtest.New(t, pgtest.Options{Settings: map[string]string{
		"max_slot_wal_keep_size": "32MB", "max_wal_size": "64MB", "min_wal_size": "32MB",
	}})
	r := newRig(t, outboxTable, withServer(server), withConfig("rewind.keep=100s"))
	p := r.startReady()
	name := replication.RewindSlot(r.slot)
	p.eventually("there is a rewind slot", func() bool { return r.slotExists(name) })
	r.exec("create table noise (n int, t text)")
	for n := range 12 {
		r.exec("insert into noise select n, repeat(md5(n::text), 20) from generate_series(1, 10000) n") // 8 MB of WAL
		r.insert("order", "o1", "t", fmt.Sprintf(`{"n": %d}`, n))
		r.confirmed(p)
		r.exec("select pg_switch_wal()")
		r.exec("checkpoint")
	}
	p.logged("rewind slot was lost")
	p.eventually("there is another one", func() (kept bool) {
		err := r.db.QueryRow(t.Context(), "select wal_status <> 'lost' from pg_replication_slots where slot_name = $1", name).Scan(&kept)
		return err == nil && kept
	})
	assert.Len(t, r.await(p, "order", 12), 12)
	assert.Zero(t, p.stop())
}
