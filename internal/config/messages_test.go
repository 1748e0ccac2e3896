package config

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestMessages(t *testing.T) {
	t.Parallel()
	loaded, err := loadText(t, "outbox: {messages: orders, defaults: {aggregate_type: order}}")
	require.NoError(t, err)
	o := loaded.Config.Tables()[0]
	assert.Equal(t, "messages:orders", o.Name())
	assert.Empty(t, o.Table)
	assert.Equal(t, "content#/subject", o.Columns.AggregateID)
	assert.Contains(t, loaded.Config.Placeholders(), "table")
	assert.NotContains(t, loaded.Config.Placeholders(), "schema")

	loaded, err = loadText(t, "outboxes: [{table: outbox}, {messages: orders, topic: 'orders.{source}'}, "+
		"{messages: stock, poison: dead-letter}]")
	require.NoError(t, err)
	assert.Equal(t, "public.outbox", loaded.Config.Tables()[0].Name())
	assert.Equal(t, "orders.{source}", loaded.Config.Tables()[1].Topic)

	var text bytes.Buffer
	require.NoError(t, WriteEffective(&text, loaded, FormatYAML))
	again, err := loadText(t, text.String())
	require.NoError(t, err, text.String())
	assert.Equal(t, loaded.Config, again.Config)
}

func TestProblemsOfMessages(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ text, key, says string }{
		"characters":       {"outbox: {messages: 'a b'}", "outbox.messages", "letters, digits"},
		"too long":         {"outbox: {messages: " + string(bytes.Repeat([]byte("x"), 64)) + "}", "outbox.messages", "1 to 63"},
		"own prefix":       {"outbox: {messages: Streamer}", "outbox.messages", "the streamer writes messages with this prefix itself"},
		"others' prefix":   {"outbox: {messages: debezium-heartbeat}", "outbox.messages", "choose one that is only yours"},
		"a table as well":  {"outbox: {messages: orders, table: orders}", "outbox.table", "remove one of the two"},
		"columns":          {"outbox: {messages: orders, columns: {id: no}}", "outbox.columns", "remove one of the two"},
		"extensions":       {"outbox: {messages: orders, extensions: {tenantid: tenant}}", "outbox.extensions", "remove one of the two"},
		"preset":           {"outbox: {messages: orders, preset: rails}", "outbox.preset", "remove one of the two"},
		"clean-up":         {"outbox: {messages: orders, cleanup: {mode: delete}}", "outbox.cleanup.mode", "remove one of the two"},
		"default type":     {"outbox: {messages: orders, defaults: {type: t}}", "outbox.defaults.type", "every message says it"},
		"blank default":    {"outbox: {messages: orders, defaults: {aggregate_id: ' '}}", "outbox.defaults.aggregate_id", "blank values"},
		"schema":           {"outbox: {messages: orders, topic: '{schema}'}", "outbox.topic", "unknown placeholder {schema}"},
		"shards":           {"outbox: {messages: orders}\nshard: {count: 2}", "outbox.messages", "use one shard, or a table"},
		"snapshot":         {"outbox: {messages: orders}\nsnapshot: {mode: initial, order_by: id}", "snapshot.mode", "only in the WAL"},
		"twice":            {"outboxes: [{messages: a}, {messages: a}]", "outboxes[1].messages", "that of outboxes[0] as well"},
		"neither":          {"outboxes: [{source: /a}]", "outboxes[0].table", "write schema.table"},
		"shards, entries":  {"outboxes: [{table: a}, {messages: a}]\nshard: {count: 2}", "outboxes[1].messages", "use one shard, or a table"},
		"a table, entries": {"outboxes: [{table: a, messages: a}]", "outboxes[0].table", "remove one of the two"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := loadText(t, c.text)
			require.Error(t, err)
			assert.Contains(t, err.Error(), c.key+" ")
			assert.Contains(t, err.Error(), c.says)
		})
	}
}
