//go:build mutation

package mutation

import (
	"fmt"
	"os"
	"time"
)

var active = Name(os.Getenv("MUTATE_STREAMER"))

// Active reports whether the streamer is broken in this way.
func Active(n Name) bool { return n == active }

// PauseBeforeWriting widens the interval between what a start learns and its
// first write by MUTATE_STREAMER_PAUSE. In that interval only the fence keeps a
// predecessor out.
func PauseBeforeWriting() {
	if d, err := time.ParseDuration(os.Getenv("MUTATE_STREAMER_PAUSE")); err == nil && d > 0 {
		fmt.Fprintln(os.Stderr, "pausing before the first write")
		time.Sleep(d)
	}
}
