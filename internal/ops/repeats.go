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
	// quietFor is how long a warning or an error that was written is only counted
	// when it comes again.
	quietFor = time.Minute
	// mostRepeats bounds how many different ones are remembered.
	mostRepeats = 100
)

// CountRepeats returns a handler that writes a warning or an error once, and
// counts what is the same within the next minute: an outage of an hour shall not
// bury its beginning. The next time that it is written it says how often it was
// not. What is below a warning is written always.
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

// Enabled is the next handler's business.
func (h *repeats) Enabled(ctx context.Context, level slog.Level) bool {
	return h.next.Enabled(ctx, level)
}

// Handle writes the record, or counts it.
func (h *repeats) Handle(ctx context.Context, r slog.Record) error {
	if r.Level < slog.LevelWarn {
		return h.next.Handle(ctx, r)
	}
	held, write := h.seen.note(h.key(r), r.Time)
	if !write {
		return nil
	}
	if held > 0 {
		r = r.Clone()
		r.AddAttrs(slog.Int("not_repeated", held))
	}
	return h.next.Handle(ctx, r)
}

// note counts a record, and tells whether it is to be written, and how many like
// it were not.
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

// forget drops what has not come again, or everything if all of it has.
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

// key is what makes two records the same: everything but times and numbers,
// which grow from one to the next.
func (h *repeats) key(r slog.Record) string {
	var key strings.Builder
	fmt.Fprintf(&key, "%d %s %s", r.Level, h.about, r.Message)
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

// pause is the attribute that tells how long is waited before the next attempt.
const pause = "pause"

// WithAttrs returns a handler for a logger with attributes.
func (h *repeats) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &repeats{next: h.next.WithAttrs(attrs), seen: h.seen, about: fmt.Sprint(h.about, attrs)}
}

// WithGroup returns a handler for a logger with a group.
func (h *repeats) WithGroup(name string) slog.Handler {
	return &repeats{next: h.next.WithGroup(name), seen: h.seen, about: h.about + name + "."}
}
