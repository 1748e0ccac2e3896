package console

import (
	"io"
	"log/slog"
	"os"

	"github.com/outboxstream/streamer/internal/config"
	"github.com/outboxstream/streamer/internal/ops"
)

// NewLogger writes text on a terminal and JSON elsewhere, unless told.
func NewLogger(w io.Writer, c config.Log) *slog.Logger {
	var level slog.Level
	_ = level.UnmarshalText([]byte(c.Level)) // validated by the configuration
	options := &slog.HandlerOptions{Level: level}
	if c.Format == config.LogFormatJSON || c.Format == config.LogFormatAuto && !IsTerminal(w) {
		return slog.New(ops.CountRepeats(slog.NewJSONHandler(w, options)))
	}
	return slog.New(ops.CountRepeats(slog.NewTextHandler(w, options)))
}

// IsTerminal reports whether a person reads what is written.
func IsTerminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := file.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
