package config

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// several is a configuration of three tables.
const several = `
cloudevents: {source: "/shop/{table}"}
routes:
  - {aggregate_type: order, topic: orders}
outboxes:
  - table: sales.outbox
  - table: stock.events
    columns: {id: no, time: written}
    extensions: {tenantid: tenant}
    cleanup: {mode: delete, retention: 1h}
    source: /stock
    topic: "stock.{tenantid}"
    poison: dead-letter
    routes:
      - {aggregate_type: item, topic: items}
  - {table: '"my.schema".outbox', null_payload: tombstone, key: "{id}"}
`

func loadText(t *testing.T, text string, environ ...string) (*Loaded, error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "streamer.yaml")
	require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
	return Load(Options{File: file, FileExplicit: true, Environ: environ})
}

func TestSeveralTables(t *testing.T) {
	t.Parallel()
	loaded, err := loadText(t, several)
	require.NoError(t, err)
	tables := loaded.Config.Tables()
	require.Len(t, tables, 3)
	assert.Equal(t, "outboxes[1]", loaded.Config.Entry(1))

	sales, stock, mine := tables[0], tables[1], tables[2]
	want := Default().Outbox
	want.Table, want.Source, want.Poison = "sales.outbox", "/shop/{table}", "stop"
	want.Topic, want.Key = "outbox.event.{aggregate_type}", "{aggregate_id}"
	want.Routes = []Route{{AggregateType: "order", Topic: "orders"}}
	assert.Equal(t, want, sales, "what an entry leaves open has the defaults and the general keys")

	assert.Equal(t, Columns{
		ID: "no", AggregateType: "aggregatetype", AggregateID: "aggregateid", Type: "type", Payload: "payload", Time: "written",
	}, stock.Columns)
	assert.Equal(t, map[string]string{"tenantid": "tenant"}, stock.Extensions)
	assert.Equal(t, CleanupDelete, stock.Cleanup.Mode)
	assert.Equal(t, time.Hour, stock.Cleanup.Retention)
	assert.Equal(t, 500, stock.Cleanup.BatchRows)
	assert.Equal(t, "/stock", stock.Source)
	assert.Equal(t, "stock.{tenantid}", stock.Topic)
	assert.Equal(t, PoisonDeadLetter, stock.Poison)
	assert.Equal(t, []Route{{AggregateType: "item", Topic: "items"}}, stock.Routes)
	assert.True(t, loaded.Config.HasDeadLetters())

	assert.Equal(t, `"my.schema".outbox`, mine.Table)
	assert.Equal(t, NullPayloadTombstone, mine.NullPayload)
	assert.Equal(t, "{id}", mine.Key)
	assert.Equal(t, []Outbox{mine}, loaded.Config.Only(2).Tables())
}

// An entry may be the table of a framework. Keys that are set take precedence.
func TestPresetInAnEntry(t *testing.T) {
	t.Parallel()
	loaded, err := loadText(t, "outboxes: [{preset: rails}, {preset: django, table: shop.events}]")
	require.NoError(t, err)
	rails, _ := FindPreset("rails")
	django, _ := FindPreset("django")
	tables := loaded.Config.Tables()
	assert.Equal(t, qualified(rails.Outbox.Table), tables[0].Table)
	assert.Equal(t, rails.Outbox.Columns, tables[0].Columns)
	assert.Equal(t, "shop.events", tables[1].Table)
	assert.Equal(t, django.Outbox.Columns, tables[1].Columns)
}

// A single table is the only entry.
func TestOneTable(t *testing.T) {
	t.Parallel()
	loaded, err := loadText(t, "outbox: {table: letters, source: /letters}")
	require.NoError(t, err)
	tables := loaded.Config.Tables()
	require.Len(t, tables, 1)
	assert.Equal(t, "public.letters", tables[0].Table)
	assert.Equal(t, "/letters", tables[0].Source)
	assert.Equal(t, "outbox.event.{aggregate_type}", tables[0].Topic)
	assert.Empty(t, loaded.Config.Entry(0))
}

func TestSeveralTablesFromTheEnvironment(t *testing.T) {
	t.Parallel()
	loaded, err := loadText(t, several, "STREAMER_OUTBOXES=[{table: a.outbox, source: /a}, {table: b.outbox, columns: {id: no}}]")
	require.NoError(t, err)
	tables := loaded.Config.Tables()
	require.Len(t, tables, 2)
	assert.Equal(t, "no", tables[1].Columns.ID)
	assert.Equal(t, "environment STREAMER_OUTBOXES", loaded.Origins["outboxes"])
}

func TestEffectiveSeveralTablesReadsBack(t *testing.T) {
	t.Parallel()
	loaded, err := loadText(t, several)
	require.NoError(t, err)
	var text bytes.Buffer
	require.NoError(t, WriteEffective(&text, loaded, FormatYAML))
	again, err := loadText(t, text.String())
	require.NoError(t, err, text.String())
	assert.Equal(t, loaded.Config, again.Config)
}

func TestProblemsOfSeveralTables(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		text string
		says []string
	}{
		"no table": {"outboxes: [{source: /a}]", []string{"outboxes[0].table", "write schema.table"}},
		"the same twice": {
			"outboxes: [{table: outbox}, {table: public.outbox}]",
			[]string{"outboxes[1].table", "is that of outboxes[0] as well"},
		},
		"both forms":        {"outbox: {table: a}\noutboxes: [{table: b}]", []string{"outbox (", "make it an entry of outboxes"}},
		"unknown key":       {"outboxes: [{table: a, tabel: b}]", []string{"outboxes[0].tabel", "did you mean outboxes[].table?"}},
		"unknown inner key": {"outboxes: [{table: a, columns: {idd: b}}]", []string{"outboxes[0].columns.idd", "unknown key"}},
		"a value of its type": {
			"outboxes: [{table: a, cleanup: {mode: delete, retention: long}}]",
			[]string{"outboxes[0].cleanup.retention", "write a duration"},
		},
		"bounds": {"outboxes: [{table: a, max_row_bytes: 1}]", []string{"outboxes[0].max_row_bytes", "must be at least 1KiB"}},
		"enumeration": {
			"outboxes: [{table: a, poison: ignore}]",
			[]string{"outboxes[0].poison", "use stop, dead-letter or an empty value"},
		},
		"extension": {"outboxes: [{table: a, extensions: {Tenant: t}}]", []string{"outboxes[0].extensions.Tenant", "lower-case"}},
		"source":    {"outboxes: [{table: a, source: 'a b'}]", []string{"outboxes[0].source", "not a URI-reference"}},
		"topic":     {"outboxes: [{table: a, topic: '{tenant}'}]", []string{"outboxes[0].topic", "unknown placeholder {tenant}"}},
		"route": {
			"outboxes: [{table: a, routes: [{topic: b}]}]",
			[]string{"outboxes[0].routes[0].aggregate_type", "a route needs a pattern"},
		},
		"time column": {
			"outboxes: [{table: a, cleanup: {mode: delete}}]",
			[]string{"outboxes[0].cleanup.time_column", "outboxes[0].columns.time"},
		},
		"not for every table": {
			"outboxes: [{table: a, extensions: {tenantid: t}}, {table: b}]\nkafka: {topic: '{tenantid}'}",
			[]string{"kafka.topic", "unknown placeholder {tenantid}"},
		},
		"no list": {"outboxes: {table: a}", []string{"outboxes", "a list is expected here"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := loadText(t, c.text)
			require.Error(t, err)
			for _, says := range c.says {
				assert.Contains(t, err.Error(), says)
			}
		})
	}
}
