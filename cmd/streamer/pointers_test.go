package main

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestEverythingReadsPointers takes a table whose values are all inside JSON, and
// whose times are seconds, through what reads rows besides the stream: dead
// letters, verify, replays from the table, and the clean-up.
func TestEverythingReadsPointers(t *testing.T) {
	t.Parallel()
	r := newRig(t, true, "STREAMER_KAFKA_TOPICS_CREATE=true", "STREAMER_POISON_POLICY=dead-letter",
		"STREAMER_OUTBOX_COLUMNS_ID=doc#/id", "STREAMER_OUTBOX_COLUMNS_AGGREGATE_TYPE=doc#/of/type",
		"STREAMER_OUTBOX_COLUMNS_AGGREGATE_ID=doc#/of/id", "STREAMER_OUTBOX_COLUMNS_TYPE=doc#/type", "STREAMER_OUTBOX_COLUMNS_PAYLOAD=doc#/data",
		"STREAMER_OUTBOX_COLUMNS_TIME=at", "STREAMER_OUTBOX_TIME_UNIT=seconds", "STREAMER_OUTBOX_DEFAULTS_AGGREGATE_TYPE=order")
	r.environ = append(r.environ, "STREAMER_POISON_TOPIC="+r.letterTopic())
	r.script("create table outbox (doc text, at integer)")
	require.Zero(t, r.execute("setup").code)
	stop := r.stream()
	const old = "1700000000"
	r.script(`insert into outbox values ('{"id": "a", "of": {"id": "k"}, "type": "T", "data": {"total": 12.50}}', ` + old + `)`)
	r.script(`insert into outbox values ('{"id": "b", "of": {"type": "invoice", "id": "k"}, "data": [1]}', ` + old + `)`)
	r.script(`insert into outbox values ('broken', ` + old + `)`)

	letters := r.awaitLetters(2)
	assert.Equal(t, []string{"b", ""}, []string{letters[0].EventID, letters[1].EventID})
	assert.Equal(t, "invoice", letters[0].AggregateType)
	assert.Contains(t, letters[0].Reason, `column "doc#/type": value is NULL`)
	assert.Contains(t, letters[1].Reason, "value is not JSON")
	verified := r.execute("verify")
	require.Zero(t, verified.code, verified.stdout+verified.stderr)

	// The cause of the first is corrected in the configuration.
	retried := r.execute("dead-letters", "retry", letters[0].ID, "--yes", "--set", "outbox.defaults.type=late")
	require.Zero(t, retried.code, retried.stderr)
	invoice := r.awaitRecords(r.topic+".invoice", 1)[0]
	assert.Equal(t, []string{"late", "2023-11-14T22:13:20Z", "[1]"},
		[]string{headerOf(invoice, "ce_type"), headerOf(invoice, "ce_time"), string(invoice.Value)})

	replayed := r.execute("replay", "--from-table", "--rate", "0")
	require.Zero(t, replayed.code, replayed.stderr)
	again := r.awaitRecords(r.topic+".order", 2)[1]
	assert.Equal(t, []string{"a", "k", `{"total": 12.50}`}, []string{headerOf(again, "ce_id"), string(again.Key), string(again.Value)})
	assert.NotEmpty(t, headerOf(again, "ce_replay"))
	stop()

	r.environ = append(r.environ, "STREAMER_OUTBOX_CLEANUP_MODE=delete", "STREAMER_OUTBOX_CLEANUP_INTERVAL=100ms")
	stop = r.stream()
	require.Eventually(t, func() bool {
		var left int
		err := r.conn.QueryRow(t.Context(), "select count(*) from outbox").Scan(&left)
		return err == nil && left == 0
	}, time.Minute, 100*time.Millisecond)
	stop()
}
