package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/internal/kafkatest"
	"github.com/outboxstream/streamer/internal/pgtest"
	"github.com/outboxstream/streamer/router"
)

// shownLine is a line of preview.
type shownLine struct {
	router.Rendering
	Poison string `json:"poison"`
}

func (r *rig) preview(more ...string) []shownLine {
	r.t.Helper()
	got := r.execute(append([]string{"preview"}, more...)...)
	require.Zero(r.t, got.code, got.stderr)
	return lines[shownLine](r.t, got.stdout)
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
				assert.Equal(t, published[*line.Key], line.Rendering)
			}
			assert.Empty(t, r.preview(), "everything has been confirmed")
		})
	}
}

func TestPreview(t *testing.T) {
	t.Parallel()
	t.Run("shows poison rows and goes on", func(t *testing.T) {
		t.Parallel()
		r := newSlot(t, false)
		r.exec("insert into outbox (aggregatetype, aggregateid, type, payload) values ('order', '1', null, '{}')")
		r.insert("not a topic", "2", "T", "{}")
		r.insert("order", "3", "T", "{}")
		got := r.preview()
		require.Len(t, got, 3)
		assert.Contains(t, got[0].Poison, `column "type": value is NULL`)
		assert.Contains(t, got[1].Poison, "characters that Kafka does not take")
		assert.Empty(t, got[2].Poison)
		assert.Equal(t, r.topic+".order", got[2].Topic)
	})
	t.Run("without Kafka leaves the partition open and says so", func(t *testing.T) {
		t.Parallel()
		r := newSlot(t, false)
		r.insert("order", "1", "T", "{}")
		r.insert("order", "2", "T", "{}")
		got := r.execute("preview")
		require.Zero(t, got.code, got.stderr)
		assert.Equal(t, 1, strings.Count(got.stderr, "partitions are not known"), got.stderr)
		assert.Equal(t, 2, strings.Count(got.stdout, `"partition":null`), got.stdout)
	})
	t.Run("stops at the limit, behind many rows that are not ours", func(t *testing.T) {
		t.Parallel()
		r := newSlot(t, false)
		r.exec("create table other (id int)")
		r.exec(`alter publication "` + r.slot + `" add table other`)
		for range 3 {
			r.exec("insert into other select generate_series(1, 500)")
			r.insert("order", "1", "T", "{}")
		}
		assert.Len(t, r.preview("--limit", "2"), 2)
		assert.Len(t, r.preview("--limit", "5"), 3)
	})
	t.Run("reads a database without an encoding", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, false)
		r.dsn = pgtest.New(t, pgtest.Options{Encoding: "SQL_ASCII"}).CreateDatabase(t)
		r.environ = append(r.environ, "STREAMER_POSTGRES_DSN="+r.dsn)
		var err error
		r.conn, err = pgx.Connect(t.Context(), r.dsn)
		require.NoError(t, err)
		r.makeSlot()
		r.insert("order", "1", "T", "{}")
		r.exec(`insert into outbox (aggregatetype, aggregateid, type, payload) values ('order', convert_from('\xff', 'SQL_ASCII'), 'T', '{}')`)
		got := r.preview()
		require.Len(t, got, 2)
		assert.Equal(t, "1", *got[0].Key)
		assert.Contains(t, got[1].Poison, "not valid UTF-8")
	})
	t.Run("says that nothing waits", func(t *testing.T) {
		t.Parallel()
		r := newSlot(t, false)
		got := r.execute("preview")
		assert.Zero(t, got.code)
		assert.Contains(t, got.stderr, "nothing waits in slot "+r.slot)
	})
	t.Run("refuses a slot in use", func(t *testing.T) {
		t.Parallel()
		r := newSlot(t, true)
		r.stream()
		got := r.execute("preview")
		assert.Equal(t, exitFailed, got.code)
		assert.Contains(t, got.stderr, "in use by another client")
		assert.Contains(t, got.stderr, "streamer tail")
	})
	t.Run("refuses a missing slot", func(t *testing.T) {
		t.Parallel()
		r := newSlot(t, false)
		r.exec("select pg_drop_replication_slot($1)", r.slot)
		got := r.execute("preview")
		assert.Equal(t, exitRefused, got.code)
		assert.Contains(t, got.stderr, "streamer setup")
	})
}
