package pipeline

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/replication"
)

// lag adds that much WAL, which is not sent.
func (s *stage) lag(bytes int) {
	s.world.mu.Lock()
	defer s.world.mu.Unlock()
	s.world.primary.end += replication.LSN(bytes)
}

// A stream found far behind twice in a row makes room for the faster reader.
// That reader makes room for a stream when it has nearly caught up. Both change
// at the end of a transaction. What is in flight stays in flight, and nothing
// is lost or repeated.
func TestHandOver(t *testing.T) {
	t.Parallel()
	perform(t, func(s *stage) {
		s.config.Reading, s.config.CatchUpFrom = ReadAuto, 64<<10
		s.warmUp()
		first := s.reader()
		assert.Equal(s, ReadStream, first.how)
		parts := first.parts(s.transaction(0x3000, "b", "c"))
		s.at(4 * time.Second)
		first.say(parts[:2]...)
		s.lag(256 << 10)
		s.at(20 * time.Second)
		assert.Equal(s, 1, s.opened(), "not within a transaction")
		s.world.kafka.Freeze()
		first.say(parts[2:]...)
		s.at(21 * time.Second)
		require.Equal(s, 2, s.opened())
		second := s.reader()
		assert.Equal(s, ReadCatchUp, second.how)
		assert.EqualValues(s, 0x3040, second.start, "from where the first reader was, not from the checkpoint")
		assert.False(s, first.finished.IsZero(), "cleanly")
		assert.EqualValues(s, 0x2040, first.last(), "what is in flight is not confirmed")
		s.world.kafka.Thaw()

		s.world.mu.Lock()
		second.behind = s.config.CatchUpFrom/nearlyThere + 1
		s.world.mu.Unlock()
		s.commit(0x60000, "d")
		s.idle(0x61000, false)
		s.at(25 * time.Second)
		assert.Equal(s, 2, s.opened(), "not there yet")
		s.world.mu.Lock()
		second.behind--
		s.world.mu.Unlock()
		parts = second.parts(s.transaction(0x70000, "e", "f"))
		second.say(parts[:3]...)
		s.idle(0x70020, false)
		s.at(26 * time.Second)
		assert.Equal(s, 2, s.opened(), "not within a transaction")
		second.say(parts[3:]...)
		s.idle(0x70040, false)
		s.at(27 * time.Second)
		require.Equal(s, 3, s.opened())
		third := s.reader()
		assert.Equal(s, ReadStream, third.how)
		assert.EqualValues(s, 0x70040, third.start)
		assert.False(s, second.finished.IsZero())
		s.commit(0x80000, "g")
		s.at(50 * time.Second)
		assert.Equal(s, []string{"a", "b", "c", "d", "e", "f", "g"}, s.ids())
		assert.EqualValues(s, 0x80040, third.last())
		assert.Equal(s, 3, s.opened())
		assert.Zero(s, s.told("session ended"), "none of this is an error")
	})
}

// One look at a stream that is far behind is not a reason to change, nor are
// two looks that are not in a row. With ReadStream nothing is read by SQL.
func TestHandOverTakesTwoLooks(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		reading Reading
		behind  [][2]time.Duration // from and to; the slot is checked every three seconds
		want    int
	}{
		"one look":                {ReadAuto, [][2]time.Duration{{4 * time.Second, 7 * time.Second}}, 1},
		"two looks":               {ReadAuto, [][2]time.Duration{{4 * time.Second, 10 * time.Second}}, 3}, // there and back
		"two that are not in row": {ReadAuto, [][2]time.Duration{{4 * time.Second, 7 * time.Second}, {10 * time.Second, 13 * time.Second}}, 1},
		"a stream is wanted":      {ReadStream, [][2]time.Duration{{4 * time.Second, time.Minute}}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			perform(t, func(s *stage) {
				s.config.Reading, s.config.CatchUpFrom = test.reading, 64<<10
				s.warmUp()
				for _, behind := range test.behind {
					s.at(behind[0])
					s.lag(256 << 10)
					s.at(behind[1])
					s.world.mu.Lock()
					end := s.world.primary.end
					s.world.mu.Unlock()
					s.idle(end, false)
				}
				s.at(2 * time.Minute)
				assert.Equal(s, test.want, s.opened())
			})
		})
	}
}

// A hand-over that does not end cleanly is an ordinary loss of the connection:
// the next session begins after a pause, at the checkpoint.
func TestHandOverThatFails(t *testing.T) {
	t.Parallel()
	perform(t, func(s *stage) {
		s.config.Reading, s.config.CatchUpFrom = ReadAuto, 64<<10
		s.warmUp()
		s.ledger.become(turnedOff)
		s.at(4 * time.Second)
		s.commit(0x3000, "b", "c")
		first := s.reader()
		s.world.mu.Lock()
		first.farewell = errModelCut
		s.world.mu.Unlock()
		s.lag(256 << 10)
		s.at(12 * time.Second)
		assert.Equal(s, 1, s.told("switch to another reader: connection was terminated"))
		require.Equal(s, 2, s.opened())
		assert.EqualValues(s, 0x2040, s.reader().start, "from the checkpoint")
		s.ledger.answers(nil)
		s.at(40 * time.Second)
		assert.Equal(s, []string{"a", "b", "c"}, s.ids())
	})
}

// A reader that can no longer read by SQL, within a transaction, is replaced by
// a stream from the checkpoint. The part already read is not repeated, and the
// rest is not lost. Catching up is not tried again for ten minutes.
func TestNoCatchUpWithinATransaction(t *testing.T) {
	t.Parallel()
	perform(t, func(s *stage) {
		s.config.Reading = ReadCatchUp
		s.warmUp()
		require.Equal(s, ReadCatchUp, s.reader().how)
		s.at(4 * time.Second)
		parts := s.reader().parts(s.transaction(0x3000, "b", "c", "d"))
		s.reader().say(parts[:3]...) // its beginning, b and c
		s.at(5 * time.Second)
		require.Equal(s, []string{"a", "b", "c"}, s.ids())
		s.reader().fail(&replication.NoCatchUpError{Reason: "an open transaction"})
		s.at(6 * time.Second)
		require.Equal(s, 2, s.opened(), "at once: this is not an error")
		assert.Equal(s, ReadStream, s.reader().how)
		assert.EqualValues(s, 0x2040, s.reader().start, "from the checkpoint")
		s.at(8 * time.Second)
		assert.Equal(s, []string{"a", "b", "c", "d"}, s.ids())
		assert.Zero(s, s.told("session ended"))

		s.at(9 * time.Minute)
		s.reader().fail(errModelCut)
		s.at(9*time.Minute + 10*time.Second)
		assert.Equal(s, ReadStream, s.reader().how)
		s.at(11 * time.Minute)
		s.reader().fail(errModelCut)
		s.at(11*time.Minute + 10*time.Second)
		assert.Equal(s, ReadCatchUp, s.reader().how)
	})
}

// If reading by SQL is refused on opening, a stream is opened at once.
func TestNoCatchUpFromTheBeginning(t *testing.T) {
	t.Parallel()
	perform(t, func(s *stage) {
		s.config.Reading = ReadCatchUp
		s.answers(func(q string) error {
			if q == "read catch-up" {
				return &replication.NoCatchUpError{Reason: "the server is a standby"}
			}
			return nil
		})
		s.warmUp()
		assert.Equal(s, ReadStream, s.reader().how)
		assert.Len(s, s.times("read catch-up"), 1)
		assert.Equal(s, 1, s.told("catching up by SQL is not possible"))
	})
}

// However often connections end, and wherever in a transaction, every row is
// published once, in order.
func TestConnectionsThatEndAnywhere(t *testing.T) {
	t.Parallel()
	perform(t, func(s *stage) {
		s.config.RetryInitial, s.config.RetryMax = time.Millisecond, time.Millisecond
		s.warmUp()
		want := []string{"a"}
		for cut := range 6 {
			at := replication.LSN(0x3000 + 0x1000*cut)
			var rows []string
			for i := range 3 {
				rows = append(rows, fmt.Sprintf("%d-%d", cut, i))
			}
			want = append(want, rows...)
			r := s.reader()
			parts := r.parts(s.transaction(at, rows...))
			opened := s.opened()
			r.say(parts[:min(cut, len(parts))]...)
			r.fail(errModelCut)
			s.until("it connects again", func() bool { return s.opened() > opened })
		}
		s.at(30 * time.Second)
		assert.Equal(s, want, s.ids())
		assert.EqualValues(s, 0x8040, s.reader().last())
	})
}

// While another client uses the slot, the instance stands by and tries twice a
// second. It looks at the slot again each time.
func TestSlotInUse(t *testing.T) {
	t.Parallel()
	perform(t, func(s *stage) {
		inUse := fmt.Errorf("%w: slot is active for PID 7", replication.ErrSlotActive)
		s.answers(func(q string) error {
			if q == "read stream" {
				return inUse
			}
			return nil
		})
		s.start()
		s.began = time.Now()
		s.until("it stands by", func() bool { return s.pipeline.Status().Phase == Standby })
		assert.Equal(s, inUse.Error(), s.pipeline.Status().Detail)
		s.at(10 * time.Second)
		tried := s.times("read stream")
		for i, at := range tried[2:] {
			assert.Equal(s, 500*time.Millisecond, at-tried[i+1])
		}
		assert.Len(s, tried, 20)
		assert.GreaterOrEqual(s, len(s.times("slot")), len(tried))
		assert.Equal(s, 1, s.told("standing by"), "it is logged once")
		assert.True(s, s.holdsLock())
		s.answers(nil)
		s.at(11 * time.Second)
		assert.Equal(s, Streaming, s.pipeline.Status().Phase)
	})
}

// A client that moves the slot while the streamer waits for it has taken what
// was not published. The streamer refuses that.
func TestSlotMovedByAnotherClient(t *testing.T) {
	t.Parallel()
	perform(t, func(s *stage) {
		s.warmUp()
		s.answers(func(q string) error {
			if q == "read stream" {
				return fmt.Errorf("%w: slot is active for PID 7", replication.ErrSlotActive)
			}
			return nil
		})
		s.transaction(0x3000, "b")
		s.reader().fail(errModelCut)
		s.at(10 * time.Second)
		s.world.mu.Lock()
		s.world.primary.slots[modelSlotName].confirmed = 0x3040
		s.world.begun = true // the oracle: a refusal is right
		s.world.mu.Unlock()
		_, err := s.exit()
		assert.Equal(s, failure.Refused, failure.ClassOf(err))
		assert.Contains(s, err.Error(), "slot \"streamer\" begins at 0/3040, after the checkpoint 0/2040")
		assert.Equal(s, []string{"a"}, s.ids())
	})
}

// The slot is checked again when the stream is open. It may have been dropped
// and created again since, and the server would begin there silently. Nothing
// is read in that case.
func TestSlotIsCheckedAgainOnceItIsOpen(t *testing.T) {
	t.Parallel()
	perform(t, func(s *stage) {
		s.warmUp()
		s.answers(func(q string) error {
			if q == "read stream" {
				s.world.mu.Lock()
				defer s.world.mu.Unlock()
				s.world.primary.slots[modelSlotName] = &modelSlot{confirmed: s.world.primary.end, durable: s.world.primary.end}
				s.world.begun = true
			}
			return nil
		})
		s.transaction(0x3000, "b")
		s.transaction(0x4000, "c")
		s.reader().fail(errModelCut)
		_, err := s.exit()
		assert.Equal(s, failure.Refused, failure.ClassOf(err))
		assert.Contains(s, err.Error(), "the slot was re-created, or moved by another client")
		require.Equal(s, 2, s.opened())
		assert.True(s, s.reader().isClosed())
		assert.Empty(s, s.reader().confirmations())
		assert.Equal(s, []string{"a"}, s.ids())
	})
}

// A confirmation that reaches the server late moves the slot while the slot is
// being opened again. What the server has skipped is not missing: reading
// begins there.
func TestSlotIsMovedByOurOwnConfirmation(t *testing.T) {
	t.Parallel()
	perform(t, func(s *stage) {
		s.warmUp()
		s.at(4 * time.Second)
		s.idle(0x3800, true)
		s.at(5 * time.Second)
		require.EqualValues(s, 0x3800, s.ledger.last().LSN, "is stored")
		slot := s.world.primary.slots[modelSlotName]
		s.world.mu.Lock()
		slot.confirmed = 0x2040 // the confirmation is on its way
		s.world.mu.Unlock()
		s.answers(func(q string) error {
			if q == "read stream" {
				s.world.mu.Lock()
				defer s.world.mu.Unlock()
				slot.confirmed = 0x3800
			}
			return nil
		})
		s.reader().fail(errModelCut)
		s.at(6 * time.Second)
		require.Equal(s, 3, s.opened())
		assert.EqualValues(s, 0x2040, s.readers[1].start)
		assert.True(s, s.readers[1].isClosed())
		assert.Empty(s, s.readers[1].confirmations())
		assert.EqualValues(s, 0x3800, s.reader().start)
		s.commit(0x4000, "b")
		s.at(9 * time.Second)
		assert.Equal(s, []string{"a", "b"}, s.ids())
		assert.EqualValues(s, 0x4040, s.reader().last())
	})
}

// A predecessor that has lost the lock confirms what it has stored, until it
// notices. Meanwhile its successor stands by for the slot, and then continues
// from where the slot begins: no other client has moved the slot.
func TestPredecessorConfirmsWhatItHasStored(t *testing.T) {
	t.Parallel()
	perform(t, func(s *stage) {
		s.warmUp()
		s.at(4 * time.Second)
		s.commit(0x3000, "b")
		s.at(4900 * time.Millisecond)
		s.idle(0x3800, true)
		s.at(5 * time.Second)
		require.EqualValues(s, 0x3800, s.ledger.last().LSN, "is stored")
		s.world.mu.Lock()
		slot := s.world.primary.slots[modelSlotName]
		slot.confirmed = 0x2040 // the confirmation is on its way
		s.world.mu.Unlock()
		s.kill()
		began := time.Now()
		s.answers(func(q string) error {
			if q != "read stream" {
				return nil
			}
			if time.Since(began) < 2*time.Second {
				return fmt.Errorf("%w: slot is active for PID 7", replication.ErrSlotActive)
			}
			return nil
		})
		s.start()
		pass(s.Context(), time.Second)
		s.world.mu.Lock()
		slot.confirmed = 0x3800 // the confirmation has arrived
		s.world.mu.Unlock()
		pass(s.Context(), 10*time.Second)
		require.True(s, s.process.running(), "%v", s.process.err)
		s.commit(0x4000, "c")
		pass(s.Context(), 5*time.Second)
		assert.Equal(s, []string{"a", "b", "c"}, s.ids())
	})
}

// A check that fails once the stream is open is an ordinary error. The reader
// is closed.
func TestLookAtTheSlotThatFails(t *testing.T) {
	t.Parallel()
	perform(t, func(s *stage) {
		s.warmUp()
		failed := false
		s.answers(func(q string) error {
			if q == "slot" && s.opened() == 2 && !failed {
				failed = true
				return errors.New("terminating connection due to administrator command")
			}
			return nil
		})
		s.reader().fail(errModelCut)
		s.at(20 * time.Second)
		second := s.readers[1]
		assert.True(s, second.isClosed())
		assert.Empty(s, second.confirmations())
		assert.Equal(s, 3, s.opened())
		assert.Equal(s, Streaming, s.pipeline.Status().Phase)
		assert.True(s, slices.ContainsFunc(s.phases, func(p phased) bool { return p.phase == Waiting }))
	})
}
