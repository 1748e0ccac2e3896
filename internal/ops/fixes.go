package ops

import (
	"context"
	"log/slog"

	"github.com/outboxstream/streamer/internal/failure"
)

// AddFixes returns a handler that adds to a record with an error what can be done
// about that error, as the attribute fix.
func AddFixes(next slog.Handler) slog.Handler { return fixes{next} }

type fixes struct{ slog.Handler }

// Handle looks for errors among the record's own attributes.
func (h fixes) Handle(ctx context.Context, r slog.Record) error {
	fix := ""
	r.Attrs(func(a slog.Attr) bool {
		if err, ok := a.Value.Any().(error); ok {
			fix = failure.Fix(err)
		}
		return fix == ""
	})
	if fix != "" {
		r = r.Clone()
		r.AddAttrs(slog.String("fix", fix))
	}
	return h.Handler.Handle(ctx, r)
}

// WithAttrs is as the next handler does it.
func (h fixes) WithAttrs(attrs []slog.Attr) slog.Handler { return fixes{h.Handler.WithAttrs(attrs)} }

// WithGroup is as the next handler does it.
func (h fixes) WithGroup(name string) slog.Handler { return fixes{h.Handler.WithGroup(name)} }
