// Package process reads from /proc what processes cost: CPU time and memory. It
// supports Linux only, where the benchmarks run.
package process

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// tick is the unit of CPU times in /proc: USER_HZ, which is 100 on every
// architecture on which Go runs.
const tick = 10 * time.Millisecond

// CPU returns the user and system time that a process has taken so far.
func CPU(pid int) (time.Duration, error) {
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return 0, fmt.Errorf("CPU time of process %d: %w", pid, err)
	}
	return parseStat(text)
}

// parseStat reads the fields utime and stime. The name of the program comes
// before them and may contain spaces and parentheses.
func parseStat(text []byte) (time.Duration, error) {
	const utime, stime = 11, 12 // counted from the field after the name
	end := bytes.LastIndexByte(text, ')')
	if end < 0 {
		return 0, errors.New("stat of process without a name")
	}
	fields := strings.Fields(string(text[end+1:]))
	if len(fields) <= stime {
		return 0, fmt.Errorf("stat of process with %d fields", len(fields))
	}
	user, userErr := strconv.ParseInt(fields[utime], 10, 64)
	system, systemErr := strconv.ParseInt(fields[stime], 10, 64)
	if err := errors.Join(userErr, systemErr); err != nil {
		return 0, fmt.Errorf("stat of process: %w", err)
	}
	return time.Duration(user+system) * tick, nil
}

// PeakMemory returns the largest resident set that a process has had, in bytes.
func PeakMemory(pid int) (int64, error) {
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "status"))
	if err != nil {
		return 0, fmt.Errorf("memory of process %d: %w", pid, err)
	}
	return parseStatus(text)
}

func parseStatus(text []byte) (int64, error) {
	for line := range strings.Lines(string(text)) {
		value, found := strings.CutPrefix(line, "VmHWM:")
		if !found {
			continue
		}
		kilobytes, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(value), "kB")), 10, 64)
		if err != nil {
			return 0, fmt.Errorf("VmHWM of process: %w", err)
		}
		return kilobytes << 10, nil
	}
	return 0, errors.New("status of process without VmHWM") // it has ended
}

// Children returns the processes that a process has started and that have not
// ended: for a postmaster, the backends.
func Children(pid int) ([]int, error) {
	files, err := filepath.Glob(filepath.Join("/proc", strconv.Itoa(pid), "task", "*", "children"))
	if err != nil || len(files) == 0 {
		return nil, fmt.Errorf("children of process %d: not in /proc", pid)
	}
	var children []int
	for _, file := range files {
		text, err := os.ReadFile(file)
		if errors.Is(err, os.ErrNotExist) {
			continue // the thread has ended
		}
		if err != nil {
			return nil, fmt.Errorf("children of process %d: %w", pid, err)
		}
		for field := range strings.FieldsSeq(string(text)) {
			child, err := strconv.Atoi(field)
			if err != nil {
				return nil, fmt.Errorf("children of process %d: %w", pid, err)
			}
			children = append(children, child)
		}
	}
	return children, nil
}
