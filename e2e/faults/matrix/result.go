// Package matrix keeps the results of the fault matrix and writes them as the
// table in docs/reliability.md.
package matrix

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
)

// Outcomes of a fault.
const (
	Survived = "survived" // continued by itself, everything is there
	Refused  = "refused"  // exit code 3 with a sentence, as expected
	Failed   = "FAILED"   // not as expected
	Unplayed = "unplayed" // the machine does not allow it; Note says why
)

// Result is what one fault did on one version of PostgreSQL and Kafka.
type Result struct {
	Fault      string  `json:"fault"`
	What       string  `json:"what"`            // one line, in an operator's words
	Group      string  `json:"group"`           // heading in the table
	PostgreSQL string  `json:"postgresql"`      // "15.13"
	Kafka      string  `json:"kafka,omitempty"` // "4.3.1"; empty: the default of kafkatest
	Brokers    int     `json:"brokers"`
	Runs       int     `json:"runs"`
	Injections int     `json:"injections"`
	Kills      int     `json:"kills"`  // SIGKILLs of the streamer among them
	Events     int     `json:"events"` // committed outbox inserts
	Lost       int     `json:"lost"`
	Phantom    int     `json:"phantom"` // published, never committed
	Repeated   int     `json:"repeated"`
	Altered    int     `json:"altered"`
	Misordered int     `json:"misordered"`
	Early      int     `json:"early"` // confirmed before they were published
	Outcome    string  `json:"outcome"`
	Note       string  `json:"note,omitempty"`
	Seconds    float64 `json:"seconds"`
	Seed       uint64  `json:"seed"`
}

// key identifies what a result is about. A newer result with the same key
// replaces an older one.
func (r Result) key() string {
	major, _, _ := cutVersion(r.PostgreSQL)
	return fmt.Sprintf("%s\x00%s\x00%s\x00%s\x00%d", r.Group, r.Fault, major, kafkaMinor(r), r.Brokers)
}

// Load reads results. A file that does not exist holds none.
func Load(path string) ([]Result, error) {
	content, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read results: %w", err)
	}
	var results []Result
	if err := json.Unmarshal(content, &results); err != nil {
		return nil, fmt.Errorf("results in %s: %w", path, err)
	}
	return results, nil
}

// Merge returns the sorted results. Newer results replace those for the same
// fault, version and number of brokers.
func Merge(older, newer []Result) []Result {
	byKey := map[string]Result{}
	for _, r := range slices.Concat(older, newer) {
		byKey[r.key()] = r
	}
	merged := make([]Result, 0, len(byKey))
	for _, r := range byKey {
		merged = append(merged, r)
	}
	slices.SortFunc(merged, func(a, b Result) int { return cmp.Compare(a.key(), b.key()) })
	return merged
}

// Save writes results with one field on each line, so that a diff shows each
// change.
func Save(path string, results []Result) error {
	content, err := json.MarshalIndent(results, "", "  ")
	if err != nil {
		return fmt.Errorf("encode results: %w", err)
	}
	if err := os.WriteFile(path, append(content, '\n'), 0o644); err != nil {
		return fmt.Errorf("write results: %w", err)
	}
	return nil
}
