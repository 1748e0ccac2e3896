package testserver

import (
	"cmp"
	"os"
)

// Reader is the reader that the streamers of end-to-end and fault tests use:
// STREAMER_TEST_READER if set, otherwise the default for users.
func Reader() string { return cmp.Or(os.Getenv("STREAMER_TEST_READER"), "auto") }
