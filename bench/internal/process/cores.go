package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/outboxstream/streamer/internal/testserver"
)

// Cores returns the cores on which a process may run.
func Cores(pid int) ([]int, error) { return coresOf(fmt.Sprintf("/proc/%d/status", pid)) }

func coresOf(status string) ([]int, error) {
	text, err := os.ReadFile(status)
	if err != nil {
		return nil, fmt.Errorf("allowed cores: %w", err)
	}
	for line := range strings.Lines(string(text)) {
		if list, found := strings.CutPrefix(line, "Cpus_allowed_list:"); found {
			return parseCores(strings.TrimSpace(list))
		}
	}
	return nil, fmt.Errorf("allowed cores: not in %s", status)
}

// parseCores reads a list like 0-3,8.
func parseCores(list string) (cores []int, err error) {
	for part := range strings.SplitSeq(list, ",") {
		first, last, isRange := strings.Cut(part, "-")
		if !isRange {
			last = first
		}
		from, fromErr := strconv.Atoi(first)
		to, toErr := strconv.Atoi(last)
		if err := errors.Join(fromErr, toErr); err != nil {
			return nil, fmt.Errorf("list of cores %q: %w", list, err)
		}
		for core := from; core <= to; core++ {
			cores = append(cores, core)
		}
	}
	return cores, nil
}

// Split gives the broker the last of the cores, and the others to everything
// else.
func Split(cores []int, broker int) (others, ofBroker []int, err error) {
	if broker >= len(cores) {
		return nil, nil, fmt.Errorf("%d of %d cores for the broker: none remains for anything else", broker, len(cores))
	}
	cores = slices.Sorted(slices.Values(cores))
	return cores[:len(cores)-broker], cores[len(cores)-broker:], nil
}

// Pin restricts a process, with all its threads and all processes that it will
// start, to some cores. It needs taskset, and the error wraps
// [testserver.ErrMissing] if there is none.
func Pin(ctx context.Context, pid int, cores []int) error {
	program, err := exec.LookPath("taskset")
	if err != nil {
		return fmt.Errorf("%w: taskset (util-linux): %w", testserver.ErrMissing, err)
	}
	var list []string
	for _, core := range cores {
		list = append(list, strconv.Itoa(core))
	}
	const attempts = 5 // a thread may appear that was started by one not yet pinned
	for range attempts {
		cmd := exec.CommandContext(ctx, program, "-a", "-p", "-c", strings.Join(list, ","), strconv.Itoa(pid))
		output, err := cmd.CombinedOutput()
		if err != nil {
			return fmt.Errorf("pin process %d to cores %v: %w: %s", pid, cores, err, strings.TrimSpace(string(output)))
		}
		if pinned(pid, cores) {
			return nil
		}
	}
	return fmt.Errorf("pin process %d to cores %v: it has ended, or runs elsewhere", pid, cores)
}

// pinned reports whether all threads of a process are restricted to some cores.
func pinned(pid int, cores []int) bool {
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	if err != nil || len(threads) == 0 {
		return false
	}
	return !slices.ContainsFunc(threads, func(status string) bool {
		allowed, err := coresOf(status)
		return !errors.Is(err, os.ErrNotExist) && !slices.Equal(allowed, cores) // one that has ended is no matter
	})
}
