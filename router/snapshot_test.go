package router

import (
	"encoding/json"
	"testing"

	"github.com/IBM/sarama"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/decoder"
	"github.com/outboxstream/streamer/router/kafka"
	"github.com/outboxstream/streamer/router/wire"
)

const snapshotMark, snapshotKey = "2026-11-30T17:28:30Z", `["2026-11-30 17:28:30+00","a"]`

// TestSnapshotMarks makes sure that consumers see what an old row is, and that a
// later start finds its key again.
func TestSnapshotMarks(t *testing.T) {
	t.Parallel()
	for _, mode := range []Mode{Binary, Structured} {
		rules, e := fullRules(mode), full()
		plain := encodeOne(t, rules, e)
		rules.Snapshot, e.SnapshotKey = snapshotMark, []byte(snapshotKey)
		marked := encodeOne(t, rules, e)
		assert.Equal(t, snapshotKey, headerOf(marked, wire.SnapshotKeyHeader), mode)
		assert.Empty(t, headerOf(plain, wire.SnapshotKeyHeader), mode)
		if mode == Binary {
			assert.Equal(t, snapshotMark, headerOf(marked, "ce_snapshot"))
			assert.Len(t, marked.Headers, len(plain.Headers)+2, "nothing else differs")
			assert.Equal(t, plain.Value, marked.Value)
		} else {
			var document map[string]any
			require.NoError(t, json.Unmarshal(marked.Value, &document))
			assert.Equal(t, snapshotMark, document["snapshot"])
			assert.Empty(t, headerOf(marked, "ce_snapshot"), "some clients take any for binary mode")
		}
		w := &reading{ReadBack: ReadBack{StreamID: rules.StreamID}}
		found, ours := w.ours(&kafka.Span{}, marked)
		require.True(t, ours)
		assert.Equal(t, snapshotKey, found.Key)
		assert.Equal(t, e.Position, found.Position)
	}
	letter := DeadLetter{SnapshotKey: []byte(snapshotKey), Payload: decoder.Column{Null: true}}
	var key string
	for _, h := range letter.headers("stream") {
		if string(h.Key) == wire.SnapshotKeyHeader {
			key = string(h.Value)
		}
	}
	assert.Equal(t, snapshotKey, key)
}

func headerOf(r *sarama.Record, name string) string {
	for _, h := range r.Headers {
		if string(h.Key) == name {
			return string(h.Value)
		}
	}
	return ""
}
