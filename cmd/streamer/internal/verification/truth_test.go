package verification

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/internal/failure"
)

func TestRecording(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.insert("order", "1", "2")
	r.publish()
	file := filepath.Join(t.TempDir(), "truth.jsonl")
	record := func(c *Command) { c.Record, c.JSON = file, false }
	o := r.verify(record)
	require.NoError(t, o.err)
	assert.Contains(t, o.printed, "2 rows of public.outbox in "+file)
	recorded, err := os.ReadFile(file)
	require.NoError(t, err)
	assert.NotContains(t, string(recorded), "secret")

	o = r.verify(record)
	assert.Equal(t, failure.Misconfigured, failure.ClassOf(o.err))
	require.ErrorIs(t, o.err, os.ErrExist)
	again, err := os.ReadFile(file)
	require.NoError(t, err)
	assert.Equal(t, recorded, again, "nothing is overwritten")
	o = r.verify(func(c *Command) { c.Record, c.JSON = filepath.Join(file, "none"), false })
	assert.Equal(t, failure.Misconfigured, failure.ClassOf(o.err))
	require.ErrorContains(t, o.err, "--record")

	// Neither the rows nor the database are needed any more.
	r.exec("delete from outbox")
	r.settings["postgres.dsn"] = "postgres://nobody@127.0.0.1:1/none"
	truth := func(c *Command) { c.Truth = file }
	o = r.verify(truth).finds().notes(0)
	assert.EqualValues(t, 2, o.summary.Published)
	assert.Equal(t, file, o.summary.Truth)
	assert.Empty(t, o.summary.Table)

	lost := `{"id": "3", "topic": "events.order"}` + "\n"
	require.NoError(t, os.WriteFile(file, []byte(string(recorded)+string(recorded)+lost), 0o600))
	o = r.verify(truth).finds("missing 3")
	assert.EqualValues(t, 3, o.summary.Rows, "overlapping recordings")
	header, _, _ := strings.Cut(string(recorded), "\n")
	require.NoError(t, os.WriteFile(file, []byte(header+"\n"), 0o600))
	r.verify(truth).finds("phantom 1", "phantom 2")
}

// A recording that another program wrote need not tell the stream.
func TestRecordingWithoutStream(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.insert("order", "1")
	r.publish()
	file := filepath.Join(t.TempDir(), "truth.jsonl")
	require.NoError(t, os.WriteFile(file, []byte(`{"id": "1", "topic": "events.order"}`), 0o600))
	truth := func(c *Command) { c.Truth = file }
	r.verify(truth).finds().notes(1, `slot "`+r.slot+`"`)
	r.settings["postgres.dsn"] = "postgres://nobody@127.0.0.1:1/none"
	require.ErrorContains(t, r.verify(truth).err, "connect to PostgreSQL")
}

func TestRecordingsThatAreNone(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for name, c := range map[string]struct{ content, says string }{
		"no lines of it":   {"id,topic\n", "line 1"},
		"of the future":    {`{"streamer_truth": 99}`, "99"},
		"no position":      {`{"streamer_truth": 1, "opened_lsn": "x"}`, "opened_lsn"},
		"no hash":          {`{"streamer_truth": 1, "streams": ["s"]}` + "\n" + `{"id": "1", "payload_sha256": "x"}`, `event "1"`},
		"not even there":   {"", "--truth"},
		"damaged, further": {`{"streamer_truth": 1, "streams": ["s"]}` + "\n{\n", "line 2"},
	} {
		file := filepath.Join(t.TempDir(), "truth.jsonl")
		if c.content != "" {
			require.NoError(t, os.WriteFile(file, []byte(c.content), 0o600))
		}
		o := r.verify(func(c *Command) { c.Truth = file })
		assert.Equal(t, failure.Misconfigured, failure.ClassOf(o.err), "%s: %v", name, o.err)
		assert.ErrorContains(t, o.err, c.says, name)
	}
}

// What an attempt that failed leaves behind would pass for a recording, and keep
// the next attempt from writing the file.
func TestRecordingThatFails(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.insert("order", "1")
	file := filepath.Join(t.TempDir(), "truth.jsonl")
	record := func(c *Command) { c.Record, c.JSON = file, false }
	r.exec("alter table outbox rename to elsewhere")
	o := r.verify(record)
	assert.Equal(t, failure.Refused, failure.ClassOf(o.err))
	require.ErrorContains(t, o.err, "public.outbox")
	assert.NoFileExists(t, file)
	r.exec("alter table elsewhere rename to outbox")
	require.NoError(t, r.verify(record).err)
	assert.FileExists(t, file)

	r.settings["postgres.dsn"] = "postgres://nobody@127.0.0.1:1/none"
	require.ErrorContains(t, r.verify(record).err, "connect to PostgreSQL")
	assert.FileExists(t, file, "that of another attempt stays")
}
