package ops

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/internal/failure"
)

// A remedy is a field of its own, next to the error that it is for.
func TestAddFixes(t *testing.T) {
	t.Parallel()
	var written bytes.Buffer
	log := slog.New(AddFixes(CountRepeats(slog.NewJSONHandler(&written, nil)))).With("slot", "s")
	line := func() (record map[string]any) {
		t.Helper()
		require.NoError(t, json.Unmarshal(written.Bytes(), &record))
		written.Reset()
		return record
	}
	advised := fmt.Errorf("start: %w", failure.Refuse(failure.Advise(errors.New("slot is missing"), "run `streamer setup`")))
	log.Warn("session ended", "err", advised, "pause", "1s")
	got := line()
	assert.Equal(t, "start: slot is missing", got["err"])
	assert.Equal(t, "run `streamer setup`", got["fix"])
	assert.Equal(t, "s", got["slot"])
	log.Warn("session ended again", "err", errors.New("EOF"))
	assert.NotContains(t, line(), "fix")
}
