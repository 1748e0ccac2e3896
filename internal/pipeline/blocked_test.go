package pipeline

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/replication"
)

// While the producer takes nothing, the old position is confirmed at every
// status interval, and the connection is closed after BlockedTimeout.
func TestBlocked(t *testing.T) {
	t.Parallel()
	perform(t, func(s *stage) {
		s.warmUp()
		s.at(4 * time.Second)
		s.world.kafka.Freeze()
		s.flood()
		s.at(33 * time.Second)
		r := s.reader()
		assert.False(s, r.isClosed())
		s.at(34*time.Second - time.Millisecond)
		assert.False(s, r.isClosed(), "the connection stays open for 30 s")
		s.at(34 * time.Second)
		assert.True(s, r.isClosed(), "but no longer")
		assert.True(s, r.finished.IsZero(), "the stream is not ended cleanly: what is unread would come first")
		var updates []confirmation
		for _, c := range r.confirmations() {
			if c.at > 4*time.Second {
				updates = append(updates, c)
			}
		}
		require.Len(s, updates, 6)
		for i, c := range updates {
			assert.Equal(s, 8*time.Second+time.Duration(i)*s.config.StatusInterval, c.at, "the last was at 3 s")
			assert.EqualValues(s, 0x2040, c.lsn)
		}
	})
}

// A catch-up reader keeps a snapshot on the server, and is closed after 10 s.
func TestBlockedWhileCatchingUp(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ timeout, want time.Duration }{
		"sooner than a stream":        {30 * time.Second, 10 * time.Second},
		"but no later than is wanted": {4 * time.Second, 4 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			perform(t, func(s *stage) {
				s.config.Reading, s.config.BlockedTimeout = ReadCatchUp, test.timeout
				s.warmUp()
				s.at(4 * time.Second)
				s.world.kafka.Freeze()
				s.flood()
				s.at(4*time.Second + test.want - time.Millisecond)
				assert.False(s, s.reader().isClosed())
				s.at(4*time.Second + test.want)
				assert.True(s, s.reader().isClosed())
			})
		})
	}
}

// A broker that takes events again before then costs only a pause. The next
// pause counts from its own beginning.
func TestBlockedForAWhile(t *testing.T) {
	t.Parallel()
	perform(t, func(s *stage) {
		s.warmUp()
		s.at(4 * time.Second)
		s.world.kafka.Freeze()
		rows := append([]string{"a"}, s.flood()...)
		s.at(5 * time.Second)
		assert.Equal(s, Blocked, s.pipeline.Status().Phase, "the state shows it after a second")
		s.at(19 * time.Second)
		s.world.kafka.Thaw()
		s.at(20 * time.Second)
		assert.Equal(s, Streaming, s.pipeline.Status().Phase)
		s.world.kafka.Freeze()
		for i := range 200 {
			rows = append(rows, "later-"+time.Duration(i).String())
		}
		s.commit(0x4000, rows[201:]...)
		s.at(45 * time.Second) // 41 s since the first pause began, 25 s since the second
		assert.False(s, s.reader().isClosed())
		s.world.kafka.Thaw()
		s.at(50 * time.Second)
		assert.Equal(s, 1, s.opened(), "the connection is the first one")
		assert.Equal(s, rows, s.ids())
	})
}

// While the connection is closed, the instance keeps the lock and checks every
// 3 s that it still has the lock. It reads again when half of the memory is
// free, and not before. Nothing is lost or repeated.
func TestBlockedKeepsTheLockUntilHalfOfTheMemoryIsFree(t *testing.T) {
	t.Parallel()
	perform(t, func(s *stage) {
		s.warmUp()
		s.at(4 * time.Second)
		s.world.kafka.Freeze()
		rows := s.flood()
		s.at(44 * time.Second)
		assert.Equal(s, []time.Duration{37 * time.Second, 40 * time.Second, 43 * time.Second}, s.times("ping"))
		s.world.mu.Lock()
		assert.GreaterOrEqual(s, s.since(s.seen[len(s.seen)-1]), 43*time.Second, "what is known of the slot is not older")
		s.world.mu.Unlock()
		assert.True(s, s.holdsLock())
		assert.Equal(s, 1, s.opened())
		s.world.mu.Lock()
		s.acks = nil
		s.world.mu.Unlock()
		s.world.kafka.Thaw()
		s.until("it streams again", func() bool { return s.opened() == 2 })
		assert.True(s, s.holdsLock())
		assert.Len(s, s.times("lock"), 1, "the lock was requested once")
		s.world.mu.Lock()
		acks, opened := slices.Clone(s.acks), s.readers[1].openedAt
		s.world.mu.Unlock()
		half := s.config.Producer.MaxInFlightBytes / 2
		first := slices.IndexFunc(acks, func(inFlight int) bool { return inFlight <= half })
		require.Positive(s, first, "it takes several acknowledgements: %v", acks)
		assert.LessOrEqual(s, len(acks)-1-first, 6, "the reader opens within the milliseconds that opening takes: %v", acks)
		assert.Less(s, s.since(opened), 44*time.Second+100*time.Millisecond)
		assert.EqualValues(s, 0x2040, s.reader().start, "from the checkpoint")
		s.at(60 * time.Second)
		assert.Equal(s, append([]string{"a"}, rows...), s.ids())
		assert.EqualValues(s, 0x3040, s.reader().last())
	})
}

// An instance whose SQL connection is lost meanwhile no longer has the lock.
func TestBlockedLosesTheLock(t *testing.T) {
	t.Parallel()
	perform(t, func(s *stage) {
		s.warmUp()
		s.at(4 * time.Second)
		s.world.kafka.Freeze()
		s.flood()
		s.at(35 * time.Second)
		s.otherHolds(true)
		s.at(37*time.Second + 100*time.Millisecond)
		s.until("it stands by", func() bool { return s.pipeline.Status().Phase == Standby })
		assert.Less(s, time.Since(s.began), 37*time.Second+500*time.Millisecond, "the ping at 37 s notices it")
		s.world.kafka.Thaw()
		s.at(60 * time.Second)
		assert.Equal(s, 1, s.opened(), "nothing is read without the lock")
	})
}

// A topic that is not known yet blocks as well. BlockedTimeout counts from
// there.
func TestBlockedByTheStore(t *testing.T) {
	t.Parallel()
	perform(t, func(s *stage) {
		s.stream()
		s.ledger.become(turnedOff)
		s.at(4 * time.Second)
		s.commit(0x2000, "a") // of a topic that no checkpoint names yet
		s.at(34*time.Second - time.Millisecond)
		assert.False(s, s.reader().isClosed())
		s.at(34 * time.Second)
		assert.True(s, s.reader().isClosed())
		assert.Contains(s, s.pipeline.Status().Detail, "waiting for the checkpoint store: checkpoint store is away")
		assert.Empty(s, s.ids(), "nothing is published that a successor would not read back")
		s.ledger.answers(nil)
		s.at(60 * time.Second)
		assert.Equal(s, []string{"a"}, s.ids())
	})
}

// The state shows after 5 s that events in flight are not acknowledged,
// although the producer still takes more. It also shows when that ends.
func TestStall(t *testing.T) {
	t.Parallel()
	perform(t, func(s *stage) {
		s.warmUp()
		s.at(4 * time.Second)
		s.world.kafka.Freeze()
		s.commit(0x3000, "b")
		s.at(9*time.Second - time.Millisecond)
		assert.Equal(s, Streaming, s.pipeline.Status().Phase)
		s.at(9 * time.Second)
		assert.Equal(s, Blocked, s.pipeline.Status().Phase)
		assert.Equal(s, 1, s.told("broker does not acknowledge"))
		s.at(12*time.Second + 500*time.Millisecond)
		s.world.kafka.Thaw()
		s.at(13*time.Second + 500*time.Millisecond)
		assert.Equal(s, Streaming, s.pipeline.Status().Phase)
		s.at(60 * time.Second)
		assert.Equal(s, 1, s.told("broker does not acknowledge"), "without events in flight there is no stall")
	})
}

// holdsLock reports whether the process has the lock.
func (s *stage) holdsLock() bool {
	s.world.mu.Lock()
	defer s.world.mu.Unlock()
	holder := s.world.primary.locks[modelSlotName]
	return holder != nil && holder.process == s.process
}

// A server that shuts down asks again at once after every confirmation. It is
// answered ten times a second and disconnected after ten seconds: it would wait
// for ever.
func TestServerThatShutsDown(t *testing.T) {
	t.Parallel()
	perform(t, func(s *stage) {
		s.warmUp()
		r := s.reader()
		r.answer(func(r *script) {
			if len(r.confirmed) < 1000 { // otherwise a streamer that answers at once would never end
				r.queue = append(r.queue, replication.Message{Kind: replication.Keepalive, LSN: 0x2040, ReplyRequested: true})
			}
		})
		s.at(6 * time.Second)
		s.idle(0x2040, true)
		s.at(16 * time.Second)
		assert.False(s, r.isClosed())
		s.at(16*time.Second + 100*time.Millisecond)
		assert.True(s, r.isClosed(), "the first request after ten seconds is one too many")
		var answers []time.Duration
		for _, c := range r.confirmations() {
			if c.at >= 6*time.Second {
				answers = append(answers, c.at)
			}
		}
		require.Len(s, answers, 1+100+1+1, "and the last confirmation")
		for i, at := range answers[:102] {
			assert.Equal(s, 6*time.Second+time.Duration(i)*100*time.Millisecond, at)
		}
		s.until("it connects again", func() bool { return s.opened() == 2 })
		assert.Equal(s, 1, s.told("server is shutting down and waits for the streamer"))
	})
}

// A server that asks now and then is not shutting down. A pause of more than
// two seconds begins another series of requests.
func TestServerThatAsks(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		pause time.Duration
		left  time.Duration // after the beginning; 0 is never
	}{
		"now and then":               {2*time.Second + time.Millisecond, 0},
		"often":                      {2 * time.Second, 12 * time.Second},
		"more often":                 {time.Second, 11 * time.Second},
		"ten seconds are not beyond": {500 * time.Millisecond, 10*time.Second + 500*time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			perform(t, func(s *stage) {
				s.warmUp()
				r := s.reader()
				for asked := time.Duration(0); asked <= 30*time.Second && !r.isClosed(); asked += test.pause {
					s.at(6*time.Second + asked)
					s.idle(0x2040, true)
					s.at(6*time.Second + asked + time.Millisecond/2)
				}
				if test.left == 0 {
					assert.False(s, r.isClosed())
					return
				}
				r.stage.world.mu.Lock()
				defer r.stage.world.mu.Unlock()
				assert.Equal(s, 6*time.Second+test.left, s.since(r.closed))
			})
		})
	}
}

// A series of requests that pauses for more than two seconds begins again: the
// server gets another ten seconds.
func TestServerThatAsksAgainAfterAPause(t *testing.T) {
	t.Parallel()
	perform(t, func(s *stage) {
		s.warmUp()
		r := s.reader()
		ask := func(from, to time.Duration) {
			for at := from; at <= to; at += 500 * time.Millisecond {
				s.at(at)
				s.idle(0x2040, true)
			}
		}
		ask(6*time.Second, 13*time.Second)
		ask(16*time.Second, 26*time.Second)
		s.at(26*time.Second + 100*time.Millisecond)
		assert.False(s, r.isClosed(), "20 s after the first request, 10 s after the pause")
		ask(26*time.Second+500*time.Millisecond, 26*time.Second+500*time.Millisecond)
		s.at(27 * time.Second)
		assert.True(s, r.isClosed())
	})
}

// A request is answered within 100 ms, with the old position if nothing new is
// stored, and at once if the last answer is older.
func TestAnswerToAQuestion(t *testing.T) {
	t.Parallel()
	perform(t, func(s *stage) {
		s.warmUp()
		s.at(4 * time.Second)
		s.idle(0x2040, true)
		s.at(4*time.Second + 30*time.Millisecond)
		s.idle(0x2040, true)
		s.at(4*time.Second + 60*time.Millisecond)
		s.idle(0x2040, true)
		s.at(5 * time.Second)
		var answers []time.Duration
		for _, c := range s.reader().confirmations() {
			if c.at >= 4*time.Second {
				answers = append(answers, c.at)
				assert.EqualValues(s, 0x2040, c.lsn)
			}
		}
		// The alarm of the last request fires 100 ms after it.
		assert.Equal(s, []time.Duration{4 * time.Second, 4*time.Second + 160*time.Millisecond}, answers)
	})
}

// After half of wal_sender_timeout without a message, the server is asked to
// reply.
func TestSilentServerIsAsked(t *testing.T) {
	t.Parallel()
	perform(t, func(s *stage) {
		s.warmUp() // the server sends at 3 s
		s.at(40 * time.Second)
		for _, c := range s.reader().confirmations() {
			assert.Equal(s, c.at-3*time.Second > s.config.Replication.SenderTimeout/2, c.ping, "at %s", c.at)
		}
	})
}

// A connection that cannot be confirmed on is lost.
func TestConfirmationThatFails(t *testing.T) {
	t.Parallel()
	perform(t, func(s *stage) {
		s.warmUp()
		lost := errors.New("broken pipe")
		s.reader().fail(lost)
		s.until("it connects again", func() bool { return s.opened() == 2 })
		assert.Equal(s, 1, s.told("err=broken pipe"))
		assert.EqualValues(s, 0x2040, s.reader().start)
	})
}
