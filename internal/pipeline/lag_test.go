package pipeline

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestLag(t *testing.T) {
	t.Parallel()
	start := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	after := func(seconds int) time.Time { return start.Add(time.Duration(seconds) * time.Second) }
	var l lag
	expect := func(now, want int, why string) {
		t.Helper()
		behind, known := l.at(after(now))
		assert.True(t, known, why)
		assert.Equal(t, time.Duration(want)*time.Second, behind, why)
	}
	_, known := l.at(start)
	assert.False(t, known, "before it streams")

	l.published(start, false)
	expect(7, 7, "the checkpoint is old, and nothing has been read")
	l.published(after(5), true)
	expect(7, 2, "an event of second 5 is in flight")
	l.reachedEnd(after(8))
	expect(8, 3, "all is read, but not published")
	l.published(after(5), false)
	expect(9, 0, "all is published")
	l.published(after(3), false)
	l.reachedEnd(after(10))
	expect(15, 0, "idle")
	expect(60, 50, "the server is away since second 10")
	l.reachedEnd(after(60))
	expect(60, 0, "it is back, and nothing had been waiting")
	l.published(after(62), true)
	expect(100, 38, "the broker is away")
	expect(50, 0, "a clock that is behind the server's")
	l.forget()
	_, known = l.at(after(101))
	assert.False(t, known, "standing by")
}
