package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/IBM/sarama"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/internal/pgtest"
)

// givenBack is what streamer give-back --json prints.
type givenBack struct {
	Slot, Position, Result string
	Again                  bool
	Holders                []struct {
		PID  int
		Lock bool
	}
	Repeats *struct {
		Events      int
		AtMost      bool `json:"at_most"`
		First, Last string
	}
	Waiting     *int
	DeadLetters int `json:"dead_letters"`
	Settings    []struct{ Option, Value string }
	Notes       []string
}

const resultGivenBack = "given back: Debezium goes on from here"

func (r *rig) giveBack(arguments ...string) (g givenBack, output string, code int) {
	r.t.Helper()
	output, code = r.command(append([]string{"give-back", "debezium", "--json"}, arguments...)...)
	if start := strings.Index(output, "{\n"); start >= 0 {
		require.NoError(r.t, json.NewDecoder(strings.NewReader(output[start:])).Decode(&g), output)
	}
	return g, output, code
}

// waiting are the IDs that whoever reads the slot next gets from it.
func (r *rig) waiting() (count int) {
	r.t.Helper()
	var rows int
	require.NoError(r.t, r.db.QueryRow(r.t.Context(), `select count(*) from pg_logical_slot_peek_binary_changes($1, null, null,
		'proto_version', '1', 'publication_names', 'streamer') where get_byte(data, 0) = ascii('I')`, r.slot).Scan(&rows))
	return rows
}

// connectorFile writes a connector's properties; more overrides them.
func (r *rig) connectorFile(more string) string {
	r.t.Helper()
	file := filepath.Join(r.folder, "connector.properties")
	require.NoError(r.t, os.WriteFile(file, []byte(strings.ReplaceAll(`name=outbox
connector.class=io.debezium.connector.postgresql.PostgresConnector
plugin.name=pgoutput
topic.prefix=shop
slot.name=SLOT
publication.name=streamer
publication.autocreate.mode=disabled
snapshot.mode=no_data
offset.mismatch.strategy=trust_slot
transforms=outbox
transforms.outbox.type=io.debezium.transforms.outbox.EventRouter
`, "SLOT", r.slot)+more), 0o600))
	return file
}

// After a clean stop nothing is left to do: the slot stays where it is, and a
// streamer that is started again by mistake refuses.
func TestGiveBack(t *testing.T) {
	t.Parallel()
	r := newRig(t, outboxTable)
	s := r.startReady()
	for n := range 10 {
		r.insert("order", strconv.Itoa(n), "placed", "{}")
	}
	r.await(s, "order", 10)

	file := r.connectorFile("")
	g, output, code := r.giveBack("--dry-run", "--connector", file)
	require.Zero(t, code, output)
	assert.Equal(t, "nothing was changed", g.Result)
	require.NotEmpty(t, g.Holders)
	assert.True(t, g.Holders[0].Lock)
	assert.Contains(t, g.Settings, struct{ Option, Value string }{"offset.mismatch.strategy", "trust_slot"})

	_, output, code = r.giveBack("--wait=0s")
	assert.Equal(t, 3, code, output)
	assert.Contains(t, output, "a streamer, process")
	r.insert("order", "11", "placed", "{}")
	r.await(s, "order", 11)
	require.Zero(t, s.stop())

	r.insert("order", "left", "placed", "{}")
	g, output, code = r.giveBack("--connector", file)
	require.Zero(t, code, output)
	assert.Equal(t, resultGivenBack, g.Result)
	assert.Zero(t, g.Repeats.Events)
	assert.Zero(t, *g.Waiting)
	assert.Len(t, r.records("order"), 12, "what was left is published")
	assert.Zero(t, r.waiting())

	again, output, code := r.giveBack()
	require.Zero(t, code, output)
	assert.True(t, again.Again)
	assert.Equal(t, g.Position, again.Position)

	r.insert("order", "Debezium's", "placed", "{}")
	assert.Equal(t, 1, r.waiting())
	r.start().refused(exitRefused, "after the checkpoint", "streamer take-over debezium")
	assert.Len(t, r.records("order"), 12)
	assert.Equal(t, 1, r.waiting())

	// Debezium reads on, and then the streamer takes over again.
	theirs := r.asDebezium(r.lastID(), "{}")
	theirs.Key = sarama.StringEncoder("Debezium's")
	theirs.Partition = (&taken{rig: r}).partition("Debezium's", 3)
	r.put(theirs)
	output, code = r.command("take-over", "debezium", "--wait=0s", "--holes=publish")
	require.Zero(t, code, output)
	s = r.startReady()
	r.insert("order", "12", "placed", "{}")
	r.await(s, "order", 14)
}

func (r *rig) lastID() (id string) {
	r.t.Helper()
	require.NoError(r.t, r.db.QueryRow(r.t.Context(), "select id::text from outbox where aggregateid = $1", "Debezium's").Scan(&id))
	return id
}

// After a crash, what was published above the slot's position is read back and
// not left to Debezium.
func TestGiveBackAfterKill(t *testing.T) {
	t.Parallel()
	r := newRig(t, outboxTable, withConfig("checkpoint.interval=20s"))
	s := r.startReady()
	const rows = 5000
	r.exec("insert into outbox (aggregatetype, aggregateid, type, payload) "+
		"select 'order', 'o' || i % 7, 'placed', jsonb_build_object('n', i) from generate_series(1, $1::int) i", rows)
	s.eventually("a part is published", func() bool { return len(r.records("order")) > 0 })
	s.kill()
	published := len(r.records("order"))
	t.Logf("published before the kill: %d", published)
	require.NotZero(t, r.waiting(), "it is above the slot's position")

	g, output, code := r.giveBack()
	require.Zero(t, code, output)
	assert.Equal(t, resultGivenBack, g.Result)
	assert.Zero(t, g.Repeats.Events)
	assert.Zero(t, r.waiting())
	all := r.records("order")
	assert.Len(t, all, rows)
	seen := map[string]bool{}
	for _, id := range ids(all) {
		assert.False(t, seen[id])
		seen[id] = true
	}
}

// A server that crashes forgets what was confirmed last, so that Debezium would
// repeat it. The command is run again.
func TestGiveBackAndServerCrash(t *testing.T) {
	t.Parallel()
	server := pgtest.New(t, pgtest.Options{Settings: map[string]string{"wal_level": "logical"}})
	r := newRig(t, outboxTable, withServer(server))
	s := r.startReady()
	const rows = 20
	for n := range rows {
		r.insert("order", strconv.Itoa(n), "placed", "{}")
	}
	r.await(s, "order", rows)
	require.Zero(t, s.stop())
	before, output, code := r.giveBack()
	require.Zero(t, code, output)

	require.NoError(t, server.StopImmediate())
	require.NoError(t, server.StartAgain(t.Context()))
	r.db = r.open()
	t.Logf("given back at %s, and after the crash %d rows wait", before.Position, r.waiting())
	r.insert("order", "later", "placed", "{}")
	after, output, code := r.giveBack()
	require.Zero(t, code, output)
	assert.Zero(t, after.Repeats.Events)
	assert.Len(t, r.records("order"), rows+1-*after.Waiting)
	assert.Equal(t, *after.Waiting, r.waiting())

	// Debezium has not been started, and the streamer goes on instead.
	output, code = r.command("checkpoint", "set", "slot", "--yes")
	require.Zero(t, code, output)
	s = r.startReady()
	r.insert("order", "on", "placed", "{}")
	r.await(s, "order", rows+2)
}

// A slot is not needed to give another one back, only to count what waits.
func TestGiveBackWithoutAFreeSlot(t *testing.T) {
	t.Parallel()
	r := newRig(t, outboxTable, withServer(pgtest.New(t, pgtest.Options{
		Settings: map[string]string{"wal_level": "logical", "max_replication_slots": "1"},
	})))
	r.servedBefore()
	r.insert("order", "left", "placed", "{}")
	busy, ended, written := r.open(), make(chan struct{}), make(chan error, 1)
	go func() { // so that there is always something to count
		var err error
		for err == nil {
			select {
			case <-ended:
				written <- nil
				return
			default:
				_, err = busy.Exec(t.Context(), "select pg_logical_emit_message(true, 'other', 'x')")
			}
		}
		written <- err
	}()
	g, output, code := r.giveBack()
	close(ended)
	require.NoError(t, <-written)
	require.Zero(t, code, output)
	assert.Equal(t, resultGivenBack, g.Result)
	assert.Zero(t, g.Repeats.Events)
	assert.Nil(t, g.Waiting)
	assert.Contains(t, strings.Join(g.Notes, "\n"), "was not counted")
	assert.Len(t, r.records("order"), 2)
}

// An instance that stands by takes the slot when the other one stops, or is kept
// out of it.
func TestGiveBackWithAStandby(t *testing.T) {
	t.Parallel()
	r := newRig(t, outboxTable)
	first := r.startReady()
	second := r.start("http.listen=")
	second.logged("standing by")
	command := r.startWith([]string{"give-back", "debezium", "--wait=2s"})
	command.logged("waiting for 2s")
	require.Zero(t, first.stop())
	if command.code() == 0 { // it was faster
		second.refused(exitRefused, "after the checkpoint", "streamer take-over debezium")
		return
	}
	assert.Equal(t, exitRefused, command.code())
	// The instance that stood by may have come before it, or in the middle of it.
	assert.Regexp(t, "also those that stand by|holds the lock of slot .*stop it first", command.log.String())
	second.logged("streaming")
	require.Zero(t, second.stop())
}

// Without Kafka nothing can be given back, and the bound of the repeats is said.
func TestGiveBackWithoutKafka(t *testing.T) {
	t.Parallel()
	for store, result := range map[string]string{"kafka": "nothing was changed", "file": "not given back"} {
		t.Run(store, func(t *testing.T) {
			t.Parallel()
			withoutKafka(t, store, result)
		})
	}
}

func withoutKafka(t *testing.T, store, result string) {
	t.Helper()
	r := newRig(t, outboxTable, withStore(store))
	s := r.startReady()
	r.insert("order", "1", "placed", "{}")
	r.await(s, "order", 1)
	r.confirmed(s)
	s.kill()
	first := r.insert("order", "2", "placed", "{}")
	last := r.insert("order", "3", "placed", "{}")
	r.lines = append(r.lines, "kafka.brokers=127.0.0.1:1")
	g, output, code := r.giveBack("--timeout=3s")
	assert.Equal(t, 1, code, output)
	assert.Equal(t, result, g.Result)
	require.NotNil(t, g.Repeats)
	assert.Equal(t, 2, g.Repeats.Events)
	assert.True(t, g.Repeats.AtMost)
	assert.Equal(t, first, g.Repeats.First)
	assert.Equal(t, last, g.Repeats.Last)
	assert.Equal(t, 2, r.waiting())
}

func TestGiveBackRefuses(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		prepare func(r *rig) (arguments []string)
		says    []string
		code    int
	}{
		"a slot never read": {func(*rig) []string { return nil }, []string{"nothing to give back"}, 3},
		"a slot that others have read": {func(r *rig) []string {
			r.servedBefore()
			r.insert("order", "1", "placed", "{}")
			r.exec("select from pg_replication_slot_advance($1, pg_current_wal_flush_lsn())", r.slot)
			return nil
		}, []string{"another client has read it since"}, 3},
		"messages": {func(*rig) []string {
			return []string{"--set", "outbox.messages=outbox", "--set", "outbox.table="}
		}, []string{"would be missing"}, 3},
		"shards": {func(*rig) []string { return []string{"--set", "shard.count=2"} }, []string{"change to one shard first"}, 3},
		"another slot": {func(r *rig) []string {
			return []string{"--connector", r.connectorFile("slot.name=other\n")}
		}, []string{"slot.name is other", "set slot.name to "}, 2},
		"a snapshot, and the default strategy": {func(r *rig) []string {
			return []string{"--connector", r.connectorFile("snapshot.mode=when_needed\noffset.mismatch.strategy=\nslot.drop.on.stop=true\n")}
		}, []string{"set snapshot.mode to no_data", "set offset.mismatch.strategy to trust_slot", "set slot.drop.on.stop to false"}, 2},
		"a row that cannot be published": {func(r *rig) []string {
			r.servedBefore()
			r.insert("or der!", "1", "placed", "{}")
			return nil
		}, []string{"not given back", "poison.policy=dead-letter"}, 3},
		"a missing file": {func(*rig) []string { return []string{"--connector", "/does/not/exist"} }, []string{"--connector"}, 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, outboxTable)
			_, output, code := r.giveBack(c.prepare(r)...)
			assert.Equal(t, c.code, code, output)
			for _, text := range c.says {
				assert.Contains(t, output, text)
			}
		})
	}
}

// servedBefore lets a streamer begin, and end.
func (r *rig) servedBefore() {
	r.t.Helper()
	s := r.startReady()
	r.insert("order", "0", "placed", "{}")
	r.await(s, "order", 1)
	require.Zero(r.t, s.stop())
}

// What Debezium does not know is said.
func TestGiveBackNotes(t *testing.T) {
	t.Parallel()
	r := newRig(t, outboxTable, withConfig("poison.policy=dead-letter", "poison.topic=letters"))
	r.lines[1] = "poison.topic=" + r.prefix + "-letters"
	r.servedBefore()
	s := r.startReady()
	r.exec("insert into outbox (aggregatetype, aggregateid, type, payload) values ('or der!', '1', 'placed', '{}')")
	r.insert("order", "1", "placed", "{}")
	r.await(s, "order", 2)
	require.Zero(t, s.stop())
	r.exec("select pg_create_logical_replication_slot($1, 'pgoutput')", r.slot+"_rewind")
	g, output, code := r.giveBack("--offsets=delete", "--connector",
		r.connectorFile("offset.mismatch.strategy=trust_offset\npublication.autocreate.mode=filtered\n"))
	require.Zero(t, code, output)
	assert.Equal(t, 1, g.DeadLetters)
	notes := strings.Join(g.Notes, "\n")
	assert.Contains(t, notes, "1 dead letter without a decision")
	assert.Contains(t, notes, "pg_drop_replication_slot('"+r.slot+"_rewind')")
	assert.Contains(t, notes, "publication.autocreate.mode")
	r.exec("select pg_drop_replication_slot($1)", r.slot+"_rewind")
}

// The rest of an unfinished snapshot would never be published.
func TestGiveBackDuringASnapshot(t *testing.T) {
	t.Parallel()
	r := newSnapshotRig(t, 20000, withConfig("snapshot.rate=1000", "snapshot.chunk_rows=300"))
	s := r.start()
	s.eventually("a part is published", func() bool { return len(r.records("order")) > 0 })
	s.kill()
	_, output, code := r.giveBack()
	assert.Equal(t, exitRefused, code, output)
	assert.Contains(t, output, "the snapshot of the rows from before the slot is not finished")
}

// A replay publishes events again, beside Debezium.
func TestGiveBackDuringAReplay(t *testing.T) {
	t.Parallel()
	r := newRig(t, outboxTable)
	r.servedBefore()
	replay := *r
	replay.slot += "_replay"
	r.exec("select pg_create_logical_replication_slot($1, 'pgoutput')", replay.slot)
	(&taken{rig: &replay}).holdSlot()
	_, output, code := r.giveBack()
	assert.Equal(t, exitRefused, code, output)
	assert.Contains(t, output, "a replay is in progress")
}
