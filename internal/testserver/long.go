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

// Ends returns the first and the last of some values, and all of them with
// STREAMER_LONG: a test of several versions tries the oldest and the newest.
func Ends[T any](all ...T) []T {
	if os.Getenv("STREAMER_LONG") != "" || len(all) < 2 {
		return all
	}
	return []T{all[0], all[len(all)-1]}
}

// Step returns 1 with STREAMER_LONG, and n otherwise: such a test tries every nth of
// many cases.
func Step(n int) int {
	if os.Getenv("STREAMER_LONG") != "" {
		return 1
	}
	return n
}
