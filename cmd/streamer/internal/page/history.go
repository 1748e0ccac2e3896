package page

import (
	"math"
	"time"

	"github.com/outboxstream/streamer/cmd/streamer/internal/status"
	"github.com/outboxstream/streamer/internal/ops"
)

const (
	// sampleEvery is the distance of two samples, and kept how many there are: one
	// hour.
	sampleEvery = 5 * time.Second
	kept        = int(time.Hour / sampleEvery)
	// rateOver is the time over which a rate is computed.
	rateOver = 10 * time.Second
	// trendOver is the time over which the outlook of the slot is computed, as
	// streamer status --watch does.
	trendOver = 20 * time.Second
)

// sample is what was measured at a moment. What was not known is not a number.
type sample struct {
	at       time.Time
	lag      float64 // seconds, the longest since the last sample
	rate     float64 // events per second since the last sample
	retained float64 // bytes of WAL that the slot keeps
	limit    float64 // bytes that it may keep
	behind   float64 // bytes between the confirmed position and the end of the WAL
}

var unknown = math.NaN()

// history holds the samples of the last hour, and what only several looks can
// show. It is not for concurrent use.
type history struct {
	ring [kept]sample
	next int // where the next sample goes
	size int

	lag     float64 // longest since the last sample, or unknown
	before  count   // at the last sample
	counts  []count // of the last seconds
	topics  map[string]publication
	looked  time.Time
	started time.Time
}

// count is how many events were published until a moment.
type count struct {
	at     time.Time
	events int64
}

// publication is when a topic last got an event.
type publication struct {
	events int64
	at     time.Time // zero: not since the process started
}

func newHistory(now time.Time) *history {
	return &history{lag: unknown, before: count{at: now}, topics: map[string]publication{}, looked: now, started: now}
}

// lagged notes the lag at a moment.
func (h *history) lagged(behind time.Duration, known bool) {
	if known {
		h.lag = math.Max(behind.Seconds(), zeroIfUnknown(h.lag))
	}
}

func zeroIfUnknown(v float64) float64 {
	if math.IsNaN(v) {
		return 0
	}
	return v
}

// due reports whether it is time for a sample.
func (h *history) due(now time.Time) bool { return now.Sub(h.before.at) >= sampleEvery }

// look notes the figures of a moment.
func (h *history) look(now time.Time, f ops.Figures) {
	events := f.Events()
	h.counts = append(h.counts, count{now, events})
	for len(h.counts) > 2 && now.Sub(h.counts[1].at) >= rateOver {
		h.counts = h.counts[1:]
	}
	for topic, t := range f.Topics {
		was, known := h.topics[topic]
		if known && t.Events == was.events || t.Events == 0 {
			continue
		}
		at := now
		if f.LastAck.After(h.looked) { // not later than the last acknowledgement of all
			at = f.LastAck
		}
		h.topics[topic] = publication{t.Events, at}
	}
	h.looked = now
	if h.due(now) {
		h.take(now, events, f)
	}
}

// take adds a sample.
func (h *history) take(now time.Time, events int64, f ops.Figures) {
	s := sample{at: now, lag: h.lag, retained: unknown, limit: unknown, behind: unknown}
	s.rate = float64(events-h.before.events) / now.Sub(h.before.at).Seconds()
	if slot := f.Slot; slot != nil && now.Sub(slot.At) < staleAfter {
		s.retained, s.behind = float64(slot.RetainedWAL), float64(slot.Lag)
		if slot.SafeWALSize != nil {
			s.limit = float64(slot.RetainedWAL + max(0, *slot.SafeWALSize))
		}
	}
	h.ring[h.next] = s
	h.next, h.size = (h.next+1)%kept, min(h.size+1, kept)
	h.before, h.lag = count{now, events}, unknown
}

// samples are in the order of time.
func (h *history) samples() []sample {
	all := make([]sample, 0, h.size)
	for i := range h.size {
		all = append(all, h.ring[(h.next-h.size+i+kept)%kept])
	}
	return all
}

// rate is in events per second, and known from the second look on.
func (h *history) rate() (perSecond float64, known bool) {
	if len(h.counts) < 2 {
		return 0, false
	}
	first, last := h.counts[0], h.counts[len(h.counts)-1]
	return float64(last.events-first.events) / last.at.Sub(first.at).Seconds(), true
}

// trend compares the slot with what it was a while ago.
func (h *history) trend(now time.Time, slot status.Slot) (o status.Outlook, known bool) {
	for i := range h.size {
		s := h.ring[(h.next-1-i+kept)%kept] // latest first
		if age := now.Sub(s.at); age >= trendOver && age < 2*trendOver && !math.IsNaN(s.retained) {
			return slot.Trend(status.Slot{Lag: int64(s.behind), RetainedWAL: int64(s.retained)}, age), true
		}
	}
	return status.Outlook{}, false
}
