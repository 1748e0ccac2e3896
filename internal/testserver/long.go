package testserver

import (
	"os"
	"testing"
)

// Long skips a slow test unless STREAMER_LONG is set, as `make long` does.
func Long(t testing.TB) {
	t.Helper()
	if os.Getenv("STREAMER_LONG") == "" {
		t.Skip("takes long: `make long` runs it")
	}
}
