//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package checkpoint

import (
	"fmt"
	"os"
	"runtime"

	"github.com/outboxstream/streamer/internal/failure"
)

func lockFile(*os.File) (held bool, err error) {
	return false, failure.Misconfigure(failure.Advise(
		fmt.Errorf("files cannot be locked on %s", runtime.GOOS),
		"choose kafka or postgres in checkpoint.store",
	))
}

func unlockFile(*os.File) error { return nil }

func readOnly(error) bool { return false }
