package verification

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/cmd/streamer/internal/console"
	"github.com/outboxstream/streamer/internal/config"
	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/internal/verify"
)

func TestSpan(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	for name, c := range map[string]struct {
		from, to string
		want     verify.Span
	}{
		"everything":    {"", "", verify.Span{}},
		"positions":     {"0/64", "0/C8", verify.Span{From: 100, To: 200}},
		"times":         {"90m", "2026-11-21T11:00:00Z", verify.Span{FromTime: now.Add(-90 * time.Minute), ToTime: now.Add(-time.Hour)}},
		"one of each":   {"0/64", "1h", verify.Span{From: 100, ToTime: now.Add(-time.Hour)}},
		"only the end":  {"", "0/64", verify.Span{To: 100}},
		"only the time": {"1h", "", verify.Span{FromTime: now.Add(-time.Hour)}},
	} {
		got, err := Command{From: c.from, To: c.to}.span(now)
		require.NoError(t, err, name)
		assert.Equal(t, c.want, got, name)
	}
}

// What cannot be meant is refused before a server is asked.
func TestUsage(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		command Command
		says    string
	}{
		"from":             {Command{From: "yesterday"}, "--from yesterday"},
		"to":               {Command{To: "end"}, "--to end"},
		"truth and record": {Command{Truth: "a", Record: "b"}, "--truth and --record"},
	} {
		err := c.command.Run(t.Context(), func() (*config.Loaded, error) { return &config.Loaded{}, nil }, console.Streams{})
		assert.Equal(t, failure.Misconfigured, failure.ClassOf(err), name)
		require.ErrorContains(t, err, c.says, name)
		_, err = Missing(t.Context(), config.Config{}, console.Streams{}, c.command)
		if name != "truth and record" { // of which Missing takes neither
			assert.Equal(t, failure.Misconfigured, failure.ClassOf(err), name)
		}
	}
	invalid := errors.New("not valid")
	err := Command{}.Run(t.Context(), func() (*config.Loaded, error) { return nil, invalid }, console.Streams{})
	assert.ErrorIs(t, err, invalid)
}

func TestFindingsError(t *testing.T) {
	t.Parallel()
	require.EqualError(t, findingsError(1), "verify: 1 finding")
	require.EqualError(t, findingsError(2), "verify: 2 findings")
}
