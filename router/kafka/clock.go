package kafka

import "time"

// elapsed is a reading of a clock that goes on while the machine sleeps, unlike
// package time's monotonic one: what another machine may have forgotten about us
// meanwhile depends on it.
type elapsed time.Duration

func now() elapsed { return elapsed(bootTime()) }

func since(then elapsed) time.Duration { return time.Duration(now() - then) }

func (e elapsed) minus(d time.Duration) elapsed { return e - elapsed(d) }
