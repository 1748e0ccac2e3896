package contender

import (
	"bufio"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// readCounter finds a counter without labels in the text format of Prometheus.
func readCounter(text io.Reader, name string) (int64, error) {
	lines := bufio.NewScanner(text)
	for lines.Scan() {
		value, found := strings.CutPrefix(lines.Text(), name+" ")
		if !found {
			continue
		}
		number, err := strconv.ParseFloat(value, 64)
		if err != nil {
			return 0, fmt.Errorf("%s: %w", name, err)
		}
		return int64(number), nil
	}
	if err := lines.Err(); err != nil {
		return 0, fmt.Errorf("%s: %w", name, err)
	}
	return 0, fmt.Errorf("%s: %w", name, errNoCounter)
}

func sorted(set map[string]string) []string { return slices.Sorted(maps.Keys(set)) }
