//go:build !linux

package router

import "time"

var started = time.Now()

// bootTime stands still while the machine sleeps, on systems where that is all
// there is.
func bootTime() time.Duration { return time.Since(started) }
