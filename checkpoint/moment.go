package checkpoint

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pglogrepl"
)

// Moment is the position of the stream at a time: everything committed at or
// after At is at or above LSN. Times are the streamer's, not the server's.
type Moment struct {
	At  time.Time
	LSN LSN
}

// momentTime has a resolution of milliseconds.
const momentTime = "2006-01-02T15:04:05.000Z07:00"

// MarshalJSON writes time and LSN as one string because a record holds many
// moments.
func (m Moment) MarshalJSON() ([]byte, error) {
	return json.Marshal(m.At.UTC().Format(momentTime) + " " + m.LSN.String())
}

// UnmarshalJSON reads what MarshalJSON writes.
func (m *Moment) UnmarshalJSON(text []byte) error {
	var both string
	if err := json.Unmarshal(text, &both); err != nil {
		return fmt.Errorf("moment: %w", err)
	}
	at, lsn, _ := strings.Cut(both, " ")
	var err error
	if m.At, err = time.Parse(time.RFC3339, at); err != nil {
		return fmt.Errorf("moment: %w", err)
	}
	if m.LSN, err = pglogrepl.ParseLSN(lsn); err != nil {
		return fmt.Errorf("moment: %w", err)
	}
	return nil
}

// fineness is how close moments may be to each other, as a fraction of their
// age: the distant past need not be known to the second.
const fineness = 4

// Remember adds a moment to older ones, which stay unchanged. It leaves out
// moments that are no longer needed: all but one from before keep, and those
// that are close to others. Of a day that is recorded every ten seconds, some
// 80 remain.
func Remember(past []Moment, now Moment, keep time.Duration) []Moment {
	all := make([]Moment, 0, len(past)+1)
	for _, m := range past {
		if m.At.Before(now.At) && m.LSN <= now.LSN { // otherwise the clock or the slot has been set back
			all = append(all, m)
		}
	}
	all = append(all, now)
	kept := all[:0]
	for i, m := range all {
		if i+1 < len(all) {
			age, next := now.At.Sub(m.At), all[i+1].At
			tooOld := now.At.Sub(next) >= keep
			crowded := len(kept) > 0 && next.Sub(kept[len(kept)-1].At) <= age/fineness
			if tooOld || crowded {
				continue
			}
		}
		kept = append(kept, m)
	}
	return kept
}

// Before returns the last of the moments that are not after the given time.
func Before(past []Moment, at time.Time) (Moment, bool) {
	for _, m := range slices.Backward(past) {
		if !m.At.After(at) {
			return m, true
		}
	}
	return Moment{}, false
}
