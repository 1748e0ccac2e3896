package verify

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/replication"
	"github.com/outboxstream/streamer/router/kafka"
	"github.com/outboxstream/streamer/router/wire"
)

func TestReadHead(t *testing.T) {
	t.Parallel()
	r := sampleRecord(1, "x")
	head, ok := ReadHead(r)
	require.True(t, ok)
	assert.Equal(t, sampleID(1), string(head.ID))
	assert.Equal(t, replication.Position{Commit: 0x1001, Ordinal: 1}, head.Position)
	assert.False(t, head.Late())
	assert.False(t, head.Snapshot)
	r.Headers = append(r.Headers, headers(wire.ReplayHeader, "dead-letter", "ce_snapshot", "x")...)
	head, ok = ReadHead(r)
	require.True(t, ok)
	assert.Equal(t, "dead-letter", string(head.Replay))
	assert.True(t, head.Late())
	assert.True(t, head.Snapshot)

	const structured = "application/cloudevents+json"
	for name, r := range map[string]*kafka.LogRecord{
		"of another program":  {Headers: headers("ce_id", "1")},
		"a dead letter":       {Headers: headers(wire.StreamHeader, "s", wire.DeadLetterHeader, "too_large", "ce_id", "1", "ce_sequence", "x")},
		"no ID":               {Headers: headers(wire.StreamHeader, "s")},
		"no position":         {Headers: headers(wire.StreamHeader, "s", "ce_id", "1", "ce_sequence", "x")},
		"a tombstone":         {Headers: headers(wire.StreamHeader, "s", "content-type", structured)},
		"a damaged document":  {Headers: headers(wire.StreamHeader, "s", "content-type", structured), Value: []byte("{")},
		"a document of no ID": {Headers: headers(wire.StreamHeader, "s", "content-type", structured), Value: []byte("{}")},
	} {
		_, ok := ReadHead(r)
		assert.False(t, ok, name)
	}
}
