package page

import (
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/internal/ops"
	"github.com/outboxstream/streamer/internal/pipeline"
)

// The first line says what the streamer is doing and whether that is all right,
// and every problem has a remedy.
func TestVerdict(t *testing.T) {
	t.Parallel()
	advised := failure.Advise(errors.New("password authentication failed"), "correct postgres.dsn")
	for name, test := range map[string]struct {
		change       func(s *streamer)
		grow, lag    int64 // bytes per second
		level        Level
		sentence     string
		what, remedy string // of the first problem
	}{
		"it keeps up": {nil, 0, 0, Well, "Streaming, keeps up: 0 s behind.", "", ""},
		"it catches up": {
			func(s *streamer) { s.lag = 5 * time.Minute; s.figures.Slot.Lag = 1 << 30 }, -1 << 20, -1 << 20, Well,
			"Streaming, 5 min 0 s behind: catching up by 1.0 MiB/s, done in 16 min 24 s.", "", "",
		},
		"it falls behind": {
			func(s *streamer) { s.lag = 2 * time.Minute; s.figures.Slot.Lag = 1 << 30 }, 1 << 18, 1 << 18, Look,
			"Streaming, 2 min 0 s behind: keeps 256.0 KiB/s more: lost in 4 h 32 min.", "The slot is lost in 4 h 32 min.", "enlarge the disk",
		},
		"it will be lost soon": {
			func(s *streamer) { s.lag = 2 * time.Minute; s.figures.Slot.Lag = 1 << 30 }, 1 << 20, 1 << 20, Act,
			"Streaming, 2 min 0 s behind: keeps 1.0 MiB/s more: lost in 1 h 7 min.", "The slot is lost in 1 h 7 min.", "enlarge the disk",
		},
		"there is no limit": {
			func(s *streamer) { s.figures.Slot.Lag = 1 << 30; s.figures.Slot.SafeWALSize = nil }, 1 << 20, 1 << 20, Look,
			"Streaming, 0 s behind: keeps 1.0 MiB/s more until the disk is full: max_slot_wal_keep_size sets no limit.",
			"keeps 1.0 MiB/s more until the disk is full", "Watch the server's disk",
		},
		"it is over the limit": {
			func(s *streamer) { over := int64(-5); s.figures.Slot.SafeWALSize = &over }, 0, 0, Act,
			"Streaming, keeps up: 0 s behind.", "over the limit", "max_slot_wal_keep_size",
		},
		"the lag is long": {
			func(s *streamer) { s.lag = 90 * time.Second }, 0, 0, Look, "Streaming, 1 min 30 s behind.",
			"1 min 30 s after they were committed", "streamer doctor",
		},
		"the lag is not known": {
			func(s *streamer) { s.lagKnown = false }, 0, 0, Well, "Streaming, how far behind is not known yet.", "", "",
		},
		"it starts": {
			func(s *streamer) { s.status.Phase = pipeline.Starting; s.status.Since = time.Now() }, 0, 0, Well, "Starting for 40 s.", "", "",
		},
		"it starts for long": {
			func(s *streamer) { s.status.Phase = pipeline.Starting; s.status.Since = time.Now().Add(-time.Hour) }, 0, 0, Look,
			"Starting for 1 h 0 min.", "takes long", "streamer doctor",
		},
		"it stands by": {
			func(s *streamer) {
				s.status = pipeline.Status{Phase: pipeline.Standby, Since: time.Now(), Detail: "another instance holds the lock of slot shop"}
			}, 0, 0, Well, "Standing by for 40 s: another instance holds the lock of slot shop.", "", "",
		},
		"it copies old rows": {
			func(s *streamer) {
				s.status.Phase, s.figures.SnapshotRows, s.figures.SnapshotOf = pipeline.Snapshotting, 1200, 10000
			}, 0, 0, Well, "Publishing the rows from before the slot: 1,200 of about 10,000 rows; the stream begins after them.", "", "",
		},
		"Kafka is away": {
			func(s *streamer) {
				s.status = pipeline.Status{Phase: pipeline.Blocked, Since: time.Now(), Detail: "waiting for the broker\nto acknowledge"}
				s.figures.Slot.Lag = 1 << 30
			}, 1 << 18, 1 << 18, Look, "Blocked for 40 s: Kafka does not acknowledge. The slot keeps 256.0 KiB/s more: lost in 4 h 32 min.",
			"Waiting for the broker; to acknowledge.", "a restart neither helps nor harms",
		},
		"PostgreSQL is away": {
			func(s *streamer) {
				s.status = pipeline.Status{Phase: pipeline.Waiting, Since: time.Now(), Detail: failure.Describe(advised)}
			}, 0, 0, Look, "Waiting before it tries again, because the last session ended with an error.",
			"password authentication failed", "correct postgres.dsn",
		},
		"it stops": {
			func(s *streamer) { s.status.Phase = pipeline.Draining; s.figures.InFlightEvents = 1 }, 0, 0, Well,
			"Stopping: waits for 1 event in flight.", "", "",
		},
		"a row is a dead letter": {
			func(s *streamer) { s.figures.DeadLetters = map[string]int64{"unroutable": 1} }, 0, 0, Look,
			"Streaming, keeps up: 0 s behind.", "1 row could not be published", "streamer dead-letters list",
		},
		"a crash may repeat": {
			func(s *streamer) { reason := "not authorized"; s.figures.AtLeastOnce = &reason }, 0, 0, Look,
			"Streaming, keeps up: 0 s behind.", "A crash may repeat events: not authorized.", "permission",
		},
		"a crash may repeat by choice": {
			func(s *streamer) { reason := "kafka.resume is at_least_once"; s.figures.AtLeastOnce = &reason }, 0, 0, Well,
			"Streaming, keeps up: 0 s behind.", "", "",
		},
		"an error was logged": {
			func(s *streamer) {
				s.entries = []ops.Entry{{Level: slog.LevelError, Message: "rewind slot was lost", Fix: "raise it", Last: time.Now()}}
			}, 0, 0, Look, "Streaming, keeps up: 0 s behind.", "Rewind slot was lost.", "raise it",
		},
		"a warning was logged": {
			func(s *streamer) {
				s.entries = []ops.Entry{{Level: slog.LevelWarn, Message: "new partitions are not ready yet", Last: time.Now()}}
			}, 0, 0, Well, "Streaming, keeps up: 0 s behind.", "", "",
		},
		"an error was logged long ago": {
			func(s *streamer) {
				s.entries = []ops.Entry{{Level: slog.LevelError, Message: "rewind slot was lost", Last: time.Now().Add(-time.Hour)}}
			}, 0, 0, Well, "Streaming, keeps up: 0 s behind.", "", "",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := healthy()
			if test.change != nil {
				test.change(s)
			}
			p := New(about(), s.sources())
			now := s.grow(p, time.Now(), test.grow, test.lag)
			v := s.viewAt(p, now)
			assert.Equal(t, test.level, v.Level, v.Problems)
			assert.Equal(t, test.sentence, v.Sentence)
			if test.what == "" {
				assert.Empty(t, v.Problems)
				return
			}
			if assert.NotEmpty(t, v.Problems) {
				assert.Contains(t, v.Problems[0].What, test.what)
				assert.Contains(t, v.Problems[0].Remedy, test.remedy)
			}
			for _, problem := range v.Problems {
				assert.NotEmpty(t, problem.Remedy, problem.What)
			}
		})
	}
}

// The most urgent problem comes first, whatever else there is.
func TestMostUrgentProblemComesFirst(t *testing.T) {
	t.Parallel()
	s := healthy()
	over := int64(0)
	s.figures.Slot.SafeWALSize = &over
	s.figures.DeadLetters = map[string]int64{"unroutable": 1}
	s.status.Phase, s.status.Detail = pipeline.Blocked, "waiting"
	v := s.viewAt(New(about(), s.sources()), time.Now())
	assert.Equal(t, Act, v.Level)
	assert.Len(t, v.Problems, 3)
	assert.Equal(t, Act, v.Problems[0].Level)
}

// What a screen reader announces does not change from second to second.
func TestBriefIsSteady(t *testing.T) {
	t.Parallel()
	s := healthy()
	p := New(about(), s.sources())
	now := time.Now()
	first := s.viewAt(p, now).Brief
	assert.Equal(t, "Streaming. All is well.", first)
	s.change(func(s *streamer) { s.lag = 3 * time.Second })
	assert.Equal(t, first, s.viewAt(p, now.Add(10*time.Second)).Brief)
	s.change(func(s *streamer) { s.status.Phase = pipeline.Blocked })
	assert.Equal(t, "Blocked. Needs a look.", s.viewAt(p, now.Add(2*time.Minute)).Brief)
	for _, phase := range pipeline.Phases() {
		s.change(func(s *streamer) { s.status.Phase = phase })
		brief := s.viewAt(p, now).Brief
		assert.Regexp(t, `^[A-Z][a-z ]+\. [A-Z][a-z ]+\.$`, brief, phase)
	}
}
