package e2e

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/IBM/sarama"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/checkpoint"
	"github.com/outboxstream/streamer/internal/testserver"
)

// The two instances are replaced one after the other, as the page says.
// TestUpgrade in e2e/faults does it with another version.
func TestUpgradeOneAfterTheOther(t *testing.T) {
	t.Parallel()
	r := newRig(t, outboxTable)
	page := r.follow("upgrade.md")
	ports, err := testserver.FreePorts(1)
	require.NoError(t, err)
	elsewhere := fmt.Sprintf("http.listen=127.0.0.1:%d", ports[0])
	active := r.startReady()
	const total = 4000
	wait := r.load(total)
	page.section("## Before").does("streamer doctor")

	standby := r.start(elsewhere)
	standby.logged("standing by")
	require.Zero(t, active.stop())
	standby.logged("msg=streaming")
	active = standby
	standby = r.start()
	standby.logged("standing by")
	wait()
	r.requireOnce(active, total)
	r.confirmed(active)
	assert.Contains(t, page.section("## Check").does("streamer verify"), "findings   none")
	assert.Zero(t, standby.stop())
	assert.Zero(t, active.stop())
}

// A checkpoint of a newer format is refused by name, whichever store holds it, and
// stays as it is.
func TestCheckpointOfANewerFormat(t *testing.T) {
	t.Parallel()
	for _, store := range []string{"kafka", "postgres", "file"} {
		t.Run(store, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, outboxTable, withStore(store)).withPassword()
			p := r.startReady()
			r.numbered("o1", 1, 2)
			r.published(p, "o1", 1, 2)
			require.Zero(t, p.stop())
			r.editCheckpoint(`"version":1`, `"version":99`)
			for range 2 {
				r.start().refused(exitRefused, checkpoint.ErrFuture.Error(), "format 99, but this streamer reads up to 3",
					"fix: run the newer version")
			}
			r.notices("FAIL", "checkpoint", "format 99", "run the newer version")
			for _, command := range [][]string{{"checkpoint", "show"}, {"checkpoint", "set", "slot"}} {
				output, code := r.command(command...)
				assert.Equal(t, exitRefused, code, output)
				assert.Contains(t, output, "format 99")
			}
			if store == "postgres" { // one way out, and the other
				output, code := r.command("checkpoint", "set", "slot", "--yes", "--set", "outbox.cleanup.mode=none")
				require.Zero(t, code, output)
			} else {
				r.editCheckpoint(`"version":99`, `"version":1`)
			}
			p = r.startReady()
			r.numbered("o1", 3)
			r.published(p, "o1", 1, 2, 3)
			assert.Zero(t, p.stop())
		})
	}
}

// editCheckpoint replaces a text in the stored checkpoint.
func (r *rig) editCheckpoint(old, with string) {
	r.t.Helper()
	edit := func(stored []byte) []byte {
		require.Contains(r.t, string(stored), old)
		return []byte(strings.Replace(string(stored), old, with, 1))
	}
	switch r.store {
	case "kafka":
		messages, err := r.kafka.Consume(r.t.Context(), "checkpoints-"+r.prefix)
		require.NoError(r.t, err)
		messages = slices.DeleteFunc(messages, func(m *sarama.ConsumerMessage) bool { return len(m.Value) == 0 })
		require.NotEmpty(r.t, messages)
		last := messages[len(messages)-1]
		last.Value = edit(last.Value)
		r.put(again(last))
	case "postgres":
		var stored string
		require.NoError(r.t, r.db.QueryRow(r.t.Context(), "select record from streamer_checkpoint").Scan(&stored))
		r.exec("update streamer_checkpoint set record = $1", string(edit([]byte(stored))))
	case "file":
		stored, err := os.ReadFile(r.checkpointFile())
		require.NoError(r.t, err)
		r.writeCheckpoint(edit(stored))
	}
}
