package checkpoint

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pglogrepl"
)

// Moment is where the stream stood at a time: everything that was committed at
// or after it lies at or above LSN. Times are the streamer's, not the server's.
type Moment struct {
	At  time.Time
	LSN LSN
}

// momentTime has milliseconds.
const momentTime = "2006-01-02T15:04:05.000Z07:00"

// MarshalJSON writes time and LSN as one string: a record holds many.
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

// fineness is how close moments may lie to each other, as a part of their age:
// what is long ago need not be known to the second.
const fineness = 4

// Remember adds a moment to older ones, which stay as they are, and leaves out
// what is no longer needed: all but one from before keep, and those that lie
// close to others. Some 80 remain of a day that is noted every ten seconds.
func Remember(past []Moment, now Moment, keep time.Duration) []Moment {
	all := make([]Moment, 0, len(past)+1)
	for _, m := range past {
		if m.At.Before(now.At) && m.LSN <= now.LSN { // else the clock or the slot has been set back
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

// Before is the last of the moments that are not after a time.
func Before(past []Moment, at time.Time) (Moment, bool) {
	for _, m := range slices.Backward(past) {
		if !m.At.After(at) {
			return m, true
		}
	}
	return Moment{}, false
}
