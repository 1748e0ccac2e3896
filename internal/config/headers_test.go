package config

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const compatibleText = "cloudevents: {compatibility: debezium-connect}\n" +
	"outbox: {null_payload: tombstone, headers: {eventType: type, x.y-z: tenant}}\n"

// Names of headers keep their case, wherever they are set.
func TestHeaders(t *testing.T) {
	t.Parallel()
	loaded, err := loadText(t, compatibleText, "STREAMER_OUTBOX_HEADERS_tenantId=tenant_id")
	require.NoError(t, err)
	assert.Equal(t, map[string]string{"eventType": "type", "x.y-z": "tenant", "tenantId": "tenant_id"}, loaded.Config.Outbox.Headers)
	var text bytes.Buffer
	require.NoError(t, WriteEffective(&text, loaded, FormatYAML))
	again, err := loadText(t, text.String())
	require.NoError(t, err, text.String())
	assert.Equal(t, loaded.Config, again.Config)

	loaded, err = Load(Options{Flags: map[string]string{"outbox.headers.eventType": "type", "outbox.headers.x-Y_z": "tenant"}})
	require.NoError(t, err)
	assert.Equal(t, map[string]string{"eventType": "type", "x-Y_z": "tenant"}, loaded.Config.Outbox.Headers)
}

func TestProblemsOfHeaders(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		text string
		says []string
	}{
		"ours":           {"outbox: {headers: {Content-Type: a}}", []string{"outbox.headers.Content-Type", "writes this header itself"}},
		"of CloudEvents": {"outbox: {headers: {ce_tenant: a}}", []string{"outbox.headers.ce_tenant", "outbox.extensions"}},
		"read back":      {"outboxes: [{table: a, headers: {streamer-x: a}}]", []string{"outboxes[0].headers.streamer-x"}},
		"no name":        {"outbox: {headers: {'': a}}", []string{"outbox.headers.", "one or more characters"}},
		"control":        {`outbox: {headers: {"a\n": a}}`, []string{"without control characters"}},
		"no column":      {"outbox: {headers: {a: ''}}", []string{"outbox.headers.a", "1 to 63 bytes"}},
		"of messages":    {"outboxes: [{messages: a, headers: {a: b}}]", []string{"outboxes[0].headers", "is for a table"}},
		"id twice": {
			compatibleText + "outboxes: [{table: a, null_payload: tombstone, headers: {id: b}}]", []string{"outboxes[0].headers.id"},
		},
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
	_, err := loadText(t, "outbox: {headers: {id: id}}")
	require.NoError(t, err, "free without compatibility")
}

// What Debezium's consumers would not understand is refused.
func TestProblemsOfCompatibility(t *testing.T) {
	t.Parallel()
	const compatible = "cloudevents: {compatibility: debezium-server}\n"
	for name, c := range map[string]struct {
		text string
		says []string
	}{
		"structured": {
			"cloudevents: {compatibility: debezium-server, mode: structured}\noutbox: {null_payload: tombstone}",
			[]string{"cloudevents.mode", "takes the value for the payload"},
		},
		"JSON null": {compatible, []string{"outbox.null_payload", "use tombstone"}},
		"partitioner": {
			compatible + "outbox: {null_payload: tombstone}\nkafka: {partitioner: crc32}", []string{"kafka.partitioner", "use murmur2"},
		},
		"messages": {
			compatible + "outboxes: [{messages: a, null_payload: tombstone}]", []string{"outboxes[0].messages", "reads tables only"},
		},
		"pointer": {
			compatible + "outbox: {null_payload: tombstone, headers: {a: b#/c}, columns: {id: d#/e}}",
			[]string{"outbox.headers.a", "outbox.columns.id", "without a JSON pointer"},
		},
		"route": {
			compatible + "outbox: {null_payload: tombstone}\nroutes: [{aggregate_type: a, mode: structured, null_payload: empty_object}]",
			[]string{"routes[0].mode", "routes[0].null_payload"},
		},
		"unknown": {"cloudevents: {compatibility: debezium}", []string{"use debezium-connect, debezium-server or an empty value"}},
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
	_, err := loadText(t, compatible+"outbox: {null_payload: tombstone_if_blank}\nroutes: [{aggregate_type: a, topic: b}]")
	require.NoError(t, err)
}
