//go:build !linux

package kafka

import "time"

var started = time.Now()

// bootTime stands still while the machine sleeps. These systems offer no other
// clock.
func bootTime() time.Duration { return time.Since(started) }
