package main

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/internal/kafkatest"
	"github.com/outboxstream/streamer/router"
)

func (r *rig) preview(more ...string) []router.Rendering {
	r.t.Helper()
	got := r.execute(append([]string{"preview"}, more...)...)
	require.Zero(r.t, got.code, got.stderr)
	return lines[router.Rendering](r.t, got.stdout)
}

func (r *rig) createTopic(name string, partitions int) {
	r.t.Helper()
	require.NoError(r.t, kafkatest.Shared(r.t).CreateTopic(r.t.Context(), name, partitions, nil))
}

// TestPreviewIsWhatIsPublished compares what preview shows with what a consumer
// finds after the streamer has run.
func TestPreviewIsWhatIsPublished(t *testing.T) {
	t.Parallel()
	for name, environ := range map[string][]string{
		"binary mode":     {"STREAMER_CLOUDEVENTS_MODE=binary"},
		"structured mode": {"STREAMER_CLOUDEVENTS_MODE=structured"},
		"binary columns":  {"STREAMER_POSTGRES_BINARY=true", "STREAMER_KAFKA_PARTITIONER=crc32"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newSlot(t, true, environ...)
			r.createTopic(r.topic+".order", 4)
			r.createTopic(r.topic+".customer", 1)
			for i := range 12 {
				r.insert("order", fmt.Sprint("order-", i), "OrderPlaced", fmt.Sprintf(`{"n": %d, "html": "<a&b>", "big": 12345678901234567890.10}`, i))
			}
			r.insert("customer", "ü", "CustomerMoved", `"text"`)

			previewed := r.preview("--limit", "0")
			require.Len(t, previewed, 13)
			assert.Equal(t, previewed, r.preview("--limit", "0"), "nothing is consumed")
			assert.Contains(t, string(previewed[0].Event), `"big":12345678901234567890.10`)

			stop := r.stream()
			got := r.execute("tail", "--from", "beginning", "--limit", "13")
			stop()
			require.Zero(t, got.code, got.stderr)
			published := map[string]router.Rendering{}
			for _, line := range lines[router.Rendering](t, got.stdout) {
				require.NotNil(t, line.Offset)
				line.Offset = nil
				published[*line.Key] = line
			}
			for _, line := range previewed {
				assert.Equal(t, published[*line.Key], line)
			}
			assert.Empty(t, r.preview(), "everything has been confirmed")
		})
	}
}

func TestPreviewExitCodes(t *testing.T) {
	t.Parallel()
	r := newSlot(t, true)
	r.createTopic(r.topic+".order", 1)
	for range 11 {
		r.insert("order", "1", "T", "{}")
	}
	assert.Len(t, r.preview("--limit", "0"), 11)
	assert.Len(t, r.preview(), 10, "unless told otherwise")
	stop := r.stream()
	got := r.execute("preview")
	assert.Equal(t, exitFailed, got.code, "in use")
	assert.Contains(t, got.stderr, "streamer tail")
	stop()
	r.exec("select pg_drop_replication_slot($1)", r.slot)
	got = r.execute("preview")
	assert.Equal(t, exitRefused, got.code, "missing")
	assert.Contains(t, got.stderr, "streamer setup")
}
