package pipeline

import (
	"context"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/checkpoint"
	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/internal/kafkatest/model"
)

// A clean stop drains, saves, confirms and ends the stream, and waits for no
// timer.
func TestStopOfAnIdleStream(t *testing.T) {
	t.Parallel()
	perform(t, func(s *stage) {
		s.stream()
		s.at(time.Second)
		s.commit(0x2000, "a", "b")
		s.at(1500 * time.Millisecond)
		s.stop()
		after, err := s.exit()
		require.NoError(s, err)
		assert.Equal(s, 1500*time.Millisecond, after)
		assert.Equal(s, []string{"a", "b"}, s.ids())
		assert.EqualValues(s, 0x2040, s.ledger.last().LSN, "the low watermark is stored")
		assert.EqualValues(s, 0x2040, s.reader().last(), "and confirmed")
		assert.False(s, s.reader().finished.IsZero(), "the stream has ended cleanly")
	})
}

// What is in flight gets until the drain deadline, and no longer. The exit says
// how much of it is in doubt.
func TestStopWhileTheBrokerIsAway(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		back time.Duration // of the broker, after SIGTERM; 0 is never
		want time.Duration
		rows int
	}{
		"it stays away":           {0, 10 * time.Second, 2},
		"it is back in time":      {9 * time.Second, 9 * time.Second, 0},
		"it is back a bit late":   {10*time.Second + time.Millisecond, 10 * time.Second, 2},
		"it is back almost at it": {10*time.Second - time.Millisecond, 10*time.Second - time.Millisecond, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			perform(t, func(s *stage) {
				s.warmUp()
				s.at(4 * time.Second)
				s.world.kafka.Freeze()
				s.commit(0x3000, "b", "c")
				s.at(5 * time.Second)
				s.stop()
				if test.back > 0 {
					time.AfterFunc(test.back, s.world.kafka.Thaw)
				}
				after, err := s.exit()
				assert.Equal(s, 5*time.Second+test.want, after)
				if test.rows == 0 {
					require.NoError(s, err)
					assert.EqualValues(s, 0x3040, s.ledger.last().LSN)
					assert.EqualValues(s, 0x3040, s.reader().last())
					return
				}
				drain := undrained(s, err)
				assert.Equal(s, test.rows, drain.Events)
				assert.Zero(s, drain.Unsaved)
				assert.Contains(s, err.Error(), "2 events in flight")
				assert.EqualValues(s, 0x2040, s.ledger.last().LSN, "nothing in doubt is below the checkpoint")
				assert.EqualValues(s, 0x2040, s.reader().last())
			})
		})
	}
}

// The last checkpoint gets two seconds more than what is in flight. If it
// fails, the exit names the position that is not stored.
func TestStopWhileTheStoreIsAway(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		back time.Duration // of the store, after SIGTERM; 0 is never
		want time.Duration // 0: with the next attempt after the store is back, which is at most 5 s × 1.5 later
		code bool          // the exit is clean
	}{
		"it stays away":              {0, 12 * time.Second, false},
		"it is back in time":         {time.Second, 0, true},
		"it is back after the grace": {12*time.Second + time.Millisecond, 12 * time.Second, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			perform(t, func(s *stage) {
				s.warmUp()
				s.at(4 * time.Second)
				s.ledger.become(turnedOff)
				s.commit(0x3000, "b")
				s.at(5 * time.Second)
				s.stop()
				if test.back > 0 {
					time.AfterFunc(test.back, func() { s.ledger.answers(nil) })
				}
				after, err := s.exit()
				if test.want > 0 {
					assert.Equal(s, 5*time.Second+test.want, after)
				} else {
					assert.Greater(s, after, 6*time.Second)
					assert.Less(s, after, 6*time.Second+7500*time.Millisecond)
				}
				if test.code {
					require.NoError(s, err)
					assert.EqualValues(s, 0x3040, s.reader().last())
					return
				}
				drain := undrained(s, err)
				assert.Zero(s, drain.Events)
				assert.EqualValues(s, 0x3040, drain.Unsaved)
				assert.Contains(s, err.Error(), "checkpoint store is away")
				assert.EqualValues(s, 0x2040, s.reader().last(), "what is not stored is not confirmed")
			})
		})
	}
}

// A save that hangs does not hold up a stop: it is abandoned with everything
// else.
func TestStopDuringASaveThatHangs(t *testing.T) {
	t.Parallel()
	perform(t, func(s *stage) {
		s.warmUp()
		s.at(4 * time.Second)
		s.ledger.answers(func(ctx context.Context, _ checkpoint.Record) verdict {
			<-ctx.Done()
			return verdict{err: ctx.Err()}
		})
		s.commit(0x3000, "b")
		s.at(5 * time.Second)
		s.stop()
		after, err := s.exit()
		assert.Equal(s, 17*time.Second, after)
		drain := undrained(s, err)
		assert.EqualValues(s, 0x3040, drain.Unsaved)
		assert.Contains(s, err.Error(), "the checkpoint store has not answered")
	})
}

// When neither broker nor store is available, the exit is about the events in
// doubt.
func TestStopWithoutBrokerAndStore(t *testing.T) {
	t.Parallel()
	perform(t, func(s *stage) {
		s.warmUp()
		s.at(4 * time.Second)
		s.ledger.become(turnedOff)
		s.commit(0x3000, "b")
		s.at(4500 * time.Millisecond)
		s.world.kafka.Freeze()
		s.commit(0x4000, "c", "d", "e")
		s.at(5 * time.Second)
		s.stop()
		after, err := s.exit()
		assert.Equal(s, 17*time.Second, after)
		drain := undrained(s, err)
		assert.Equal(s, 3, drain.Events)
	})
}

// A store that another instance has claimed does not come back: the stop does
// not wait for it.
func TestStopWhenTheStoreIsClaimed(t *testing.T) {
	t.Parallel()
	perform(t, func(s *stage) {
		s.warmUp()
		s.at(4 * time.Second)
		s.ledger.become(verdict{err: checkpoint.ErrClaimed})
		s.commit(0x3000, "b")
		s.at(4 * time.Second)
		s.stop()
		after, err := s.exit()
		assert.Equal(s, 4*time.Second+time.Millisecond, after, "the broker takes a millisecond")
		drain := undrained(s, err)
		assert.EqualValues(s, 0x3040, drain.Unsaved)
	})
}

// The drain deadline counts from the signal, not from the end of the
// transaction being read then.
func TestStopWithinATransactionWhileTheBrokerIsAway(t *testing.T) {
	t.Parallel()
	perform(t, func(s *stage) {
		s.warmUp()
		s.at(4 * time.Second)
		s.world.kafka.Freeze()
		parts := s.reader().parts(s.transaction(0x3000, "b", "c"))
		s.reader().say(parts[:2]...)
		s.at(5 * time.Second)
		s.stop()
		s.at(8 * time.Second)
		s.reader().say(parts[2:]...)
		after, err := s.exit()
		assert.Equal(s, 15*time.Second, after)
		drain := undrained(s, err)
		assert.Equal(s, 2, drain.Events)
	})
}

// A transaction being read is read to its end. The stop waits for that end
// until the drain deadline.
func TestStopWithinATransaction(t *testing.T) {
	t.Parallel()
	for name, ends := range map[string]bool{"it ends": true, "it does not end": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			perform(t, func(s *stage) {
				s.warmUp()
				s.at(4 * time.Second)
				parts := s.reader().parts(s.transaction(0x3000, "b", "c"))
				s.reader().say(parts[:2]...)
				s.at(5 * time.Second)
				s.stop()
				s.at(8 * time.Second)
				if ends {
					s.reader().say(parts[2:]...)
				}
				after, err := s.exit()
				if ends {
					require.NoError(s, err)
					assert.Equal(s, 8*time.Second+time.Millisecond, after, "plus one millisecond of the broker")
					assert.EqualValues(s, 0x3040, s.reader().last())
					return
				}
				assert.Equal(s, 15*time.Second, after)
				drain := undrained(s, err)
				assert.Zero(s, drain.Events)
				assert.Contains(s, err.Error(), "the transaction being read has not ended")
				assert.EqualValues(s, 0x2040, s.reader().last())
			})
		})
	}
}

// A stop while the producer takes nothing: the transaction being read still
// gets its chance.
func TestStopWhileBlocked(t *testing.T) {
	t.Parallel()
	for name, back := range map[string]time.Duration{"the broker stays away": 0, "it is back": 6 * time.Second} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			perform(t, func(s *stage) {
				s.warmUp()
				s.at(4 * time.Second)
				s.world.kafka.Freeze()
				rows := s.flood()
				s.at(6 * time.Second)
				s.stop()
				if back > 0 {
					time.AfterFunc(back, s.world.kafka.Thaw)
				}
				after, err := s.exit()
				if back > 0 {
					require.NoError(s, err)
					assert.Less(s, after, 6*time.Second+back+time.Second)
					assert.Equal(s, append([]string{"a"}, rows...), s.ids())
					assert.EqualValues(s, 0x3040, s.reader().last())
					return
				}
				assert.Equal(s, 16*time.Second, after)
				drain := undrained(s, err)
				assert.Positive(s, drain.Events)
				assert.Contains(s, err.Error(), "waiting for the broker")
			})
		})
	}
}

// A stop while the connection is closed because the broker takes nothing.
func TestStopWhileTheConnectionIsGivenUp(t *testing.T) {
	t.Parallel()
	for name, back := range map[string]time.Duration{"the broker stays away": 0, "it is back": 4 * time.Second} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			perform(t, func(s *stage) {
				s.warmUp()
				s.at(4 * time.Second)
				s.world.kafka.Freeze()
				s.flood()
				s.at(40 * time.Second)
				require.True(s, s.reader().isClosed())
				s.stop()
				if back > 0 {
					time.AfterFunc(back, s.world.kafka.Thaw)
				}
				after, err := s.exit()
				if back > 0 {
					require.NoError(s, err)
					assert.Less(s, after, 40*time.Second+back+time.Second)
					assert.EqualValues(s, 0x2040, s.ledger.last().LSN, "the transaction was not read completely")
					return
				}
				assert.Equal(s, 50*time.Second, after)
				drain := undrained(s, err)
				assert.Positive(s, drain.Events)
			})
		})
	}
}

// While a stop waits for the broker, the old position is confirmed, so that the
// server keeps the connection on which the last position will be confirmed.
func TestStopKeepsTheConnection(t *testing.T) {
	t.Parallel()
	perform(t, func(s *stage) {
		s.config.DrainTimeout = time.Minute
		s.warmUp()
		s.world.kafka.Freeze()
		s.at(4 * time.Second)
		s.commit(0x3000, "b")
		s.at(4500 * time.Millisecond)
		s.stop()
		s.at(30 * time.Second)
		said := s.reader().confirmations()
		last := 3 * time.Second
		for _, c := range said {
			if c.at > last {
				assert.LessOrEqual(s, c.at-last, s.config.StatusInterval+pollInterval, "%v", said)
				assert.EqualValues(s, 0x2040, c.lsn)
				last = c.at
			}
		}
		assert.Greater(s, last, 24*time.Second)
		s.world.kafka.Thaw()
		_, err := s.exit()
		require.NoError(s, err)
		assert.EqualValues(s, 0x3040, s.reader().last())
	})
}

// A second signal changes nothing: the deadline is that of the first.
func TestStopTwice(t *testing.T) {
	t.Parallel()
	perform(t, func(s *stage) {
		s.warmUp()
		s.world.kafka.Freeze()
		s.commit(0x3000, "b")
		s.at(5 * time.Second)
		s.stop()
		s.at(9 * time.Second)
		s.stop()
		after, err := s.exit()
		require.Error(s, err)
		assert.Equal(s, 15*time.Second, after)
	})
}

// A stop between two sessions: what is in flight still gets until the deadline,
// and what was acknowledged is stored.
func TestStopBetweenSessions(t *testing.T) {
	t.Parallel()
	for name, back := range map[string]time.Duration{"the broker stays away": 0, "it is back": 6 * time.Second} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			perform(t, func(s *stage) {
				s.config.RetryInitial, s.config.RetryMax = time.Minute, time.Minute
				s.warmUp()
				s.at(4 * time.Second)
				s.world.kafka.Freeze()
				s.commit(0x3000, "b")
				s.reader().fail(errModelCut)
				s.at(10 * time.Second)
				require.Equal(s, Waiting, s.pipeline.Status().Phase)
				s.stop()
				if back > 0 {
					time.AfterFunc(back, s.world.kafka.Thaw)
				}
				after, err := s.exit()
				if back > 0 {
					require.NoError(s, err)
					assert.Equal(s, 16*time.Second, after)
					assert.EqualValues(s, 0x3040, s.ledger.last().LSN, "the low watermark is stored")
					return
				}
				assert.Equal(s, 20*time.Second, after)
				drain := undrained(s, err)
				assert.Equal(s, 1, drain.Events)
			})
		})
	}
}

// A stop while PostgreSQL cannot be reached and the store is unavailable: the
// exit is not clean before the watermark is stored.
func TestStopBetweenSessionsStoresTheWatermark(t *testing.T) {
	t.Parallel()
	perform(t, func(s *stage) {
		s.warmUp()
		s.at(4 * time.Second)
		s.ledger.become(turnedOff)
		s.commit(0x3000, "b")
		s.at(5 * time.Second)
		s.answers(func(string) error { return errModelDown })
		s.reader().fail(errModelCut)
		s.at(20 * time.Second)
		s.stop()
		after, err := s.exit()
		assert.Equal(s, 32*time.Second, after)
		drain := undrained(s, err)
		assert.EqualValues(s, 0x3040, drain.Unsaved)
	})
}

// A stop while standing by has nothing to wait for.
func TestStopWhileStandingBy(t *testing.T) {
	t.Parallel()
	perform(t, func(s *stage) {
		s.otherHolds(true)
		s.start()
		s.until("it stands by", func() bool { return s.pipeline.Status().Phase == Standby })
		s.began = time.Now()
		s.at(10 * time.Second)
		s.stop()
		after, err := s.exit()
		require.NoError(s, err)
		assert.Equal(s, 10*time.Second, after)
		assert.Empty(s, s.ledger.attempts())
	})
}

// An instance that has streamed and has lost the lock with events in flight
// waits for them.
func TestStopWhileStandingByWithEventsInFlight(t *testing.T) {
	t.Parallel()
	perform(t, func(s *stage) {
		s.warmUp()
		s.at(4 * time.Second)
		s.world.kafka.Freeze()
		s.commit(0x3000, "b")
		s.at(5 * time.Second)
		s.otherHolds(true)
		s.reader().fail(errModelCut)
		s.until("it stands by", func() bool { return s.pipeline.Status().Phase == Standby })
		s.at(20 * time.Second)
		s.stop()
		after, err := s.exit()
		assert.Equal(s, 30*time.Second, after)
		drain := undrained(s, err)
		assert.Equal(s, 1, drain.Events)
	})
}

// A stop while Kafka does not answer a start: nothing is in flight, so nothing
// is waited for.
func TestStopDuringTakeOver(t *testing.T) {
	t.Parallel()
	perform(t, func(s *stage) {
		s.world.kafka.Freeze()
		s.start()
		s.began = time.Now()
		s.at(5 * time.Second)
		s.stop()
		after, err := s.exit()
		require.NoError(s, err)
		assert.Equal(s, 5*time.Second, after)
	})
}

// failProducer ends the producer permanently, with the next batch that reaches
// the topic.
func (s *stage) failProducer(topic string, why sarama.KError) {
	s.world.kafka.Lock()
	defer s.world.kafka.Unlock()
	p := s.world.kafka.Topics[topic].Partitions[0]
	s.world.kafka.Faults[model.At(topic, 0, p.Arrivals)] = model.Fail(model.ErrorBefore, why)
}

// A stop after the producer has failed: its events are in doubt, and there is
// nothing left to wait for.
func TestStopAfterTheProducerHasFailed(t *testing.T) {
	t.Parallel()
	for name, frozen := range map[string]bool{"between sessions": false, "during the take-over": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			perform(t, func(s *stage) {
				if !frozen {
					s.config.RetryInitial, s.config.RetryMax = time.Minute, time.Minute
				}
				s.warmUp()
				s.at(4 * time.Second)
				s.failProducer(modelEvents, sarama.ErrOutOfOrderSequenceNumber)
				s.commit(0x3000, "b", "c")
				s.at(4*time.Second + time.Millisecond)
				if frozen {
					s.world.kafka.Freeze()
				}
				s.at(12 * time.Second)
				s.stop()
				after, err := s.exit()
				assert.Equal(s, 12*time.Second, after)
				drain := undrained(s, err)
				assert.Equal(s, 2, drain.Events)
			})
		})
	}
}

// A stop after another instance has taken this one's place: what was in flight
// is now the concern of the other instance, which continues from what is
// published.
func TestStopAfterTheProducerWasFenced(t *testing.T) {
	t.Parallel()
	perform(t, func(s *stage) {
		s.config.RetryInitial, s.config.RetryMax = time.Minute, time.Minute
		s.warmUp()
		s.at(4 * time.Second)
		s.failProducer(modelEvents, sarama.ErrInvalidProducerEpoch)
		s.commit(0x3000, "b", "c")
		s.at(12 * time.Second)
		s.stop()
		after, err := s.exit()
		require.NoError(s, err)
		assert.Equal(s, 12*time.Second, after)
	})
}

// If nothing was in flight when the producer failed, the exit is clean if the
// watermark is stored. Otherwise the exit says that it is not.
func TestStopAfterTheProducerHasFailedWithNothingInFlight(t *testing.T) {
	t.Parallel()
	for name, unsaved := range map[string]bool{"everything is stored": false, "an idle position is not": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			perform(t, func(s *stage) {
				s.world.plan.ownStore = false
				s.config.Checkpoint.Store = "kafka"
				if unsaved {
					s.warmUp()
					s.failProducer(modelCheckpoints, sarama.ErrOutOfOrderSequenceNumber)
					s.idle(0x3000, true)
				} else {
					s.stream()
					s.failProducer(modelCheckpoints, sarama.ErrOutOfOrderSequenceNumber)
					s.commit(0x2000, "a") // waits for a checkpoint that names its topic
				}
				s.until("the session has ended", func() bool { return s.reader().isClosed() })
				s.world.kafka.Freeze()
				s.at(15 * time.Second) // it is taking over
				s.stop()
				after, err := s.exit()
				assert.Equal(s, 15*time.Second, after)
				if !unsaved {
					require.NoError(s, err)
					return
				}
				drain := undrained(s, err)
				assert.Zero(s, drain.Events)
				assert.EqualValues(s, 0x3000, drain.Unsaved)
			})
		})
	}
}

// Exit code 0 means that the low watermark is stored, even if its flow has
// ended and the next one could not begin.
func TestStopDuringTakeOverWithAWatermarkThatIsNotStored(t *testing.T) {
	t.Parallel()
	perform(t, func(s *stage) {
		s.warmUp()
		s.at(4 * time.Second)
		s.ledger.become(turnedOff)
		s.commit(0x3000, "b") // it is acknowledged, but its checkpoint cannot be stored
		s.at(6 * time.Second)
		s.world.mu.Lock()
		s.world.primary.started = "again" // the flow does not continue in another run of the server
		s.world.primary.promote()
		s.world.mu.Unlock()
		s.world.kafka.Freeze()
		s.reader().fail(errModelCut)
		s.at(12 * time.Second)
		s.stop()
		after, err := s.exit()
		assert.Equal(s, 12*time.Second, after)
		assert.EqualValues(s, 0x2040, s.ledger.last().LSN)
		require.Error(s, err, "0x3040 is not stored")
	})
}

// A refusal during the stop is what the exit is about.
func TestStopThatMeetsARefusal(t *testing.T) {
	t.Parallel()
	perform(t, func(s *stage) {
		s.warmUp()
		s.world.kafka.Freeze()
		s.world.kafka.Lock()
		s.world.kafka.Poison["b"] = sarama.ErrInvalidRecord
		s.world.kafka.Unlock()
		s.commit(0x3000, "b")
		s.at(5 * time.Second)
		s.stop()
		time.AfterFunc(time.Second, s.world.kafka.Thaw)
		after, err := s.exit()
		assert.Equal(s, failure.Refused, failure.ClassOf(err), "%v", err)
		assert.Less(s, after, 10*time.Second)
	})
}

// otherHolds makes another instance take the lock, or release it.
func (s *stage) otherHolds(yes bool) {
	s.world.mu.Lock()
	defer s.world.mu.Unlock()
	if !yes {
		delete(s.world.primary.locks, modelSlotName)
		return
	}
	for _, c := range s.world.primary.locks {
		c.cut = true
	}
	other := &process{world: s.world}
	s.world.primary.locks[modelSlotName] = &modelControl{process: other, server: s.world.primary}
}
