package main

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/cmd/streamer/internal/status"
)

func (r *rig) status() status.Report {
	r.t.Helper()
	got := r.execute("status", "--json")
	require.Zero(r.t, got.code, got.stderr)
	var s status.Report
	require.NoError(r.t, json.Unmarshal([]byte(got.stdout), &s))
	return s
}

func TestStatusOfRunningStreamer(t *testing.T) {
	t.Parallel()
	for _, store := range []string{"kafka", "postgres", "file"} {
		t.Run(store, func(t *testing.T) {
			t.Parallel()
			r := newSlot(t, true, "STREAMER_CHECKPOINT_STORE="+store, "STREAMER_CHECKPOINT_FILE_PATH="+filepath.Join(t.TempDir(), "checkpoint"))
			r.createTopic(r.topic+".order", 1)
			before := r.status()
			assert.Nil(t, before.Checkpoint)
			assert.Nil(t, before.Streamer)
			assert.False(t, before.Slot.Active)
			assert.Len(t, before.Unknown, 2, before.Unknown)

			r.stream()
			for range 3 {
				r.insert("order", "1", "T", "{}")
			}
			var s status.Report
			require.Eventually(t, func() bool {
				s = r.status()
				return s.Streamer != nil && s.Streamer.Topics[r.topic+".order"].Events == 3
			}, 30*time.Second, 100*time.Millisecond)
			assert.Empty(t, s.Unknown)
			assert.True(t, s.Streamer.Ready)
			assert.Equal(t, "streaming", s.Streamer.Phase)
			assert.Positive(t, s.Streamer.Topics[r.topic+".order"].Bytes)
			assert.True(t, s.Slot.Active)
			require.NotNil(t, s.Checkpoint)
			assert.Equal(t, r.slot, s.Checkpoint.Slot)
			assert.Equal(t, s.Server.SystemID, s.Checkpoint.SystemID)

			table := r.execute("status")
			assert.Zero(t, table.code)
			assert.Contains(t, table.stdout, r.topic+".order: 3 events")
			assert.Contains(t, table.stdout, "streaming")

			shown := r.execute("checkpoint", "show", "--json")
			require.Zero(t, shown.code, shown.stderr)
			var c status.Checkpoint
			require.NoError(t, json.Unmarshal([]byte(shown.stdout), &c))
			assert.Equal(t, s.Checkpoint.Store, c.Store)
			assert.Equal(t, r.slot, c.Slot)
			assert.NotEqual(t, "0/0", c.LSN)
			assert.Contains(t, r.execute("checkpoint", "show").stdout, "kept in")

			healthy := r.execute("doctor")
			assert.Zero(t, healthy.code, healthy.stdout)
			for line := range strings.Lines(healthy.stdout) { // a single broker has a single replica
				assert.True(t, strings.HasPrefix(line, "ok ") || strings.Contains(line, "replication factor 1"), line)
			}
			assert.Zero(t, r.execute("health").code)
		})
	}
}

// The lag in transactions is known from the checkpoint, even when no streamer
// runs.
func TestStatusCountsTransactions(t *testing.T) {
	t.Parallel()
	r := newSlot(t, true, "STREAMER_CHECKPOINT_STORE=postgres")
	r.createTopic(r.topic+".order", 1)
	stop := r.stream()
	require.Eventually(t, func() bool {
		r.insert("order", "1", "T", "{}")
		return r.status().Slot.LagTransactions != nil
	}, 30*time.Second, 100*time.Millisecond)
	stop()
	before := *r.status().Slot.LagTransactions
	const committed = 40
	for range committed {
		r.insert("order", "1", "T", "{}")
	}
	after := r.status().Slot.LagTransactions
	require.NotNil(t, after)
	assert.GreaterOrEqual(t, *after, before+committed, "others write to the same server")
	assert.Regexp(t, `lag .*, some \d+ transactions`, r.execute("status").stdout)
}

func TestStatusWithoutServers(t *testing.T) {
	t.Parallel()
	got := execute(t, []string{"STREAMER_POSTGRES_DSN=postgres://nobody@127.0.0.1:1/none", "STREAMER_HTTP_LISTEN="}, "status")
	assert.Equal(t, exitFailed, got.code)
	assert.Contains(t, got.stdout, "unknown")
	assert.Contains(t, got.stderr, "connect to PostgreSQL")
}

func TestCheckpointShowRefuses(t *testing.T) {
	t.Parallel()
	r := newSlot(t, false, "STREAMER_CHECKPOINT_STORE=postgres")
	none := r.execute("checkpoint", "show")
	assert.Equal(t, exitFailed, none.code)
	assert.Contains(t, none.stderr, "does not exist: no checkpoint is stored")
	var tables int
	require.NoError(t, r.conn.QueryRow(t.Context(), "select count(*) from pg_tables where tablename = 'streamer_checkpoint'").Scan(&tables))
	assert.Zero(t, tables, "looking creates nothing")

	require.Zero(t, r.execute("setup", "--set", "kafka.topic=t", "--set", "checkpoint.store=postgres").code&exitUsage)
	r.exec("insert into streamer_checkpoint (key, record, saved_at) select current_database() || '/' || $1, 'rubbish', now()", r.slot)
	torn := r.execute("checkpoint", "show")
	assert.Equal(t, exitRefused, torn.code)
	assert.Contains(t, torn.stderr, "damaged")
}
