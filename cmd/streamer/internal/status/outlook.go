package status

import (
	"fmt"
	"time"

	"github.com/outboxstream/streamer/cmd/streamer/internal/console"
	"github.com/outboxstream/streamer/replication"
)

// keepsUp is how far behind a slot may be without an outlook, in bytes.
const keepsUp = 16 << 20

// outlook says what will happen to the slot if nothing changes. It compares
// with an earlier look. At the first look it uses how much WAL the server has
// written since the checkpoint was stored. A working streamer stores the
// checkpoint again and again.
func (s *Report) outlook(before *Report) string {
	if s.Slot == nil || s.Slot.Lost {
		return ""
	}
	if before != nil && before.Slot != nil && s.At.After(before.At) {
		return s.Slot.Trend(*before.Slot, s.At.Sub(before.At)).Text
	}
	if s.Slot.Lag < keepsUp {
		return ""
	}
	if s.Checkpoint == nil || !s.At.After(s.Checkpoint.SavedAt) {
		return ""
	}
	saved, err := replication.ParseLSN(s.Checkpoint.LSN)
	flushed, flushedErr := replication.ParseLSN(s.Slot.Flushed)
	if err != nil || flushedErr != nil || flushed <= saved {
		return ""
	}
	idle := max(time.Second, s.At.Sub(s.Checkpoint.SavedAt))
	const working = 10 * time.Second
	if idle < working && (s.Slot.Active || s.Slot.Copies > 0) {
		return "a streamer is at work; `streamer status --watch` shows whether it catches up"
	}
	return s.Slot.growing(float64(flushed-saved) / idle.Seconds()).Text
}

// Outlook is what becomes of a slot if nothing changes.
type Outlook struct {
	Text string
	// Behind reports that there is something to catch up with, and the others
	// whether it becomes less or more.
	Behind, CatchingUp, Growing bool
	// LostIn is when the slot is lost; nil: it is not, as far as is known.
	LostIn *time.Duration
}

// Trend compares two looks.
func (s *Slot) Trend(before Slot, took time.Duration) Outlook {
	lag := float64(s.Lag-before.Lag) / took.Seconds()
	switch {
	case s.Lag < keepsUp:
		return Outlook{Text: "keeps up"}
	case lag < 0:
		left := time.Duration(float64(s.Lag) / -lag * float64(time.Second))
		text := fmt.Sprintf("catching up by %s/s, done in %s", console.Size(int64(-lag)), console.About(left))
		return Outlook{Text: text, Behind: true, CatchingUp: true}
	}
	return s.growing(float64(s.RetainedWAL-before.RetainedWAL) / took.Seconds())
}

// growing says where a growth of so many bytes per second leads.
func (s *Slot) growing(rate float64) Outlook {
	if s.SafeWALSize != nil && *s.SafeWALSize <= 0 {
		return Outlook{
			Text:   "over the limit: lost at the server's next checkpoint, unless it is read now",
			Behind: true, Growing: true, LostIn: new(time.Duration),
		}
	}
	if rate < 1 {
		return Outlook{Text: "stands still", Behind: true}
	}
	if s.SafeWALSize == nil {
		return Outlook{
			Text:   fmt.Sprintf("keeps %s/s more until the disk is full: max_slot_wal_keep_size sets no limit", console.Size(int64(rate))),
			Behind: true, Growing: true,
		}
	}
	left := time.Duration(float64(*s.SafeWALSize) / rate * float64(time.Second))
	return Outlook{
		Text:   fmt.Sprintf("keeps %s/s more: lost in %s", console.Size(int64(rate)), console.About(left)),
		Behind: true, Growing: true, LostIn: &left,
	}
}

// rate returns how many events per second were published since an earlier look.
// The rate is not known at the first look, nor if the process was restarted in
// between.
func (s *Report) rate(before *Report) *float64 {
	if before == nil || s.Streamer == nil || before.Streamer == nil || !s.At.After(before.At) {
		return nil
	}
	events := s.Streamer.events() - before.Streamer.events()
	if events < 0 {
		return nil
	}
	perSecond := float64(events) / s.At.Sub(before.At).Seconds()
	return &perSecond
}

func (s *Streamer) events() (sum int64) {
	for _, t := range s.Topics {
		sum += t.Events
	}
	return sum
}
