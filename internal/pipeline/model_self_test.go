package pipeline

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/internal/mutation"
)

// TestModelNotices undoes what was mended, one thing at a time, and lets the model
// look for it. A model that finds nothing then proves nothing.
func TestModelNotices(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("compiles the package once more")
	}
	binary := filepath.Join(t.TempDir(), "model")
	built, err := exec.CommandContext(t.Context(), "go", "test", "-c", "-tags", "mutation", "-o", binary, ".").CombinedOutput()
	require.NoError(t, err, "%s", built)
	for _, name := range append(mutation.OfModel(), "") {
		t.Run(string(name), func(t *testing.T) {
			t.Parallel()
			histories := "2000"
			if name == "" {
				histories = "3000" // more than with the race detector, which takes ten times as long
			}
			play := exec.CommandContext(t.Context(), binary, "-test.run", "^TestModel$", "-test.timeout", "5m", "-model.histories", histories)
			play.Env = append(os.Environ(), "MUTATE_STREAMER="+string(name))
			output, err := play.CombinedOutput()
			if name == "" {
				require.NoError(t, err, "the model finds fault with what is not broken: %s", tail(output))
				return
			}
			require.Error(t, err, "the model does not notice")
			assert.Regexp(t, `seed \d+: `, string(output))
			t.Logf("noticed: %s", tail(output))
		})
	}
}

// tail is the end of an output, where the verdict is.
func tail(output []byte) string { return string(output[max(0, len(output)-600):]) }
