package faults

import (
	"cmp"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/internal/testserver"
)

// previous is the build that is upgraded from, and to which the streamer goes
// back: STREAMER_PREVIOUS, or a commit of November 2026.
var previous = cmp.Or(os.Getenv("STREAMER_PREVIOUS"), "14ca68c41a67bdc672837d72f18069290e191594")

// TestUpgrade replaces the streamer by a previous build and back, with the stream
// running, under load, with a standby. Nothing is lost, repeated or refused.
func TestUpgrade(t *testing.T) {
	testserver.Long(t)
	t.Parallel()
	old := buildPrevious(t)
	for _, store := range []string{"kafka", "postgres", "file"} {
		t.Run(store, func(t *testing.T) {
			t.Parallel()
			settings, _ := stored(store)
			started := map[string]int{}
			play(t, fault{
				name: "upgrade", what: "versions alternate", group: processGroup, settings: settings, times: func() int { return 24 },
				prepare: (*run).second,
				strike:  func(r *run) { started[r.alternate(old)]++ },
				judge: func(r *run, f findings) {
					assert.Zero(r.t, f, "the audit of %d events", r.result.Events)
					assert.Positive(r.t, started[old], "starts of the previous build")
					assert.Positive(r.t, started[binary], "starts of this build")
					r.requireNoRefusal()
				},
			}, "", false)
		})
	}
}

// alternate kills or stops one of the two instances, starts the other build in its
// place, and waits until events flow. It returns the build.
func (r *run) alternate(old string) (program string) {
	r.t.Helper()
	s := r.instances()[r.random.IntN(2)]
	if r.random.IntN(3) > 0 {
		s = r.holder()
	}
	program = old
	if s.program == old {
		program = binary
	}
	s.replace(program)
	r.moment(0, 600)
	if r.random.IntN(3) > 0 {
		s.kill()
		r.result.Kills++
	} else {
		assert.Equal(r.t, exitFine, s.end(syscall.SIGTERM), "exit code of a graceful stop")
		s.start()
	}
	r.progress()
	return program
}

// requireNoRefusal requires that every process was killed or has ended cleanly.
func (r *run) requireNoRefusal() {
	r.t.Helper()
	for _, s := range r.instances() {
		s.mu.Lock()
		for _, code := range s.codes {
			assert.Contains(r.t, []int{exitFine, exitSignal}, code, "exit codes %v", s.codes)
		}
		s.mu.Unlock()
		for line := range strings.Lines(s.log()) {
			assert.NotContains(r.t, line, "level=ERROR")
		}
	}
}

// buildPrevious builds the previous streamer from the history of this clone.
func buildPrevious(t *testing.T) string {
	t.Helper()
	folder := t.TempDir()
	source, program := filepath.Join(folder, "source"), filepath.Join(folder, "streamer-previous")
	require.NoError(t, os.Mkdir(source, 0o755))
	archive := exec.CommandContext(t.Context(), "bash", "-c", `set -o pipefail; git archive "$0" | tar -x -C "$1"`, previous, source)
	archive.Dir = "../.."
	output, err := archive.CombinedOutput()
	require.NoError(t, err, "commit %s is not in this clone: fetch the whole history, or name another one in STREAMER_PREVIOUS\n%s",
		previous, output)
	require.NoError(t, testserver.Build(t.Context(), source, "./cmd/streamer", program))
	return program
}
