//go:build mutation

package mutation

import (
	"os"
	"time"
)

var active = Name(os.Getenv("STREAMER_MUTATION"))

// Active tells whether the streamer is broken in this way.
func Active(n Name) bool { return n == active }

// PauseBeforeWriting widens, for as long as STREAMER_MUTATION_PAUSE says, the
// moment between what a start learns and its first write, in which only the
// fence keeps a predecessor out.
func PauseBeforeWriting() {
	if d, err := time.ParseDuration(os.Getenv("STREAMER_MUTATION_PAUSE")); err == nil {
		time.Sleep(d)
	}
}
