package verify

import (
	"time"

	"github.com/outboxstream/streamer/replication"
)

// Span limits what is reported: at or after From and before To. Zero values are
// no limits. A span has times or positions, or both for its two ends.
type Span struct {
	FromTime, ToTime time.Time
	From, To         replication.LSN // of commit records
}

// Unlimited reports whether everything is in the span.
func (s Span) Unlimited() bool { return s == Span{} }

func (s Span) record(p replication.Position, at time.Time) bool {
	return p.Commit >= s.From && (s.To == 0 || p.Commit < s.To) && s.time(at)
}

func (s Span) time(at time.Time) bool {
	return !at.Before(s.FromTime) && (s.ToTime.IsZero() || at.Before(s.ToTime))
}

// inSpan reports whether a row is in the span asked about, and whether that is
// known. It uses the row's position if the truth file has it, and otherwise the
// time when it was written.
func (c *Comparison) inSpan(r *Row) (in, told bool) {
	span := c.options.Span
	positioned := r.Position != (replication.Position{})
	switch byTime := !span.FromTime.IsZero() || !span.ToTime.IsZero(); {
	case span.Unlimited():
		return true, true
	case positioned && !byTime:
		return span.record(r.Position, time.Time{}), true
	case r.Written.IsZero():
		return false, false
	}
	return c.options.Written.time(r.Written), true
}
