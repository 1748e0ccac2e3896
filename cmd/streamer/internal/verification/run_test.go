package verification

import (
	"errors"
	"io"
	"maps"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/cmd/streamer/internal/console"
	"github.com/outboxstream/streamer/internal/config"
	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/replication"
)

func TestReadable(t *testing.T) {
	t.Parallel()
	cfg := config.Config{Checkpoint: config.Checkpoint{Store: config.StoreKafka, Kafka: config.CheckpointKafka{Topic: "positions"}}}
	for topic, want := range map[string]bool{
		"orders": true, "Orders_1.new-ones": true, "...": true, "_orders": true, strings.Repeat("o", 249): true,
		"": false, ".": false, "..": false, "__consumer_offsets": false, strings.Repeat("o", 250): false,
		"a/b": false, "a b": false, "ä": false, "positions": false,
	} {
		assert.Equal(t, want, readable(cfg, topic), topic)
	}
	cfg.Checkpoint.Store = config.StoreFile
	assert.True(t, readable(cfg, "positions"), "the topic holds no checkpoints then")
}

func TestLost(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		slot replication.Slot
		err  error
		want bool
	}{
		"in use":    {replication.Slot{Active: true, WALStatus: "reserved"}, nil, false},
		"lost":      {replication.Slot{WALStatus: "lost"}, nil, true},
		"missing":   {replication.Slot{}, replication.ErrSlotMissing, true},
		"not known": {replication.Slot{WALStatus: "lost"}, errors.New("no answer"), false},
	} {
		assert.Equal(t, c.want, lost(c.slot, c.err), name)
	}
}

func TestDeadLetterTopic(t *testing.T) {
	t.Parallel()
	cfg := config.Default()
	assert.Empty(t, deadLetterTopic(cfg), "no row becomes a dead letter")
	cfg.Routes = []config.Route{{AggregateType: "a", Poison: config.PoisonDeadLetter}}
	assert.Equal(t, cfg.Poison.Topic, deadLetterTopic(cfg))
}

func TestTimeColumn(t *testing.T) {
	t.Parallel()
	v := &verification{}
	assert.Empty(t, v.timeColumn(v.cfg.Outbox))
	v.cfg.Outbox.Columns.Time = "occurred"
	assert.Equal(t, "occurred", v.timeColumn(v.cfg.Outbox))
	v.cfg.Outbox.Cleanup.TimeColumn = "written"
	assert.Equal(t, "written", v.timeColumn(v.cfg.Outbox))
	v.command.TimeColumn = "named"
	assert.Equal(t, "named", v.timeColumn(v.cfg.Outbox))
}

// The rules are those of the configuration, and not those of the encoder that
// is checked.
func TestExpectedRules(t *testing.T) {
	t.Parallel()
	cfg := config.Default()
	cfg.Outbox.Table, cfg.Outbox.Extensions, cfg.Outbox.NullPayload = "events.letters", map[string]string{"tenant": "c"}, "tombstone"
	cfg.CloudEvents = config.CloudEvents{Source: "/s", Type: "t", Mode: "structured", DataContentType: "text/plain"}
	cfg.Kafka.Topic, cfg.Kafka.Key = "topic", "key"
	cfg.Routes = []config.Route{{AggregateType: "a*", Topic: "r", Key: "k", Mode: "binary", NullPayload: "reject"}}
	r := expectedRules(cfg, cfg.Tables()[0], "shop", []string{"id"})
	assert.Equal(t, []string{"id"}, r.Columns)
	assert.Equal(t, map[string]string{"table": "events.letters", "schema": "events", "database": "shop"}, r.Constants)
	assert.Equal(t, "aggregatetype", r.Attributes["aggregate_type"])
	assert.NotContains(t, r.Attributes, "time", "no such column is mapped")
	assert.Equal(t, []string{"topic", "key", "t", "/s", "text/plain", "tombstone"},
		[]string{r.Topic, r.Key, r.Type, r.Source, r.ContentType, r.NullPayload})
	assert.Equal(t, map[string]string{"tenant": "c"}, r.Extensions)
	assert.True(t, r.Structured)
	require.Len(t, r.Routes, 1)
	route := r.Routes[0]
	assert.Equal(t, []string{"a*", "r", "k", "binary", "reject"},
		[]string{route.AggregateType, route.Topic, route.Key, route.Mode, route.NullPayload})
}

func TestPublishedRowsHaveRecords(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.insert("order", "1", "2")
	r.insert("bill", "3")
	r.publish()
	o := r.verify(nil).finds().notes(0)
	assert.EqualValues(t, 3, o.summary.Published)
	assert.Equal(t, []string{"events.bill", "events.order"}, o.summary.Topics)
	assert.NotContains(t, o.printed, "secret")

	r.exec("delete from outbox where id = '1'")
	assert.EqualValues(t, 1, r.verify(nil).finds().summary.Unmatched)
	r.verify(func(c *Command) { c.Strict = true }).finds("phantom 1")
	text := r.verify(func(c *Command) { c.Strict, c.JSON = true, false })
	require.Equal(t, findingsError(1), text.err)
	assert.Contains(t, text.printed, "phantom      event 1 at events.order/")
	assert.Regexp(t, "outbox +public.outbox as of .*: 2 rows", text.printed)
}

func TestRowsThatTheSlotHasPassed(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.insert("order", "1", "2", "3")
	r.passOver()
	r.insert("order", "4")
	r.publish()
	r.verify(nil).finds("missing 1", "missing 2", "missing 3").notes(0)
	limited := r.verify(func(c *Command) { c.Limit = 1 })
	require.Equal(t, findingsError(3), limited.err, "what is not printed counts")
	assert.Len(t, limited.findings, 1)
}

func TestOfOneTopic(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.insert("order", "1")
	r.insert("bill", "2")
	r.passOver()
	r.insert("order", "3")
	r.publish()
	of := func(topics ...string) func(*Command) { return func(c *Command) { c.Topic = topics } }
	o := r.verify(of("events.order", "events.order")).finds("missing 1").notes(0)
	assert.EqualValues(t, 2, o.summary.Rows)
	assert.Equal(t, []string{"events.order"}, o.summary.Topics)
	r.verify(of("events.bill")).finds("missing 2").notes(1, `"events.bill" does not exist`)
	assert.Zero(t, r.verify(of("elsewhere")).finds().notes(1, `"elsewhere"`).summary.Rows)
}

// A row may name a topic that no rule leads to.
func TestRowsThatNameTheirTopic(t *testing.T) {
	t.Parallel()
	r := newRig(t, "outbox.columns.topic=topic")
	r.exec("alter table outbox add column topic text")
	const insert = "insert into outbox (id, aggregatetype, aggregateid, type, payload, topic) values ($1, 'order', 'a', 't', '{}', $2)"
	r.exec(insert, "1", "special")
	r.passOver()
	r.exec(insert, "2", "special")
	r.publish()
	r.exec(insert, "3", "not/a/topic")
	r.passOver()
	o := r.verify(nil).finds("missing 1", "missing 3").notes(0)
	assert.Equal(t, []string{"special"}, o.summary.Topics)
	assert.EqualValues(t, 1, o.summary.Published)
	assert.Contains(t, o.printed, `"topic":"special","partition":`, "where it should be")
}

// A report that cannot be written is not a comparison that found nothing.
func TestOutputThatFails(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for _, id := range []string{"", "1"} { // the summary, or a finding
		if id != "" {
			r.insert("order", id)
			r.passOver()
		}
		c := command(t, nil)
		err := c.Run(t.Context(), r.load, console.Streams{Out: brokenPipe{}, Err: io.Discard})
		require.ErrorIs(t, err, io.ErrClosedPipe)
	}
}

type brokenPipe struct{}

func (brokenPipe) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

// Which records Kafka has compacted away is not known.
func TestCompactedTopic(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	require.NoError(t, r.cluster.CreateTopic("events.order", 1, map[string]string{"cleanup.policy": "compact"}))
	r.insert("order", "1")
	r.passOver()
	r.insert("order", "2")
	r.publish()
	o := r.verify(nil).finds().notes(1, `"events.order" is compacted`)
	assert.EqualValues(t, 1, o.summary.Expired)
}

func TestRowsAmongDeadLetters(t *testing.T) {
	t.Parallel()
	r := newRig(t, "poison.policy=dead-letter", "poison.topic=letters")
	r.verify(nil).finds().notes(0) // the first dead letter creates the topic
	r.insert("no/topic", "1")
	r.insert("order", "2")
	r.publish()
	o := r.verify(nil).finds().notes(0)
	assert.EqualValues(t, 1, o.summary.DeadLettered)
	assert.EqualValues(t, 1, o.summary.Published)
}

// A slot of a former number of shards published under a name of its own.
func TestFormerSlot(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.insert("order", "1")
	r.publish()
	former := r.slot
	r.slot += "_new"
	r.settings["postgres.slot"] = r.slot
	r.exec(`select pg_create_logical_replication_slot($1, 'pgoutput')`, r.slot)
	o := r.verify(nil).finds("missing 1")
	assert.EqualValues(t, 1, o.summary.Foreign)
	o = r.verify(func(c *Command) { c.FormerSlot = []string{former} }).finds()
	assert.Len(t, o.summary.Streams, 2)
	assert.Zero(t, o.summary.Foreign)
}

// Rows are selected by their time, if a column tells it.
func TestRange(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.insert("order", "1", "2", "3", "4")
	r.passOver()
	r.insert("order", "5")
	r.publish()
	r.exec("update outbox set created_at = now() - interval '1 day' where id = '1'")
	r.exec("update outbox set created_at = now() - interval '55 minutes' where id = '2'") // by less than --slack
	r.exec("update outbox set created_at = null where id = '3'")
	dated := func(from, to string) func(*Command) {
		return func(c *Command) { c.From, c.To, c.TimeColumn = from, to, "created_at" }
	}
	o := r.verify(dated("1h", "")).finds("missing 2", "missing 4").notes(0)
	assert.EqualValues(t, 1, o.summary.Undated)
	r.verify(dated("", "1h")).finds("missing 1").notes(0)
	r.verify(func(c *Command) { c.From = "1h" }).finds().notes(1, "--time-column")

	// Rows have no positions, so that theirs are translated by way of records.
	record := r.verify(dated("0/1", "")).finds("missing 1", "missing 2", "missing 4").
		notes(1, "position 0/1 cannot be dated", "older rows")
	assert.EqualValues(t, 1, record.summary.Published)
	r.verify(dated("", "0/1")).finds("missing 1", "missing 2", "missing 4")
	r.exec("update outbox set created_at = now() + interval '1 day' where id = '4'")
	r.verify(dated("", "FFFF/0")).finds("missing 1", "missing 2", "missing 4")
	r.verify(dated("FFFF/0", "")).finds("missing 4")
}

func TestServersThatRefuse(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for name, c := range map[string]struct {
		key, value string
		change     func(*Command)
		class      failure.Class
		says       string
	}{
		"no Kafka":       {"kafka.brokers", "127.0.0.1:1", nil, failure.Transient, "connect to Kafka"},
		"no PostgreSQL":  {"postgres.dsn", "postgres://nobody@127.0.0.1:1/none", nil, failure.Transient, "connect to PostgreSQL"},
		"no table":       {"outbox.table", "missing", nil, failure.Refused, "public.missing does not exist"},
		"no such column": {"", "", func(c *Command) { c.TimeColumn = "created" }, failure.Misconfigured, `"created"`},
		"no time":        {"", "", func(c *Command) { c.TimeColumn = "payload" }, failure.Misconfigured, "timestamptz"},
	} {
		broken := &rig{t: t, settings: maps.Clone(r.settings)}
		if c.key != "" {
			broken.settings[c.key] = c.value
		}
		o := broken.verify(c.change)
		if assert.Error(t, o.err, name) {
			assert.Equal(t, c.class, failure.ClassOf(o.err), name)
			assert.ErrorContains(t, o.err, c.says, name)
		}
	}
}
