package e2e

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestSnapshotKilledAtItsEnd kills a streamer where the snapshot becomes the
// stream: when all old rows are in Kafka and nothing says so yet, and when the
// checkpoint says so and the stream has not begun. Each time it is killed once
// more while it starts again.
func TestSnapshotKilledAtItsEnd(t *testing.T) {
	t.Parallel()
	const old, each = 600, 6
	for name, moment := range map[string]func(r *rig) bool{
		"all published": func(r *rig) bool { return len(r.records("order")) >= old },
		"stored": func(r *rig) bool {
			stored, err := os.ReadFile(r.checkpointFile())
			return err == nil && bytes.Contains(stored, []byte(`"finished"`))
		},
	} {
		for n := range each {
			t.Run(fmt.Sprint(name, n), func(t *testing.T) {
				t.Parallel()
				r := newSnapshotRig(t, old, withStore("file"), withConfig("snapshot.chunk_rows=200"))
				stop := r.writeLive(old)
				p := r.start()
				for deadline := time.Now().Add(patience); !moment(r); { // each look takes a moment itself
					require.True(t, time.Now().Before(deadline), p.log)
				}
				p.kill()
				p = r.start()
				killAfter(p, time.Duration(rand.Int64N(int64(300*time.Millisecond))))
				p = r.startReady()
				end := stop()
				r.confirmed(p)
				r.seam(old, end)
				assert.Equal(t, 0, p.stop())
			})
		}
	}
}

// killAfter kills a process at a moment that nothing announces.
func killAfter(p *process, moment time.Duration) {
	<-time.After(moment)
	p.kill()
}
