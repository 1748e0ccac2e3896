package console

import "time"

// ParseTime reads a time, or a duration before now.
func ParseTime(text string, now time.Time) (at time.Time, is bool) {
	if ago, err := time.ParseDuration(text); err == nil {
		return now.Add(-ago.Abs()), true
	}
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04:05", "2006-01-02T15:04", time.DateTime, "2006-01-02 15:04", time.DateOnly} {
		if at, err := time.Parse(layout, text); err == nil {
			return at, true // UTC, unless it says otherwise
		}
	}
	return time.Time{}, false
}
