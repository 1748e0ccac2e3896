package pipeline

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/checkpoint"
	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/internal/kafkatest/model"
	"github.com/outboxstream/streamer/replication"
)

// A standby tries the lock twice a second, writes nothing, and continues as
// soon as it has the lock.
func TestStandby(t *testing.T) {
	t.Parallel()
	perform(t, func(s *stage) {
		s.otherHolds(true)
		s.start()
		s.began = time.Now()
		s.at(20*time.Second + 250*time.Millisecond)
		assert.Equal(s, Standby, s.pipeline.Status().Phase)
		assert.Equal(s, "another instance holds the lock of slot streamer", s.pipeline.Status().Detail)
		_, known := s.pipeline.Lag()
		assert.False(s, known, "the lag of an instance that stands by is unknown")
		tried := s.times("lock")
		require.Len(s, tried, 41)
		for i, at := range tried[1:] {
			assert.Equal(s, 500*time.Millisecond, at-tried[i])
		}
		assert.Equal(s, 1, s.told("standing by"), "it is logged once")
		assert.Empty(s, s.ledger.attempts())
		s.otherHolds(false)
		s.at(21 * time.Second)
		assert.Equal(s, Streaming, s.pipeline.Status().Phase)
	})
}

// A server that does not answer the request for the lock is an ordinary error.
func TestLockThatCannotBeAskedFor(t *testing.T) {
	t.Parallel()
	perform(t, func(s *stage) {
		failed := false
		s.answers(func(q string) error {
			if q == "lock" && !failed {
				failed = true
				return errModelCut
			}
			return nil
		})
		s.stream()
		assert.Len(s, s.times("lock"), 2)
		assert.Equal(s, 1, s.told("session ended"))
	})
}

// lockSoon waits as long as a server needs to notice that a streamer has
// stopped, and then refuses.
func TestLockSoon(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		free    time.Duration // 0: never
		stopped time.Duration // 0: never
		want    time.Duration
		class   failure.Class
		err     string
	}{
		"it is free":      {time.Nanosecond, 0, time.Millisecond, failure.Transient, ""},
		"it becomes free": {1200 * time.Millisecond, 0, 1501 * time.Millisecond, failure.Transient, ""},
		"it becomes free late": {
			2001 * time.Millisecond, 0, 2 * time.Second, failure.Refused, "a streamer holds the lock of slot \"streamer\": stop it first",
		},
		"it is held":            {0, 0, 2 * time.Second, failure.Refused, "a streamer holds the lock of slot \"streamer\": stop it first"},
		"it is stopped by then": {0, 700 * time.Millisecond, 700 * time.Millisecond, failure.Transient, "context canceled"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, 0)
				config := w.config(&process{world: w})
				config.Metrics = quiet{}
				source := replication.Config{Slot: modelSlotName}
				tenure := &tenure{ground: newGround(config), source: source, control: &modelControl{process: &process{world: w}, server: w.primary}}
				if test.free != time.Nanosecond {
					w.primary.locks[modelSlotName] = &modelControl{}
				}
				if test.free > 0 {
					w.later(test.free, func() { delete(w.primary.locks, modelSlotName) })
				}
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				if test.stopped > 0 {
					time.AfterFunc(test.stopped, cancel)
				}
				began := time.Now()
				err := tenure.lockSoon(ctx)
				assert.Equal(t, test.want, time.Since(began))
				assert.Equal(t, test.class, failure.ClassOf(err))
				if test.err == "" {
					require.NoError(t, err)
					return
				}
				require.EqualError(t, err, test.err)
			})
		})
	}
}

// The instance queries the slot every three seconds. If its SQL connection is
// lost, it no longer has the lock, and its session ends.
func TestLockThatIsLost(t *testing.T) {
	t.Parallel()
	perform(t, func(s *stage) {
		s.warmUp()
		s.at(10 * time.Second)
		s.otherHolds(true)
		s.commit(0x3000, "b") // may still be published, otherwise it is fenced
		s.at(12*time.Second - time.Millisecond)
		assert.False(s, s.reader().isClosed())
		s.at(12*time.Second + 10*time.Millisecond)
		assert.True(s, s.reader().isClosed())
		s.at(13 * time.Second)
		assert.Equal(s, Standby, s.pipeline.Status().Phase)
		s.at(30 * time.Second)
		assert.Equal(s, 1, s.opened())
	})
}

// A server that does not answer a query of the slot for five seconds is lost.
func TestLookThatIsNotAnswered(t *testing.T) {
	t.Parallel()
	perform(t, func(s *stage) {
		s.warmUp()
		s.at(4 * time.Second)
		s.world.mu.Lock()
		s.slow = time.Hour
		s.world.mu.Unlock()
		s.at(11*time.Second - time.Millisecond)
		assert.False(s, s.reader().isClosed())
		s.at(11*time.Second + time.Millisecond)
		assert.True(s, s.reader().isClosed(), "the query began at 6 s")
		s.world.mu.Lock()
		s.slow = 0
		s.world.mu.Unlock()
	})
}

// The streamer waits for a standby whose slot cannot be read yet until the
// standby is promoted, and does not refuse.
func TestServerIsAStandby(t *testing.T) {
	t.Parallel()
	for name, slot := range map[string]*modelSlot{
		"without the slot":        nil,
		"with a copy of the slot": {confirmed: firstLSN, durable: firstLSN, synced: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			perform(t, func(s *stage) {
				s.world.primary.standby = true
				delete(s.world.primary.slots, modelSlotName)
				if slot != nil {
					s.world.primary.slots[modelSlotName] = slot
				}
				s.start()
				s.began = time.Now()
				s.at(2 * time.Minute)
				assert.True(s, s.process.running())
				assert.Equal(s, Waiting, s.pipeline.Status().Phase)
				assert.Contains(s, s.pipeline.Status().Detail, errStandby.Error())
				assert.Contains(s, s.pipeline.Status().Detail, "target_session_attrs=read-write")
				assert.Empty(s, s.ledger.attempts())
				s.world.mu.Lock()
				s.world.primary.slots[modelSlotName] = &modelSlot{confirmed: firstLSN, durable: firstLSN, synced: true}
				s.world.primary.promote()
				s.world.mu.Unlock()
				s.at(3 * time.Minute)
				assert.Equal(s, Streaming, s.pipeline.Status().Phase)
			})
		})
	}
}

// A server that is not a standby and has no slot is a reason to refuse.
func TestServerWithoutTheSlot(t *testing.T) {
	t.Parallel()
	perform(t, func(s *stage) {
		delete(s.world.primary.slots, modelSlotName)
		s.world.unready = true
		s.start()
		_, err := s.exit()
		require.ErrorIs(s, err, replication.ErrSlotMissing)
		assert.Equal(s, failure.Refused, failure.ClassOf(err))
	})
}

// A standby that is promoted while being streamed from has left its timeline.
// The session ends with the next query of the slot, and the next session
// continues in the same flow with the same lock.
func TestServerIsPromotedWhileItIsRead(t *testing.T) {
	t.Parallel()
	perform(t, func(s *stage) {
		s.world.primary.standby = true
		s.warmUp()
		s.at(5 * time.Second)
		s.world.kafka.Freeze()
		s.commit(0x3000, "b")
		s.world.mu.Lock()
		s.world.primary.promote()
		s.world.mu.Unlock()
		s.at(9*time.Second - time.Millisecond)
		assert.False(s, s.reader().isClosed())
		s.at(9*time.Second + 10*time.Millisecond)
		assert.True(s, s.reader().isClosed(), "the query at 6 s shows it, and what is in flight gets 3 s")
		assert.Equal(s, 1, s.told("err="+errPromoted.Error()))
		s.at(9500 * time.Millisecond)
		require.Equal(s, 2, s.opened(), "Kafka is not asked: the flow continues")
		assert.EqualValues(s, 2, s.ledger.last().Timeline, "and the checkpoint names the timeline")
		assert.EqualValues(s, 0x2040, s.ledger.last().LSN)
		s.world.kafka.Thaw()
		s.at(13 * time.Second)
		assert.Equal(s, []string{"a", "b"}, s.ids())
		assert.EqualValues(s, 2, s.ledger.last().Timeline)
		assert.EqualValues(s, 0x3040, s.ledger.last().LSN)
	})
}

// A table that leaves the publication ends the process, which says what is in
// question.
func TestTableLeavesThePublication(t *testing.T) {
	t.Parallel()
	perform(t, func(s *stage) {
		s.warmUp()
		s.at(10 * time.Second)
		s.world.mu.Lock()
		s.world.primary.table.Published = false
		s.world.primary.entry++
		s.world.unready, s.world.begun = true, true
		s.world.mu.Unlock()
		after, err := s.exit()
		assert.Equal(s, failure.Refused, failure.ClassOf(err))
		assert.Contains(s, err.Error(), "rows committed between 0/2040, when the last check passed, and 0/2040 are in question")
		assert.GreaterOrEqual(s, after, 12*time.Second, "the table is checked every 6 s")
		assert.Less(s, after, 13*time.Second)
	})
}

// While the stored checkpoint is the one saved last, a lost connection costs
// only a new connection: Kafka is not asked. A checkpoint that was changed
// meanwhile belongs to another instance, and everything begins again.
func TestFlowOutlivesTheConnection(t *testing.T) {
	t.Parallel()
	for name, changed := range map[string]bool{"nobody else was at work": false, "another instance was": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			perform(t, func(s *stage) {
				s.warmUp()
				s.at(4 * time.Second)
				before := s.ledger.last().Producer
				if changed {
					r := s.ledger.last()
					r.Producer.Epoch += 4
					s.world.mu.Lock()
					s.preload(r)
					s.world.mu.Unlock()
				}
				s.reader().fail(errModelCut)
				s.at(6 * time.Second)
				require.Equal(s, 2, s.opened())
				s.commit(0x3000, "b")
				s.at(8 * time.Second)
				assert.Equal(s, []string{"a", "b"}, s.ids())
				assert.Equal(s, !changed, before == s.ledger.last().Producer, "%v, %v", before, s.ledger.last().Producer)
			})
		})
	}
}

// The instance waits for a save that is running while it connects again,
// because what is stored and what is known of it must agree. Meanwhile it
// checks the lock.
func TestReconnectWaitsForASaveThatIsRunning(t *testing.T) {
	t.Parallel()
	perform(t, func(s *stage) {
		s.warmUp()
		s.ledger.answers(func(ctx context.Context, _ checkpoint.Record) verdict {
			pass(ctx, 12*time.Second)
			return taken
		})
		s.at(3500 * time.Millisecond)
		s.commit(0x3000, "b") // its checkpoint is being stored from 4 s to 16 s
		s.at(5 * time.Second)
		s.reader().fail(errModelCut)
		s.at(16*time.Second - time.Millisecond)
		assert.Equal(s, 1, s.opened())
		assert.NotEmpty(s, s.times("ping"))
		s.at(16*time.Second + 100*time.Millisecond)
		assert.Equal(s, 2, s.opened())
		s.at(18 * time.Second)
		assert.EqualValues(s, 0x3040, s.reader().last())
		assert.Equal(s, []string{"a", "b"}, s.ids())
		assert.Zero(s, s.ledger.overlaps)
	})
}

// A start that ends before its first save has published nothing.
func TestNothingIsPublishedBeforeTheFirstSave(t *testing.T) {
	t.Parallel()
	perform(t, func(s *stage) {
		s.transaction(0x2000, "a")
		s.ledger.become(turnedOff)
		s.start()
		s.began = time.Now()
		s.at(time.Minute)
		assert.Zero(s, s.opened())
		assert.Empty(s, s.ids())
		assert.Contains(s, s.pipeline.Status().Detail, "save checkpoint: checkpoint store is away")
		s.ledger.answers(nil)
		s.at(70 * time.Second)
		assert.Equal(s, []string{"a"}, s.ids())
	})
}

// Run ends by itself at Config.Until, with everything before it published,
// stored and confirmed. What commits there is left to others.
func TestUntil(t *testing.T) {
	t.Parallel()
	perform(t, func(s *stage) {
		s.config.Until = 0x4000
		s.stream()
		s.at(time.Second)
		s.commit(0x2000, "a")
		s.commit(0x3000, "b")
		s.at(3 * time.Second)
		require.True(s, s.process.running())
		s.commit(0x4000, "c")
		after, err := s.exit()
		require.NoError(s, err)
		assert.Equal(s, 3*time.Second, after)
		assert.Equal(s, []string{"a", "b"}, s.ids())
		assert.EqualValues(s, 0x4000, s.ledger.last().LSN)
		assert.EqualValues(s, 0x4000, s.reader().last())
	})
}

// The streamer continues with a WAL that ends before the checkpoint if it is
// certain that nothing was published from what the WAL lacks. Otherwise it
// refuses.
func TestWALEndsBeforeTheCheckpoint(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		last    replication.LSN // last published row
		exact   bool
		refused bool
	}{
		"nothing was published from what it lacks": {0x1800, true, false},
		"it was":            {0x2800, true, true},
		"it is not certain": {0x1800, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			perform(t, func(s *stage) {
				s.preload(checkpoint.Record{LSN: 0x3000, Exact: test.exact, Last: &checkpoint.Event{Sequence: sequence(test.last, 1), ID: "last"}})
				s.world.primary.wal = []modelTransaction{{commit: 0x1800, end: 0x1840, rows: []modelRow{{id: "last", key: "k"}}, published: true}}
				s.world.primary.end = 0x2000
				s.world.forked = true // the oracle: the server lacks what the checkpoint has
				events := s.world.kafka.Topics[modelEvents].Partitions[0]
				events.Log = append(events.Log, model.Record{Headers: []model.Header{{Key: "ce_id", Value: []byte("last")}}})
				if !test.refused {
					s.stream()
					assert.Equal(s, firstLSN, s.reader().start)
					assert.Equal(s, 1, s.told("WAL of this server ends before the checkpoint"))
					return
				}
				s.start()
				_, err := s.exit()
				assert.Equal(s, failure.Refused, failure.ClassOf(err), "%v", err)
				assert.Contains(s, fmt.Sprint(err), "is ahead of the server")
				assert.Zero(s, s.opened())
			})
		})
	}
}

// An error in the watching goroutine ends the session like an error in the
// session itself. The first error counts.
func TestSessionEndsFromOutside(t *testing.T) {
	t.Parallel()
	perform(t, func(s *stage) {
		s.warmUp()
		first := errors.New("first")
		s.answers(func(q string) error {
			if q == "slot" && s.since(time.Now()) > 5*time.Second {
				return first
			}
			return nil
		})
		s.at(6*time.Second + 10*time.Millisecond)
		assert.True(s, s.reader().isClosed())
		assert.Equal(s, 1, s.told("err=first"))
		assert.True(s, s.reader().finished.IsZero(), "a stream of a server that may be gone is not ended cleanly")
	})
}
