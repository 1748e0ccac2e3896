package kafka

import "time"

// elapsed is a reading of a clock that keeps running while the machine sleeps,
// unlike package time's monotonic clock. What other machines may have forgotten
// about this process depends on that time.
type elapsed time.Duration

func now() elapsed { return elapsed(bootTime()) }

func since(then elapsed) time.Duration { return time.Duration(now() - then) }

func (e elapsed) minus(d time.Duration) elapsed { return e - elapsed(d) }
