package ops

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

const (
	// mostEntries bounds how many different warnings and errors a journal holds,
	// and longestText the length of each of their texts.
	mostEntries = 20
	longestText = 1000
)

// Entry is a warning or an error of the log, with its repeats.
type Entry struct {
	Level       slog.Level
	Message     string
	Err         string      // of the attributes err, reason and problem, the first
	Fix         string      // what can be done about it
	Details     [][2]string // the other attributes
	First, Last time.Time
	Count       int

	key string
}

// Journal is a handler that keeps the last different warnings and errors of a
// log in memory. It holds what the log holds, and nothing else.
type Journal struct {
	shared *entries
	about  []slog.Attr // attributes of the logger
	groups string
}

type entries struct {
	mu  sync.Mutex
	all []Entry // the one that came last is at the end
}

// NewJournal returns an empty journal.
func NewJournal() *Journal { return &Journal{shared: &entries{}} }

// Entries are the last warnings and errors, latest first.
func (j *Journal) Entries() []Entry {
	j.shared.mu.Lock()
	defer j.shared.mu.Unlock()
	last := slices.Clone(j.shared.all)
	slices.Reverse(last)
	return last
}

// Enabled reports whether it is a warning or an error.
func (j *Journal) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelWarn }

// Handle keeps a record.
func (j *Journal) Handle(_ context.Context, r slog.Record) error {
	e := Entry{
		Level: r.Level, Message: shortened(r.Message), First: r.Time, Last: r.Time, Count: 1,
		key: sameness(r, fmt.Sprint(j.groups, j.about)),
	}
	for _, a := range j.about {
		e.add("", a)
	}
	r.Attrs(func(a slog.Attr) bool { e.add(j.groups, a); return true })
	j.shared.keep(e)
	return nil
}

func (s *entries) keep(e Entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := slices.IndexFunc(s.all, func(before Entry) bool { return before.key == e.key }); i >= 0 {
		e.First, e.Count = s.all[i].First, s.all[i].Count+1
		s.all = slices.Delete(s.all, i, i+1)
	} else if len(s.all) == mostEntries {
		s.all = slices.Delete(s.all, 0, 1)
	}
	s.all = append(s.all, e)
}

func (e *Entry) add(group string, a slog.Attr) {
	v := a.Value.Resolve()
	if v.Kind() == slog.KindGroup {
		for _, member := range v.Group() {
			e.add(group+a.Key+".", member)
		}
		return
	}
	text := shortened(v.String())
	switch {
	case a.Equal(slog.Attr{}):
	case a.Key == "fix" || a.Key == "remedy":
		e.Fix = text
	case e.Err == "" && (a.Key == "err" || a.Key == "reason" || a.Key == "problem"):
		e.Err = text
	default:
		e.Details = append(e.Details, [2]string{group + a.Key, text})
	}
}

// shortened bounds what one text takes. It never splits a character.
func shortened(text string) string {
	if len(text) <= longestText {
		return strings.ToValidUTF8(text, "·")
	}
	end := longestText
	for !utf8.RuneStart(text[end]) {
		end--
	}
	return strings.ToValidUTF8(text[:end], "·") + " …"
}

// WithAttrs returns a handler for a logger with attributes.
func (j *Journal) WithAttrs(attrs []slog.Attr) slog.Handler {
	about := slices.Clone(j.about)
	for _, a := range attrs {
		a.Key = j.groups + a.Key
		about = append(about, a)
	}
	return &Journal{shared: j.shared, about: about, groups: j.groups}
}

// WithGroup returns a handler for a logger with a group.
func (j *Journal) WithGroup(name string) slog.Handler {
	return &Journal{shared: j.shared, about: j.about, groups: j.groups + name + "."}
}
