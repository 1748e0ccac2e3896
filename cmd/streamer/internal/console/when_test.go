package console

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestParseTime(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	for text, want := range map[string]time.Time{
		"90m": now.Add(-90 * time.Minute), "-90m": now.Add(-90 * time.Minute),
		"2026-11-20T14:30:00Z": time.Date(2026, 11, 20, 14, 30, 0, 0, time.UTC), "2026-11-20T14:30:00+01:00": time.Date(2026, 11, 20, 13, 30, 0, 0, time.UTC),
		"2026-11-20T14:30:00.5Z": time.Date(2026, 11, 20, 14, 30, 0, 5e8, time.UTC), "2026-11-20 14:30": time.Date(2026, 11, 20, 14, 30, 0, 0, time.UTC),
		"2026-11-20 14:30:05": time.Date(2026, 11, 20, 14, 30, 5, 0, time.UTC), "2026-11-20": time.Date(2026, 11, 20, 0, 0, 0, 0, time.UTC),
	} {
		at, is := ParseTime(text, now)
		assert.True(t, is, text)
		assert.True(t, want.Equal(at), "%s: %s", text, at)
	}
	for _, text := range []string{"", "beginning", "0/15306C8", "yesterday", "14:30"} {
		_, is := ParseTime(text, now)
		assert.False(t, is, text)
	}
}
