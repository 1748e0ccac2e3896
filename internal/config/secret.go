package config

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"

	"github.com/outboxstream/streamer/internal/failure"
)

// mask stands in for whatever must not be shown.
const mask = "********"

// fileReference is the prefix of a value that names the file to read the real
// value from.
const fileReference = "file:"

// Secret is a value that is used but never shown. Every way of printing or
// encoding it yields a mask. It holds the value itself, or "file:" and the path
// of the file that holds it, or "exec:" and the command that prints it.
type Secret struct {
	// A pointer, because fmt prints the fields of an unexported struct field
	// without calling its methods, but never follows a pointer inside.
	text *string
}

// NewSecret returns the secret that text, or the file or command it refers to,
// holds.
func NewSecret(text string) Secret {
	if text == "" {
		return Secret{}
	}
	return Secret{text: &text}
}

// IsZero reports whether the secret is not set.
func (s Secret) IsZero() bool { return s.text == nil }

// Reveal returns the value. A file is read and a command is run at each call, so
// that a rotated secret takes effect at the next connection. One newline at the
// end is not part of the value. The error names the file or the program, and
// nothing of the value. It is Misconfigured if trying again cannot help, as when
// the file does not exist.
func (s Secret) Reveal(ctx context.Context) (string, error) {
	if s.text == nil {
		return "", nil
	}
	var content []byte
	var err error
	if path, isFile := strings.CutPrefix(*s.text, fileReference); isFile {
		if content, err = os.ReadFile(path); err != nil {
			return "", failure.Misconfigure(fmt.Errorf("read secret: %w", err))
		}
	} else if line, isCommand := strings.CutPrefix(*s.text, commandReference); isCommand {
		if content, err = runCommand(ctx, line); err != nil {
			return "", err
		}
	} else {
		return *s.text, nil
	}
	value, _ := strings.CutSuffix(string(content), "\n")
	value, _ = strings.CutSuffix(value, "\r")
	return value, nil
}

// String returns a mask, or nothing when the secret is not set.
func (s Secret) String() string {
	if s.text == nil {
		return ""
	}
	return mask
}

// Format writes the same as String for every verb.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.String()) }

// LogValue returns the same as String.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalText returns the same as String.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// isReference reports whether the value is elsewhere and may change.
func (s Secret) isReference() bool {
	return s.text != nil && (strings.HasPrefix(*s.text, fileReference) || strings.HasPrefix(*s.text, commandReference))
}

// isMask reports whether the secret is a copied mask instead of a value.
func (s Secret) isMask() bool { return s.text != nil && *s.text == mask }
