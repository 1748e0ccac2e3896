package testserver

import (
	"cmp"
	"os"
)

// Reader is the reader that the streamers of end-to-end tests and faults use:
// what STREAMER_TEST_READER says, else what users get.
func Reader() string { return cmp.Or(os.Getenv("STREAMER_TEST_READER"), "auto") }
