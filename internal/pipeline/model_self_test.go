package pipeline

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/internal/mutation"
	"github.com/outboxstream/streamer/internal/testserver"
)

// TestModelNotices reverts one fix at a time, and lets the model look for the
// bug. A model that does not find it proves nothing.
func TestModelNotices(t *testing.T) {
	t.Parallel()
	testserver.Long(t)
	binary := filepath.Join(t.TempDir(), "model")
	build := exec.CommandContext(t.Context(), "go", "test", "-c", "-trimpath", "-tags", "mutation", "-o", binary, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0") // as testserver.Build does, so that nothing is compiled twice
	built, err := build.CombinedOutput()
	require.NoError(t, err, "%s", built)
	for _, name := range append(mutation.OfModel(), "") {
		t.Run(string(name), func(t *testing.T) {
			t.Parallel()
			histories := "2000"
			if name == "" {
				histories = "3000" // more than with the race detector, which is ten times as slow
			}
			play := exec.CommandContext(t.Context(), binary, "-test.run", "^TestModel$", "-test.timeout", "5m", "-model.histories", histories)
			play.Env = append(os.Environ(), "MUTATE_STREAMER="+string(name))
			output, err := play.CombinedOutput()
			if name == "" {
				require.NoError(t, err, "the model finds a fault in unbroken code: %s", tail(output))
				return
			}
			require.Error(t, err, "the model does not notice the bug")
			assert.Regexp(t, `seed \d+: `, string(output))
			t.Logf("noticed: %s", tail(output))
		})
	}
}

// tail is the end of an output, which contains the verdict.
func tail(output []byte) string { return string(output[max(0, len(output)-600):]) }
