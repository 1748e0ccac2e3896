package console

import (
	"io"
	"log/slog"
	"os"

	"github.com/outboxstream/streamer/internal/config"
	"github.com/outboxstream/streamer/internal/ops"
)

// NewLogger writes text to a terminal and JSON elsewhere, unless the
// configuration says otherwise.
func NewLogger(w io.Writer, c config.Log) *slog.Logger {
	var level slog.Level
	_ = level.UnmarshalText([]byte(c.Level)) // validated by the configuration
	options := &slog.HandlerOptions{Level: level}
	var written slog.Handler = slog.NewTextHandler(w, options)
	if LogsJSON(w, c) {
		written = slog.NewJSONHandler(w, options)
	}
	return slog.New(ops.AddFixes(ops.CountRepeats(written)))
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
