package process

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// machineBusy returns the time for which all cores together have not been idle
// since the machine started.
func machineBusy() (time.Duration, error) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, fmt.Errorf("CPU time of the machine: %w", err)
	}
	return parseMachine(string(text))
}

// parseMachine adds user, nice, system, irq, softirq and steal: time stolen by
// the host is as bad as time that other processes take.
func parseMachine(text string) (busy time.Duration, err error) {
	line, _, _ := strings.Cut(text, "\n")
	fields := strings.Fields(line)
	const needed = 9
	if len(fields) < needed || fields[0] != "cpu" {
		return 0, errors.New("CPU time of the machine: no line for all cores")
	}
	for _, i := range []int{1, 2, 3, 6, 7, 8} {
		ticks, err := strconv.ParseInt(fields[i], 10, 64)
		if err != nil {
			return 0, fmt.Errorf("CPU time of the machine: %w", err)
		}
		busy += time.Duration(ticks) * tick
	}
	return busy, nil
}

// ourselves is the CPU time that this process has taken.
func ourselves() time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return 0
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// Others is the share of the machine's CPU time between two samples that went
// to neither the contender nor what it uses: from 0 to 1.
func (u Usage) Others(before Usage, cores int) float64 {
	all := u.At.Sub(before.At) * time.Duration(cores)
	if all <= 0 {
		return 0
	}
	known := u.Client - before.Client + u.Backends - before.Backends + u.Broker - before.Broker + u.Harness - before.Harness
	return min(1, max(0, float64(u.Machine-before.Machine-known)/float64(all)))
}
