package console

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/outboxstream/streamer/internal/config"
	"github.com/outboxstream/streamer/internal/failure"
)

// CheckNew refuses a file that exists, because WriteNew does not overwrite it.
func CheckNew(name, remedy string) error {
	if _, err := os.Lstat(name); err == nil {
		return existing(name, remedy)
	}
	return nil
}

// WriteNew writes a file that does not exist yet, readable by its owner only. It
// leaves no incomplete file behind. The remedy is for a file that exists.
func WriteNew(name, remedy string, write func(io.Writer) error) (err error) {
	file, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return existing(name, remedy)
	}
	if err != nil {
		return failure.Misconfigure(fmt.Errorf("--output: %w", err))
	}
	defer func() {
		if err = errors.Join(err, file.Close()); err != nil {
			_ = os.Remove(name) // it is ours, and incomplete
		}
	}()
	return write(file)
}

// ConfigFlag is how a command is told to read this configuration file, with a
// space before it; empty if it does so by itself.
func ConfigFlag(file string) string {
	if file == config.DefaultFile {
		return ""
	}
	return " --config " + file
}

func existing(name, remedy string) error {
	return failure.Misconfigure(failure.Advise(fmt.Errorf("file %s exists and is not overwritten", name), "%s", remedy))
}
