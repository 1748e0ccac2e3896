package pipeline

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/replication"
)

// The drain deadline counts from the signal, whatever happens before and after
// it. A connection lost just before the signal or during the drain does not
// begin another deadline.
func TestStopHasOneDeadline(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ lost, stopped time.Duration }{
		"lost during the drain":       {12 * time.Second, 5 * time.Second},
		"lost a moment before":        {4500 * time.Millisecond, 5 * time.Second},
		"lost at the end of the time": {14900 * time.Millisecond, 5 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			perform(t, func(s *stage) {
				s.warmUp()
				s.at(4 * time.Second)
				s.world.kafka.Freeze()
				s.commit(0x3000, "b")
				s.reader().say(s.reader().parts(s.transaction(0x4000, "c", "d"))[:2]...)
				time.AfterFunc(test.lost-4*time.Second, func() { s.reader().fail(errModelCut) })
				s.at(test.stopped)
				s.stop()
				after, err := s.exit()
				require.ErrorAs(s, err, new(*DrainError))
				assert.Equal(s, test.stopped+s.config.DrainTimeout, after)
			})
		})
	}
}

// However many transactions are in flight, checkpoints follow the
// acknowledgements: with rows of 400 bytes, the default of
// kafka.max_in_flight_bytes takes 20,000.
func TestTrailOfALongFlight(t *testing.T) {
	t.Parallel()
	const inFlight = 20_000
	trail := newTrail(fromTheStart())
	commit := func(i int) replication.LSN { return replication.LSN(0x2000 + 0x100*i) }
	saves := 0
	for i := range 3 * inFlight {
		trail.come(commit(i), 1)
		trail.reach(commit(i) + 0x40)
		if i%1000 != 0 || i < inFlight {
			continue
		}
		if at := trail.below(commit(i-inFlight) + 0x40); at != nil { // everything up to there is acknowledged
			trail.forget(at.lsn)
			saves++
		}
	}
	assert.GreaterOrEqual(t, saves, 2, "at least one each time everything in flight has been replaced")
}

// A store that refuses while the connection is closed because of that store
// ends the process: the store will not recover by itself.
func TestStoreRefusesWhileTheConnectionIsGivenUp(t *testing.T) {
	t.Parallel()
	perform(t, func(s *stage) {
		s.stream()
		s.ledger.become(turnedOff)
		s.at(4 * time.Second)
		s.commit(0x2000, "a") // of a topic that no checkpoint names yet
		s.at(36 * time.Second)
		require.True(s, s.reader().isClosed())
		s.ledger.become(verdict{err: failure.Refuse(errors.New("topic of checkpoints was deleted"))})
		s.at(10 * time.Minute)
		require.False(s, s.process.running(), "it waits: %s", s.pipeline.Status().Detail)
		assert.Equal(s, failure.Refused, failure.ClassOf(s.process.err))
	})
}

// A store claimed by an instance that died before it saved anything must be
// claimed again. The record is the one saved last, and no save will ever
// succeed.
func TestStoreWasClaimedByAnInstanceThatHasDied(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		resume Resume
		row    bool
	}{
		"and nothing is written, so that no fence shows it": {ResumeAuto, false},
		"and there is no fence":                             {ResumeAtLeastOnce, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			perform(t, func(s *stage) {
				s.config.Resume = test.resume
				s.warmUp()
				s.at(4 * time.Second)
				s.world.mu.Lock()
				s.world.storeEpoch++
				s.world.mu.Unlock()
				if test.row {
					s.commit(0x3000, "b")
				}
				s.idle(0x3800, false)
				s.at(30 * time.Second)
				s.idle(0x3800, false) // as a server repeats it on the next connection
				s.at(time.Minute)
				assert.EqualValues(s, 0x3800, s.ledger.last().LSN)
				assert.EqualValues(s, 0x3800, s.reader().last())
				assert.Less(s, s.opened(), 5, "sessions")
			})
		})
	}
}

// A clock that is set back does not stop checkpoints: the time in a record is
// for operators, and nothing depends on it.
func TestClockThatIsSetBack(t *testing.T) {
	t.Parallel()
	perform(t, func(s *stage) {
		s.warmUp()
		s.at(4 * time.Second)
		s.world.mu.Lock()
		saver := s.flow.saver
		s.world.mu.Unlock()
		saver.mu.Lock()
		saver.saved.SavedAt = time.Now().Add(time.Hour) // the clock was an hour ahead when that was saved
		saver.mu.Unlock()
		s.commit(0x3000, "b")
		s.at(time.Minute)
		assert.EqualValues(s, 0x3040, s.ledger.last().LSN)
		assert.EqualValues(s, 0x3040, s.reader().last())
	})
}
