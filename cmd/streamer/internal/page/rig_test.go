package page

import (
	"log/slog"
	"sync"
	"time"

	"github.com/outboxstream/streamer/internal/ops"
	"github.com/outboxstream/streamer/internal/pipeline"
	"github.com/outboxstream/streamer/replication"
)

// streamer is what a page sees of one. A test changes it as it likes.
type streamer struct {
	mu       sync.Mutex
	status   pipeline.Status
	lag      time.Duration
	lagKnown bool
	company  pipeline.Company
	figures  ops.Figures
	entries  []ops.Entry
	asked    int // how often for the figures
}

// healthy is a streamer at work that keeps up.
func healthy() *streamer {
	exactly := ""
	safe := int64(4 << 30)
	now := time.Now()
	return &streamer{
		status: pipeline.Status{Phase: pipeline.Streaming, Since: now.Add(-time.Hour)}, lagKnown: true,
		company: pipeline.Company{At: now},
		figures: ops.Figures{
			Slot: &replication.Slot{
				Name: "shop", Active: true, ActivePID: 7, WALStatus: "reserved", SafeWALSize: &safe, Lag: 1000, RetainedWAL: 2 << 20, At: now,
			},
			AtLeastOnce: &exactly, Saved: now, LastAck: now,
			Topics: map[string]ops.Topic{"shop.order": {Events: 10, Bytes: 1000}},
		},
	}
}

func (s *streamer) change(how func(*streamer)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	how(s)
}

func (s *streamer) sources() Sources {
	return Sources{
		Status:  func() pipeline.Status { s.mu.Lock(); defer s.mu.Unlock(); return s.status },
		Lag:     func() (time.Duration, bool) { s.mu.Lock(); defer s.mu.Unlock(); return s.lag, s.lagKnown },
		Company: func() pipeline.Company { s.mu.Lock(); defer s.mu.Unlock(); return s.company },
		Entries: func() []ops.Entry { s.mu.Lock(); defer s.mu.Unlock(); return s.entries },
		Figures: func() ops.Figures {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.asked++
			return s.figures
		},
	}
}

func about() About {
	return About{Version: "v1.2.3", Slot: "shop", Instance: "process 1 on host", Topic: "shop.{aggregate_type}"}
}

// viewAt is what the page shows at a moment, after a look.
func (s *streamer) viewAt(p *Page, now time.Time) View {
	p.tick(now)
	p.look(now)
	return p.view(now)
}

// grow lets time pass in which the slot keeps more and more.
func (s *streamer) grow(p *Page, now time.Time, perSecond, lagPerSecond int64) time.Time {
	for range 8 {
		now = now.Add(sampleEvery)
		s.change(func(s *streamer) {
			slot := *s.figures.Slot
			slot.RetainedWAL += perSecond * int64(sampleEvery/time.Second)
			slot.Lag += lagPerSecond * int64(sampleEvery/time.Second)
			if slot.SafeWALSize != nil {
				left := *slot.SafeWALSize - perSecond*int64(sampleEvery/time.Second)
				slot.SafeWALSize = &left
			}
			slot.At = now
			s.figures.Slot = &slot
		})
		p.tick(now)
	}
	return now
}

// hostile is what an enemy would name things, and write into errors.
const hostile = `<script>hacked=1</script><img data-hostile src=x onerror="hacked=1">"'` + "`" + `{{.}}&amp;` + "\x00\u202e\xff"

// besieged is a streamer in which everything has a hostile name.
func besieged() *streamer {
	s := healthy()
	reason := hostile
	now := time.Now()
	s.status = pipeline.Status{Phase: pipeline.Blocked, Detail: hostile, Since: now}
	s.figures.AtLeastOnce = &reason
	s.figures.Topics = map[string]ops.Topic{hostile: {Events: 1, Bytes: 1, Refused: 1}}
	s.figures.Read = map[string]int64{hostile: 1}
	s.figures.DeadLetters = map[string]int64{hostile: 1}
	s.figures.Slot.Name, s.figures.Slot.WALStatus = hostile, hostile
	s.figures.Rewind = &replication.Slot{Name: hostile}
	s.company = pipeline.Company{
		At: now, Unknown: hostile, Replay: &replication.ReplaySlotState{Name: hostile, Confirmed: hostile},
		Working: []replication.Holder{{Application: hostile, Address: hostile}}, Standbys: []replication.Holder{{Application: hostile}},
	}
	s.entries = []ops.Entry{{
		Level: slog.LevelError, Message: hostile, Err: hostile, Fix: hostile, Details: [][2]string{{hostile, hostile}},
		First: now, Last: now, Count: 2,
	}}
	return s
}
