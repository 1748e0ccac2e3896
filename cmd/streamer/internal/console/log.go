package console

import (
	"io"
	"log/slog"
	"os"

	"github.com/outboxstream/streamer/internal/config"
	"github.com/outboxstream/streamer/internal/ops"
)

// NewLogger writes text to a terminal and JSON elsewhere, unless the
// configuration says otherwise. What it writes, and does not write because it
// repeats itself, is also given to other handlers.
func NewLogger(w io.Writer, c config.Log, also ...slog.Handler) *slog.Logger {
	var level slog.Level
	_ = level.UnmarshalText([]byte(c.Level)) // validated by the configuration
	options := &slog.HandlerOptions{Level: level}
	var written slog.Handler = slog.NewTextHandler(w, options)
	if LogsJSON(w, c) {
		written = slog.NewJSONHandler(w, options)
	}
	all := append([]slog.Handler{ops.CountRepeats(written)}, also...)
	return slog.New(ops.AddFixes(slog.NewMultiHandler(all...)))
}

// LogsJSON reports whether the logger writes JSON.
func LogsJSON(w io.Writer, c config.Log) bool {
	return c.Format == config.LogFormatJSON || c.Format == config.LogFormatAuto && !IsTerminal(w)
}

// IsTerminal reports whether the output goes to a terminal.
func IsTerminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := file.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
