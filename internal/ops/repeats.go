package ops

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"
)

const (
	// quietFor is how long repeats of a written warning or error are only counted.
	quietFor = time.Minute
	// mostRepeats bounds how many different records are remembered.
	mostRepeats = 100
)

// CountRepeats returns a handler that writes a warning or an error once, and
// only counts its repeats within the next minute. Otherwise an outage of an
// hour would bury its beginning. When the record is next written, it says how
// many repeats were not. Records below a warning are always written.
func CountRepeats(next slog.Handler) slog.Handler {
	return &repeats{next: next, seen: &sightings{of: map[string]*sighting{}}}
}

type repeats struct {
	next  slog.Handler
	seen  *sightings
	about string // attributes of the logger
}

type sightings struct {
	mu sync.Mutex
	of map[string]*sighting
}

type sighting struct {
	written time.Time
	held    int // since then
}

// Enabled is decided by the next handler.
func (h *repeats) Enabled(ctx context.Context, level slog.Level) bool {
	return h.next.Enabled(ctx, level)
}

// Handle writes the record, or counts it.
func (h *repeats) Handle(ctx context.Context, r slog.Record) error {
	if r.Level < slog.LevelWarn {
		return h.next.Handle(ctx, r)
	}
	held, write := h.seen.note(sameness(r, h.about), r.Time)
	if !write {
		return nil
	}
	if held > 0 {
		r = r.Clone()
		r.AddAttrs(slog.Int("not_repeated", held))
	}
	return h.next.Handle(ctx, r)
}

// note counts a record. It reports whether the record is to be written, and how
// many like it were not.
func (s *sightings) note(key string, now time.Time) (held int, write bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if before := s.of[key]; before != nil {
		if now.Sub(before.written) < quietFor {
			before.held++
			return 0, false
		}
		held = before.held
	}
	if len(s.of) >= mostRepeats {
		s.forget(now)
	}
	s.of[key] = &sighting{written: now}
	return held, true
}

// forget drops records that have not recurred, or all records if all have.
func (s *sightings) forget(now time.Time) {
	for key, one := range s.of {
		if now.Sub(one.written) >= quietFor {
			delete(s.of, key)
		}
	}
	if len(s.of) >= mostRepeats {
		clear(s.of)
	}
}

// sameness identifies equal records of loggers with equal attributes. It leaves
// out times and numbers, which grow from one record to the next.
func sameness(r slog.Record, about string) string {
	var key strings.Builder
	fmt.Fprintf(&key, "%d %s %s", r.Level, about, r.Message)
	r.Attrs(func(a slog.Attr) bool {
		switch v := a.Value.Resolve(); {
		case v.Kind() == slog.KindString && a.Key != pause, v.Kind() == slog.KindAny:
			fmt.Fprintf(&key, " %s=%v", a.Key, v)
		default:
			key.WriteString(" " + a.Key)
		}
		return true
	})
	return key.String()
}

// pause is the attribute with the waiting time before the next attempt.
const pause = "pause"

// WithAttrs returns a handler for a logger with attributes.
func (h *repeats) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &repeats{next: h.next.WithAttrs(attrs), seen: h.seen, about: fmt.Sprint(h.about, attrs)}
}

// WithGroup returns a handler for a logger with a group.
func (h *repeats) WithGroup(name string) slog.Handler {
	return &repeats{next: h.next.WithGroup(name), seen: h.seen, about: h.about + name + "."}
}
