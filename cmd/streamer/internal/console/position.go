package console

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/replication"
)

// Kind says how a position was named.
type Kind int

// Each flag accepts some of these.
const (
	Unset     Kind = iota // nothing was typed
	Beginning             // of what is kept
	End                   // of what there is now
	AtLSN                 // in the WAL of PostgreSQL
	AtTime                // a point in time, or a duration before now
	AtOffset              // in a Kafka partition
)

// Position is a place in a stream as the operator names it on the command line.
// Only the field of its kind is set.
type Position struct {
	Kind   Kind
	LSN    replication.LSN
	Time   time.Time
	Offset int64
}

// ParsePosition reads the value of a flag that accepts these kinds. The error
// is of class Misconfigured and says what to write.
func ParsePosition(flag, text string, now time.Time, takes ...Kind) (Position, error) {
	if text == "" {
		return Position{}, nil
	}
	for _, kind := range takes {
		if position, ok := kind.parse(text, now); ok {
			return position, nil
		}
	}
	return Position{}, failure.Misconfigure(fmt.Errorf("%s %s: write %s", flag, text, forms(takes)))
}

func (k Kind) parse(text string, now time.Time) (Position, bool) {
	p := Position{Kind: k}
	ok := false
	switch k {
	case Unset:
	case Beginning:
		ok = text == "beginning"
	case End:
		ok = text == "end"
	case AtLSN:
		lsn, err := replication.ParseLSN(text)
		p.LSN, ok = lsn, err == nil && lsn != 0
	case AtTime:
		p.Time, ok = parseTime(text, now)
	case AtOffset:
		offset, err := strconv.ParseInt(text, 10, 64)
		p.Offset, ok = offset, err == nil && offset >= 0
	}
	return p, ok
}

// forms lists the accepted forms.
func forms(takes []Kind) string {
	var all []string
	for _, kind := range []Kind{AtLSN, AtTime, AtOffset, Beginning, End} {
		if slices.Contains(takes, kind) {
			all = append(all, map[Kind][]string{
				AtLSN: {"an LSN such as 0/15306C8"}, AtTime: {"a time such as 2026-11-21T14:30:00Z", "a duration such as 90m"},
				AtOffset: {"an offset"}, Beginning: {"beginning"}, End: {"end"},
			}[kind]...)
		}
	}
	last := len(all) - 1
	return strings.Join(all[:last], ", ") + ", or " + all[last]
}

// parseTime reads a time or a duration before now. A time without a zone is in
// UTC.
func parseTime(text string, now time.Time) (at time.Time, is bool) {
	if ago, err := time.ParseDuration(text); err == nil {
		return now.Add(-ago.Abs()), true
	}
	for _, layout := range []string{
		time.RFC3339, "2006-01-02T15:04:05", "2006-01-02T15:04",
		time.DateTime, "2006-01-02 15:04", time.DateOnly,
	} {
		if at, err := time.Parse(layout, text); err == nil {
			return at, true
		}
	}
	return time.Time{}, false
}
