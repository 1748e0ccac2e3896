package audit

import (
	"errors"
	"fmt"
	"strings"
)

// Kind is the kind of error in a record, or in an event without a record.
type Kind string

// The kinds of findings.
const (
	Lost       Kind = "lost"                      // committed, but in no topic
	OutOfOrder Kind = "out of order"              // published for the first time after a later event of its aggregate or partition
	Scattered  Kind = "scattered"                 // in another partition than the previous event of its aggregate
	Phantom    Kind = "rolled back but published" // its transaction was rolled back
	Unknown    Kind = "unknown"                   // not from the shop
	Altered    Kind = "altered"                   // not what the shop wrote, or repeated with other bytes
	Torn       Kind = "repeated in pieces"        // the repeated records are not a contiguous suffix of their partition, in the same order
	Invalid    Kind = "invalid"                   // not a CloudEvent
)

// Kinds returns all kinds, in the order in which readers ask for them.
func Kinds() []Kind {
	return []Kind{Lost, OutOfOrder, Scattered, Phantom, Unknown, Altered, Torn, Invalid}
}

// Finding is one error.
type Finding struct {
	Kind   Kind
	Detail string // which event or record, and why; without payload
}

// findingsPerKind bounds a report: a broken run breaks thousands of events the
// same way.
const findingsPerKind = 5

// Report is the result of [Compare].
type Report struct {
	Committed  int // events of committed transactions
	RolledBack int // events of rolled-back transactions
	Records    int // read from Kafka
	Published  int // committed events that are in Kafka
	Repeated   int // records beyond the first one of their event

	Count    map[Kind]int // how often each error occurred; no entry for a kind that did not
	Findings []Finding    // the first few of each kind
}

func (r *Report) found(kind Kind, format string, args ...any) {
	r.Count[kind]++
	if r.Count[kind] <= findingsPerKind {
		r.Findings = append(r.Findings, Finding{Kind: kind, Detail: fmt.Sprintf(format, args...)})
	}
}

// Err says what breaks the promise, or is nil. Repetitions do not break it.
func (r *Report) Err() error {
	var counts []string
	for _, kind := range Kinds() {
		if n := r.Count[kind]; n > 0 {
			counts = append(counts, fmt.Sprintf("%d %s", n, kind))
		}
	}
	if len(counts) == 0 {
		return nil
	}
	lines := []string{fmt.Sprintf("audit of %d committed events and %d records: %s", r.Committed, r.Records, strings.Join(counts, ", "))}
	for _, finding := range r.Findings {
		lines = append(lines, fmt.Sprintf("  %s: %s", finding.Kind, finding.Detail))
	}
	return errors.New(strings.Join(lines, "\n"))
}
