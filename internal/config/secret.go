package config

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
)

// mask stands in for whatever must not be shown.
const mask = "********"

// fileReference is the prefix of a value that names the file to read the real
// value from.
const fileReference = "file:"

// Secret is a value that is used but never shown. Every way of printing or
// encoding it yields a mask. It holds either the value itself or "file:" and
// the path of the file that holds it.
type Secret struct {
	// A pointer, because fmt prints the fields of an unexported struct field
	// without calling its methods, but never follows a pointer inside.
	text *string
}

// NewSecret returns the secret that text, or the file it refers to, holds.
func NewSecret(text string) Secret {
	if text == "" {
		return Secret{}
	}
	return Secret{text: &text}
}

// IsZero reports whether the secret is not set.
func (s Secret) IsZero() bool { return s.text == nil }

// Reveal returns the value. A file is read at each call, so that a rotated
// secret takes effect at the next connection. One newline at the end of the
// file is not part of the value. The error names the file and nothing of its
// content.
func (s Secret) Reveal() (string, error) {
	if s.text == nil {
		return "", nil
	}
	path, isFile := strings.CutPrefix(*s.text, fileReference)
	if !isFile {
		return *s.text, nil
	}
	content, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("read secret: %w", err)
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

// isMask reports whether the secret is a copied mask instead of a value.
func (s Secret) isMask() bool { return s.text != nil && *s.text == mask }
