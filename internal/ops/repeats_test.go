package ops

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"strconv"
	"strings"
	"testing"
	"testing/slogtest"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// logged returns the lines of a log without their times.
func logged(text *bytes.Buffer) []string {
	lines := strings.Split(strings.TrimSpace(text.String()), "\n")
	text.Reset()
	if lines[0] == "" {
		return nil
	}
	for i, line := range lines {
		_, lines[i], _ = strings.Cut(line, " ")
	}
	return lines
}

// A recurring error is written once a minute, with a count.
func TestRepeatsAreCounted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var text bytes.Buffer
		log := slog.New(CountRepeats(slog.NewTextHandler(&text, nil)))
		fail := func(attempt int) {
			log.Warn("session ended", "err", errors.New("connection refused"), "attempt", attempt, "pause", strconv.Itoa(attempt)+"s")
		}
		fail(1)
		for i := range 5 {
			<-time.After(10 * time.Second)
			fail(2 + i)
		}
		assert.Equal(t, []string{`level=WARN msg="session ended" err="connection refused" attempt=1 pause=1s`}, logged(&text))
		<-time.After(10 * time.Second)
		fail(7)
		assert.Equal(t, []string{`level=WARN msg="session ended" err="connection refused" attempt=7 pause=7s not_repeated=5`}, logged(&text))
		<-time.After(time.Hour)
		fail(8)
		assert.Equal(
			t, []string{`level=WARN msg="session ended" err="connection refused" attempt=8 pause=8s`},
			logged(&text), "nothing was left out before this one",
		)
	})
}

// Records with different content are written.
func TestDifferentRecordsAreWritten(t *testing.T) {
	t.Parallel()
	var text bytes.Buffer
	log := slog.New(CountRepeats(slog.NewTextHandler(&text, nil)))
	log.Warn("a")
	log.Error("a")
	log.Warn("b")
	log.Warn("b", "topic", "orders")
	log.Warn("b", "topic", "invoices")
	log.With("slot", "s").Warn("b")
	log.WithGroup("g").Warn("b")
	log.Info("c")
	log.Info("c")
	assert.Len(t, logged(&text), 9)
	log.Warn("a")
	log.With("slot", "s").Warn("b")
	assert.Empty(t, logged(&text))
}

// However many different errors there are, the memory for them is bounded.
func TestRepeatsAreBounded(t *testing.T) {
	t.Parallel()
	handler, ok := CountRepeats(slog.DiscardHandler).(*repeats)
	require.True(t, ok)
	for i := range 10 * mostRepeats {
		_, write := handler.seen.note(strconv.Itoa(i), time.Now())
		assert.True(t, write)
		assert.LessOrEqual(t, len(handler.seen.of), mostRepeats)
	}
}

func TestRepeatsHandlerConforms(t *testing.T) {
	t.Parallel()
	var text bytes.Buffer
	require.NoError(t, slogtest.TestHandler(CountRepeats(slog.NewJSONHandler(&text, nil)), func() []map[string]any {
		var found []map[string]any
		for line := range bytes.Lines(text.Bytes()) {
			var one map[string]any
			require.NoError(t, json.Unmarshal(line, &one))
			found = append(found, one)
		}
		return found
	}))
}
