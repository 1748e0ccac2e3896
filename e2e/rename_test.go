package e2e

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/internal/testserver"
)

// renaming is a streamer that is at work while the page is followed.
type renaming struct {
	*procedure

	streamer *process
	total    int    // rows that are written or being written
	wait     func() // until they are written
}

func newRenaming(t *testing.T, options ...option) *renaming {
	t.Helper()
	r := newRig(t, outboxTable, options...)
	page := r.follow("rename.md", "'streamer_rewind'", "'"+r.slot+"_rewind'", "'streamer'", "'"+r.slot+"'",
		"--former-slot streamer", "--former-slot "+r.slot, "postgres.slot=events", "postgres.slot="+r.slot[1:]+"_e",
		"events.order", r.prefix+"-events.order")
	u := &renaming{procedure: page, streamer: r.startReady(), wait: func() {}}
	u.more()
	u.streamer.eventually("some have arrived", func() bool { return len(u.records("order")) > 100 })
	return u
}

// more begins to write more rows.
func (u *renaming) more() {
	u.t.Helper()
	u.wait()
	first := u.total
	u.total += 3000
	u.wait = u.loadBetween(first, u.total)
}

func (u *renaming) stop() {
	u.t.Helper()
	require.Zero(u.t, u.streamer.stop())
}

// goOn starts the streamer and requires everything once and in order.
func (u *renaming) goOn() {
	u.t.Helper()
	u.streamer = u.startReady()
	u.more()
	u.wait()
	u.requireOnce(u.streamer, u.total)
}

func TestRenameTheSlot(t *testing.T) {
	t.Parallel()
	u := newRenaming(t)
	u.stop()
	at := position.FindString(u.section("## The slot").does("streamer setup"))
	script := u.take("sh", "--until")
	output, code := u.shell(strings.ReplaceAll(script, "0/1A2B3C8", at))
	require.Zero(t, code, output)
	former := u.slot
	u.take("yaml", "slot: events")
	u.slot = u.slot[1:] + "_e"
	u.goOn()
	u.sql("pg_drop_replication_slot")
	assert.Contains(t, u.does("--former-slot"), "findings   none")
	u.stop()
	u.exec("select pg_create_logical_replication_slot($1, 'pgoutput')", former) // for the end of the test
}

func TestRenameTheTable(t *testing.T) {
	t.Parallel()
	for _, kill := range []bool{false, true} {
		t.Run(fmt.Sprintf("kill=%t", kill), func(t *testing.T) {
			t.Parallel()
			u := newRenaming(t)
			assert.Contains(t, u.section("## The table").take("yaml", "source"), "table: public.events")
			if kill {
				u.streamer.kill()
			} else {
				u.stop()
			}
			u.sql("ALTER TABLE")
			u.lines = append(u.lines, "outbox.table=public.events", "cloudevents.source=/outbox/{database}/public.outbox")
			u.goOn()
			u.verify().clean(t)
			u.stop()
			sources := map[string]bool{}
			for _, m := range u.records("order") {
				sources[header(m, "ce_source")] = true
			}
			assert.Len(t, sources, 1)
		})
	}
}

func TestRenameTopics(t *testing.T) {
	testserver.Long(t)
	t.Parallel()
	for _, kill := range []bool{false, true} {
		t.Run(fmt.Sprintf("kill=%t", kill), func(t *testing.T) {
			t.Parallel()
			u := newRenaming(t)
			u.section("## Topics").does("streamer setup")
			if kill {
				u.streamer.kill()
			} else {
				u.stop()
			}
			assert.Contains(t, u.take("yaml", "topic"), "topic: ")
			old := *u.rig
			u.prefix += "-events"
			u.lines = append(u.lines, "checkpoint.kafka.topic=checkpoints-"+strings.TrimSuffix(u.prefix, "-events"))
			u.streamer = u.startReady()
			u.more()
			u.wait()
			u.streamer.eventually("all are in one or the other", func() bool {
				return len(old.records("order"))+len(u.records("order")) >= u.total
			})
			requireOnceIn(t, u.total, old.records("order"), u.records("order"))
			u.stop()
		})
	}
}

func TestChangeThePrefixOfTheTransactionalID(t *testing.T) {
	testserver.Long(t)
	t.Parallel()
	u := newRenaming(t)
	u.section("## The prefix of the transactional ID").take("yaml", "transactional_id_prefix: shop-")
	u.streamer.kill()
	u.lines = append(u.lines, "kafka.transactional_id_prefix=shop-")
	u.goOn()
	u.streamer.logged("Kafka has forgotten the previous producer")
	u.verify().clean(t)
	u.stop()
}

func TestChangeTheCheckpointStore(t *testing.T) {
	testserver.Long(t)
	t.Parallel()
	for _, c := range []struct{ from, to string }{{"kafka", "postgres"}, {"postgres", "file"}, {"file", "kafka"}} {
		t.Run(c.from+" to "+c.to, func(t *testing.T) {
			t.Parallel()
			u := newRenaming(t, withStore(c.from))
			for _, store := range []string{c.to, c.from, c.to} { // and back, and again
				u.stop()
				u.store = store
				u.section("## The checkpoint store").take("yaml", "store: postgres")
				u.does("streamer checkpoint set")
				u.streamer = u.startReady()
				u.more()
			}
			u.wait()
			u.requireOnce(u.streamer, u.total)
			assert.NotContains(t, u.streamer.log.String(), "level=ERROR")
			u.verify().clean(t)
			u.stop()
		})
	}
}

func TestNewTableInPlaceOfTheOldOne(t *testing.T) {
	t.Parallel()
	u := newRenaming(t)
	u.section("## A new table in place of the old one").sql("CREATE TABLE outbox_new")
	u.sql("ALTER PUBLICATION")
	u.more()
	u.wait()
	u.requireOnce(u.streamer, u.total)
	u.verify().clean(t)
	assert.NotContains(t, u.streamer.log.String(), "level=ERROR")
	u.stop()
}
