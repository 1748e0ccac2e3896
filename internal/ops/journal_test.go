package ops

import (
	"errors"
	"log/slog"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/internal/failure"
)

// A journal keeps warnings and errors with their remedies, and counts repeats.
func TestJournal(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		j := NewJournal()
		log := slog.New(AddFixes(slog.NewMultiHandler(slog.DiscardHandler, j))).With("slot", "s")
		log.Info("streaming")
		began := time.Now()
		err := failure.Advise(errors.New("slot is missing"), "run `streamer setup`")
		log.Warn("session ended", "err", err, "attempt", 1, slog.Group("on", "host", "db"))
		<-time.After(time.Second)
		log.Error("row cannot be published", "class", "row", "reason", "no type")
		<-time.After(time.Second)
		log.Warn("session ended", "err", err, "attempt", 2, slog.Group("on", "host", "db"))
		got := j.Entries()
		require.Len(t, got, 2)
		for i := range got {
			got[i].key = ""
		}
		assert.Equal(t, []Entry{
			{
				Level: slog.LevelWarn, Message: "session ended", Err: "slot is missing", Fix: "run `streamer setup`",
				Details: [][2]string{{"slot", "s"}, {"attempt", "2"}, {"on.host", "db"}},
				First:   began, Last: began.Add(2 * time.Second), Count: 2,
			},
			{
				Level: slog.LevelError, Message: "row cannot be published", Err: "no type",
				Details: [][2]string{{"slot", "s"}, {"class", "row"}},
				First:   began.Add(time.Second), Last: began.Add(time.Second), Count: 1,
			},
		}, got)
	})
}

// Loggers with other attributes make other entries, and groups are part of the
// names.
func TestJournalOfSeveralLoggers(t *testing.T) {
	t.Parallel()
	j := NewJournal()
	log := slog.New(j)
	log.Warn("a")
	log.With("topic", "x").Warn("a")
	log.WithGroup("g").With("topic", "x").Warn("a", "n", 1)
	log.WithGroup("g").With("topic", "x").Warn("a", "n", 2)
	got := j.Entries()
	require.Len(t, got, 3)
	assert.Equal(t, [][2]string{{"g.topic", "x"}, {"g.n", "2"}}, got[0].Details)
	assert.Equal(t, 2, got[0].Count)
}

// Whatever is logged, a journal takes a bounded amount of memory, and its texts
// are valid UTF-8.
func TestJournalIsBounded(t *testing.T) {
	t.Parallel()
	j := NewJournal()
	log := slog.New(j)
	for i := range 10 * mostEntries {
		log.Warn("warning", "number", strconv.Itoa(i), "err", errors.New(strings.Repeat("ä\xff", longestText)))
	}
	got := j.Entries()
	require.Len(t, got, mostEntries)
	assert.Equal(t, [][2]string{{"number", strconv.Itoa(10*mostEntries - 1)}}, got[0].Details, "the latest comes first")
	for _, e := range got {
		assert.LessOrEqual(t, len(e.Err), 2*longestText)
		assert.True(t, utf8.ValidString(e.Err))
	}
}
