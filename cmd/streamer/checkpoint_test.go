package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestCheckpointSet(t *testing.T) {
	t.Parallel()
	for _, store := range []string{"kafka", "postgres", "file"} {
		t.Run(store, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(t.TempDir(), "checkpoint")
			r := newSlot(t, true, "STREAMER_CHECKPOINT_STORE="+store,
				"STREAMER_CHECKPOINT_FILE_PATH="+file, "STREAMER_CHECKPOINT_KAFKA_REPLICATION_FACTOR=1")
			r.createTopic(r.topic+".order", 1)
			r.insert("order", "1", "skipped", "{}")

			dry := r.execute("checkpoint", "set", "end")
			assert.Equal(t, exitRefused, dry.code)
			assert.Contains(t, dry.stderr, "--yes")
			assert.Contains(t, dry.stdout, "none that can be used")
			assert.Equal(t, exitFailed, r.execute("checkpoint", "show").code, "nothing was stored")

			done := r.execute("checkpoint", "set", "end", "--yes")
			require.Zero(t, done.code, done.stderr)
			stop := r.stream()
			refused := r.execute("checkpoint", "set", "slot", "--yes")
			assert.Equal(t, exitRefused, refused.code)
			assert.Contains(t, refused.stderr, "stop it first")
			r.insert("order", "1", "published", "{}")
			tail := r.execute("tail", "--from", "beginning", "--limit", "1")
			assert.Contains(t, tail.stdout, `"type":"published"`)
			stop()
			assert.Regexp(t, `last event +.+, sequence [0-9a-f]{16}-00000001`, r.execute("checkpoint", "show").stdout)

			below := r.execute("checkpoint", "set", "0/1", "--yes")
			assert.Equal(t, exitRefused, below.code)
			assert.Contains(t, below.stderr, "outbox table")
			assert.Equal(t, exitUsage, r.execute("checkpoint", "set", "yesterday", "--yes").code)
			if store == "file" {
				require.NoError(t, os.WriteFile(file, []byte("torn"), 0o600))
				torn := r.execute("checkpoint", "set", "slot", "--yes")
				require.Zero(t, torn.code, torn.stderr)
				assert.Contains(t, torn.stdout, "damaged")
				assert.Zero(t, r.execute("checkpoint", "show").code)
			}
		})
	}
}
