package pipeline

import (
	"context"
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/checkpoint"
	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/replication"
	"github.com/outboxstream/streamer/router"
)

// What is acknowledged is confirmed once it is stored, and not before.
func TestNothingIsConfirmedBeforeItIsSaved(t *testing.T) {
	t.Parallel()
	perform(t, func(s *stage) {
		s.warmUp()
		s.ledger.answers(func(context.Context, checkpoint.Record) verdict {
			<-time.After(6500 * time.Millisecond)
			return taken
		})
		s.at(3500 * time.Millisecond)
		s.commit(0x3000, "b")
		s.at(10*time.Second + 499*time.Millisecond)
		require.Len(s, s.ledger.attempts(), 4, "the first, the topic's, that of a, that of b")
		assert.Equal(s, 4*time.Second, s.since(s.ledger.attempts()[3].at), "with the tick after the acknowledgement")
		s.at(11*time.Second - time.Millisecond)
		assert.EqualValues(s, 0x3040, s.ledger.last().LSN)
		assert.EqualValues(s, 0x2040, s.reader().last())
		s.at(11 * time.Second)
		assert.EqualValues(s, 0x3040, s.reader().last(), "with the tick after b was stored")
	})
}

// What is not acknowledged is neither stored nor confirmed, whatever comes
// after it.
func TestNothingIsSavedBeforeItIsAcknowledged(t *testing.T) {
	t.Parallel()
	perform(t, func(s *stage) {
		s.warmUp()
		s.world.kafka.Freeze()
		s.at(4 * time.Second)
		s.commit(0x3000, "b")
		s.idle(0x4000, true)
		s.at(15 * time.Second)
		assert.EqualValues(s, 0x2040, s.ledger.last().LSN)
		assert.EqualValues(s, 0x2040, s.reader().last())
		s.world.kafka.Thaw()
		s.at(18 * time.Second)
		assert.EqualValues(s, 0x4000, s.ledger.last().LSN, "then both at once")
		assert.EqualValues(s, 0x4000, s.reader().last())
	})
}

// Positions of an idle server are stored every ten seconds.
func TestIdleSaves(t *testing.T) {
	t.Parallel()
	perform(t, func(s *stage) {
		s.warmUp()
		before := len(s.ledger.stored())
		for i := range 32 {
			s.at(4*time.Second + time.Duration(i)*time.Second - time.Millisecond)
			s.idle(replication.LSN(0x3000+i), false)
		}
		s.at(36 * time.Second)
		var at []time.Duration
		for _, e := range s.ledger.stored()[before:] {
			at = append(at, s.since(e.at))
		}
		// The ticks are at whole seconds. The last save of the warm-up is shortly
		// after the first tick.
		assert.Equal(s, []time.Duration{12 * time.Second, 22 * time.Second, 32 * time.Second}, at)
		assert.EqualValues(s, 0x301c, s.ledger.last().LSN)
		assert.EqualValues(s, 0x301c, s.reader().last())
	})
}

// An idle position is stored at once when the server asks: it may be shutting
// down.
func TestIdleSaveWhenTheServerAsks(t *testing.T) {
	t.Parallel()
	perform(t, func(s *stage) {
		s.warmUp()
		s.at(4 * time.Second)
		s.idle(0x3000, false)
		s.at(6500 * time.Millisecond)
		assert.EqualValues(s, 0x2040, s.ledger.last().LSN)
		s.idle(0x3010, true)
		s.at(6500 * time.Millisecond)
		assert.EqualValues(s, 0x3010, s.ledger.last().LSN)
		s.at(7500 * time.Millisecond)
		assert.EqualValues(s, 0x3010, s.reader().last(), "and confirmed with the next tick")
	})
}

// An idle position is stored with the next tick while the cleanup waits for it.
func TestIdleSaveWhileCleaningUpWaits(t *testing.T) {
	t.Parallel()
	perform(t, func(s *stage) {
		s.warmUp()
		s.at(3500 * time.Millisecond)
		s.idle(0x3000, false)
		s.at(6500 * time.Millisecond)
		assert.EqualValues(s, 0x2040, s.ledger.last().LSN)
		s.world.mu.Lock()
		f := s.flow
		s.world.mu.Unlock()
		waited := make(chan error, 1)
		go func() { waited <- (&cleaner{flow: f}).wait(s.Context(), 0x3000) }()
		s.at(7 * time.Second)
		assert.EqualValues(s, 0x3000, s.ledger.last().LSN)
		require.NoError(s, <-waited)
		assert.Equal(s, 7500*time.Millisecond, time.Since(s.began), "the cleanup checks every second")
		s.idle(0x3010, false)
		s.at(10 * time.Second)
		assert.EqualValues(s, 0x3000, s.ledger.last().LSN, "nothing is waiting any more")
	})
}

// While events flow, a checkpoint is stored every Checkpoint.Interval.
func TestSavesWhileEventsFlow(t *testing.T) {
	t.Parallel()
	perform(t, func(s *stage) {
		s.config.Checkpoint.Interval = 3 * time.Second
		s.stream()
		before := len(s.ledger.stored())
		for i := range 240 {
			s.at(10*time.Second + time.Duration(i)*50*time.Millisecond + time.Microsecond)
			s.commit(replication.LSN(0x3000+0x100*i), fmt.Sprintf("row-%d", i))
		}
		s.at(22 * time.Second)
		var at []time.Duration
		for _, e := range s.ledger.stored()[before:] {
			at = append(at, s.since(e.at))
		}
		for i, saved := range at[1:] {
			assert.GreaterOrEqual(s, saved-at[i], 3*time.Second, "save %d", i+1)
			assert.LessOrEqual(s, saved-at[i], 6*time.Second, "save %d", i+1)
		}
		assert.Len(s, at, 4, "%v", at)
	})
}

// What this session has not read is not confirmed, although it is stored. A
// slot that a crash has moved back is read from where it begins.
func TestNothingIsConfirmedThatWasNotRead(t *testing.T) {
	t.Parallel()
	perform(t, func(s *stage) {
		s.warmUp()
		s.at(4 * time.Second)
		s.idle(0x3000, true)
		s.at(5 * time.Second)
		require.EqualValues(s, 0x3000, s.reader().last())
		s.world.mu.Lock()
		s.world.primary.slots[modelSlotName].confirmed = firstLSN
		s.world.primary.end = 0x5000
		s.silent = true
		s.world.mu.Unlock()
		s.reader().fail(errModelCut)
		s.at(7 * time.Second)
		r := s.reader()
		require.Equal(s, firstLSN, r.start, "where the slot begins")
		assert.Equal(s, firstLSN, r.last())
		r.send(s.world.primary.wal[0])
		s.at(9 * time.Second)
		assert.EqualValues(s, 0x2040, r.last(), "as far as it is read")
		s.idle(0x2800, true)
		s.at(10 * time.Second)
		assert.EqualValues(s, 0x2800, r.last())
		s.idle(0x4000, false)
		s.at(12 * time.Second)
		assert.GreaterOrEqual(s, r.last(), replication.LSN(0x3000), "as far as it is stored")
		s.at(25 * time.Second)
		assert.EqualValues(s, 0x4000, r.last())
		for i, c := range r.confirmations() {
			assert.LessOrEqual(s, r.confirmations()[max(0, i-1)].lsn, c.lsn)
		}
	})
}

// A keepalive inside a transaction says nothing about the rest of the
// transaction. It is answered with the old position.
func TestKeepaliveInsideATransaction(t *testing.T) {
	t.Parallel()
	perform(t, func(s *stage) {
		s.warmUp()
		s.at(20 * time.Second) // idle positions may be stored at once
		parts := s.reader().parts(s.transaction(0x3000, "b", "c"))
		s.reader().say(parts[:2]...)
		s.idle(0x9000, true)
		s.at(35 * time.Second)
		assert.EqualValues(s, 0x2040, s.ledger.last().LSN)
		all := s.reader().confirmations()
		assert.EqualValues(s, 0x2040, s.reader().last())
		answered := false
		for _, c := range all {
			answered = answered || c.at == 20*time.Second
		}
		assert.True(s, answered, "%v", all)
		s.reader().say(parts[2:]...)
		s.at(37 * time.Second)
		assert.EqualValues(s, 0x3040, s.ledger.last().LSN)
		assert.EqualValues(s, 0x3040, s.reader().last())
	})
}

// landmarked is a session on a server that has crashed. Its slot begins before
// the checkpoint. Two rows published below the checkpoint must reappear.
func landmarked(s *stage) *script {
	s.stream()
	s.commit(0x2000, "old-1", "old-2")
	s.idle(0x2800, true)
	s.at(2 * time.Second)
	s.stop()
	_, err := s.exit()
	require.NoError(s, err)
	require.EqualValues(s, 0x2800, s.ledger.last().LSN)
	s.world.mu.Lock()
	s.world.primary.crash()
	s.silent = true
	s.world.mu.Unlock()
	s.transaction(0x3000, "new")
	s.stream()
	return s.reader()
}

// Until the last row below the checkpoint has reappeared, nothing is confirmed
// beyond what the slot has confirmed, and nothing is stored.
func TestNothingIsConfirmedBeforeTheLandmarkOfTheCheckpoint(t *testing.T) {
	t.Parallel()
	perform(t, func(s *stage) {
		r := landmarked(s)
		assert.EqualValues(s, 0x1000, r.start)
		s.idle(0x1800, true)
		s.at(12 * time.Second)
		assert.EqualValues(s, 0x1000, r.last(), "read, but not proven")
		parts := r.parts(s.world.primary.wal[0])
		r.say(parts[:len(parts)-2]...) // not yet its last row
		s.at(15 * time.Second)
		assert.EqualValues(s, 0x1000, r.last())
		r.say(parts[len(parts)-2:]...)
		s.at(18 * time.Second)
		assert.EqualValues(s, 0x2040, r.last(), "proven, and read up to here")
		r.send(s.world.primary.wal[1])
		s.at(21 * time.Second)
		assert.EqualValues(s, 0x3040, r.last())
		assert.Equal(s, []string{"old-1", "old-2", "new"}, s.ids(), "what is below the checkpoint is not published again")
	})
}

// If what must reappear does not, this is another history: the process refuses,
// and the slot stays where it was.
func TestLandmarkOfTheCheckpointThatDoesNotComeBy(t *testing.T) {
	t.Parallel()
	for name, instead := range map[string]func(*stage, *script){
		"another row in its place": func(s *stage, r *script) {
			other := s.world.primary.wal[0]
			other.rows = []modelRow{{id: "old-1", key: "k"}, {id: "other", key: "k"}}
			r.send(other)
		},
		"an idle position behind it": func(s *stage, _ *script) { s.idle(0x2800, false) },
		"a later row": func(s *stage, r *script) {
			r.send(s.world.primary.wal[1])
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			perform(t, func(s *stage) {
				r := landmarked(s)
				s.world.forked = true // the oracle knows what the server has, not what it shows
				s.at(2 * time.Second)
				instead(s, r)
				_, err := s.exit()
				require.ErrorIs(s, err, router.ErrOtherHistory)
				assert.Equal(s, failure.Refused, failure.ClassOf(err))
				assert.Contains(s, err.Error(), "old-2")
				assert.EqualValues(s, 0x1000, r.last())
				assert.Equal(s, []string{"old-1", "old-2"}, s.ids())
			})
		})
	}
}

// published lets a first process publish two transactions, fail to store their
// checkpoint, and die.
func published(s *stage) {
	s.warmUp()
	s.ledger.become(turnedOff)
	s.commit(0x3000, "b")
	s.commit(0x4000, "c")
	s.at(5 * time.Second)
	require.Equal(s, []string{"a", "b", "c"}, s.ids())
	s.kill()
	s.ledger.answers(nil)
}

// Until the last row that Kafka holds has reappeared, nothing is confirmed and
// nothing is stored above the checkpoint.
func TestNothingIsConfirmedBeforeTheLandmarkOfKafka(t *testing.T) {
	t.Parallel()
	perform(t, func(s *stage) {
		published(s)
		s.transaction(0x5000, "d")
		s.silent = true
		s.stream()
		r := s.reader()
		require.EqualValues(s, 0x2040, r.start)
		r.send(s.world.primary.wal[1])
		s.idle(0x3800, true)
		s.at(15 * time.Second)
		assert.EqualValues(s, 0x2040, r.last())
		r.send(s.world.primary.wal[2])
		r.send(s.world.primary.wal[3])
		s.at(17 * time.Second)
		assert.EqualValues(s, 0x5040, r.last())
		assert.Equal(s, []string{"a", "b", "c", "d"}, s.ids(), "nothing is repeated")
	})
}

// Until the last row that this process has handed to Kafka has reappeared,
// nothing is confirmed. The rows must be the same.
func TestNothingIsConfirmedBeforeTheDigest(t *testing.T) {
	t.Parallel()
	for name, same := range map[string]bool{"the same rows": true, "other rows below": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			perform(t, func(s *stage) {
				s.warmUp()
				s.ledger.become(turnedOff)
				s.commit(0x3000, "b")
				s.commit(0x4000, "c")
				s.at(5 * time.Second)
				s.world.mu.Lock()
				s.silent = true
				s.world.mu.Unlock()
				s.reader().fail(errModelCut)
				s.until("it connects again", func() bool { return s.opened() == 2 })
				s.ledger.answers(nil)
				r := s.reader()
				first := s.world.primary.wal[1]
				if !same {
					s.world.forked = true
					first.rows = []modelRow{{id: "other", key: "k"}}
				}
				r.send(first)
				s.idle(0x3800, true)
				s.at(20 * time.Second)
				assert.EqualValues(s, 0x2040, r.last())
				r.send(s.world.primary.wal[2])
				if !same {
					_, err := s.exit()
					require.ErrorIs(s, err, router.ErrOtherHistory)
					assert.EqualValues(s, 0x2040, r.last())
					return
				}
				s.at(22 * time.Second)
				assert.EqualValues(s, 0x4040, r.last())
				assert.Equal(s, []string{"a", "b", "c"}, s.ids())
			})
		})
	}
}

// A store failure is logged once, and its end is logged once.
func TestStoreThatRefusesIsSaidOnce(t *testing.T) {
	t.Parallel()
	perform(t, func(s *stage) {
		s.warmUp()
		s.ledger.become(turnedOff)
		for i := range 20 {
			s.at(4*time.Second + time.Duration(i)*time.Second)
			s.commit(replication.LSN(0x3000+0x100*i), strconv.Itoa(i))
		}
		assert.Equal(s, 1, s.told("checkpoint cannot be stored"))
		s.ledger.answers(nil)
		s.at(40 * time.Second)
		assert.Equal(s, 1, s.told("checkpoint can be stored again"))
		assert.Equal(s, 1, s.opened(), "the session continues")
		assert.EqualValues(s, 0x4340, s.reader().last())
	})
}

// A store that will never take this streamer's checkpoints again ends the
// session. If another instance has claimed it, a new take-over decides. If it
// refuses, the process ends.
func TestStoreThatIsHopeless(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		err   error
		final bool
	}{
		"claimed": {checkpoint.ErrClaimed, false},
		"refused": {failure.Refuse(checkpoint.ErrForeign), true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			perform(t, func(s *stage) {
				s.warmUp()
				s.at(4 * time.Second)
				s.ledger.become(verdict{err: test.err})
				s.commit(0x3000, "b")
				s.at(5 * time.Second)
				if test.final {
					_, err := s.exit()
					require.ErrorIs(s, err, test.err)
					return
				}
				s.ledger.answers(nil)
				s.at(30 * time.Second)
				assert.Equal(s, 2, s.opened(), "in another session")
				assert.EqualValues(s, 0x3040, s.ledger.last().LSN)
				assert.Equal(s, []string{"a", "b"}, s.ids())
			})
		})
	}
}

// farBehind makes a store take that long to save the checkpoint of ten
// transactions, from 4 s on. The broker acknowledges none of the many
// transactions after those.
func farBehind(s *stage, takes time.Duration) {
	s.config.Producer.MaxInFlightBytes, s.config.Producer.MaxBatchBytes = 32<<20, 1<<20
	s.warmUp()
	s.at(3500 * time.Millisecond)
	for i := range 10 {
		s.commit(replication.LSN(0x3000+0x100*i), fmt.Sprint("before-", i))
	}
	s.ledger.answers(func(context.Context, checkpoint.Record) verdict {
		<-time.After(takes) // what has reached the store cannot be taken back
		takes = 10 * time.Millisecond
		return taken
	})
	s.at(5 * time.Second)
	require.EqualValues(s, 0x3940, s.ledger.attempts()[len(s.ledger.attempts())-1].LSN, "is being stored")
	s.world.kafka.Freeze()
	for i := range 2 * longestTrail {
		s.commit(replication.LSN(0x10000+0x100*i), fmt.Sprint("in-flight-", i))
	}
	s.at(6 * time.Second)
}

// A checkpoint never goes back. If the trail has dropped the step being stored,
// the last request must not replace that step.
func TestLastSaveDoesNotGoBack(t *testing.T) {
	t.Parallel()
	perform(t, func(s *stage) {
		farBehind(s, 6*time.Second)
		s.reader().fail(errModelCut) // the drain ends at 9 s, the last save may take until 11 s
		s.at(10500 * time.Millisecond)
		highest := replication.LSN(0)
		for _, e := range s.ledger.stored() {
			assert.GreaterOrEqual(s, e.LSN, highest, "at %s", s.since(e.at))
			highest = e.LSN
		}
	})
}

// What was confirmed is stored, even after the process has ended. Otherwise the
// next start finds the slot after the checkpoint, and refuses.
func TestStopDoesNotLeaveTheSlotAfterTheCheckpoint(t *testing.T) {
	t.Parallel()
	perform(t, func(s *stage) {
		farBehind(s, 13*time.Second)
		s.stop() // the drain ends at 16 s, the last save may take until 18 s
		_, err := s.exit()
		require.ErrorAs(s, err, new(*DrainError))
		assert.EqualValues(s, 0x3940, s.reader().last())
		assert.EqualValues(s, 0x3940, s.ledger.last().LSN)
		s.world.kafka.Thaw()
		s.ledger.answers(nil)
		s.start()
		pass(s.Context(), 5*time.Second)
		assert.True(s, s.process.running(), "%v", s.process.err)
	})
}
