package pipeline

import (
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/internal/kafkatest/model"
	"github.com/outboxstream/streamer/replication"
	"github.com/outboxstream/streamer/router"
)

// reject makes the broker refuse an event permanently.
func (s *stage) reject(id string) {
	s.world.kafka.Lock()
	defer s.world.kafka.Unlock()
	s.world.kafka.Poison[id] = sarama.ErrInvalidRecord
}

// A row that the broker will never accept becomes a dead letter. The session
// ends, because what was sent after the row has to be discarded, and the next
// session begins after the first pause. Nothing is lost, repeated or out of
// order.
func TestRowThatTheBrokerRejects(t *testing.T) {
	t.Parallel()
	perform(t, func(s *stage) {
		s.config.Rules.DeadLetterTopic, s.config.Rules.Tables[0].Poison = "letters", router.PolicyDeadLetter
		s.world.kafka.Topic("letters", 1)
		s.config.RetryInitial, s.config.RetryMax = time.Second, time.Minute
		s.warmUp()
		s.reject("b")
		s.at(4 * time.Second)
		s.world.forked = true
		s.commit(0x3000, "before", "b", "after")
		s.commit(0x4000, "last")
		s.at(4*time.Second + 10*time.Millisecond)
		s.world.kafka.Lock()
		clear(s.world.kafka.Poison) // the model would take the dead letter for the event
		s.world.kafka.Unlock()
		s.at(12 * time.Second)
		assert.Equal(s, 2, s.opened())
		assert.Equal(s, []string{"a", "before", "after", "last"}, s.ids())
		assert.EqualValues(s, 0x4040, s.reader().last())
		letters := s.world.kafka.Topics["letters"].Partitions[0].Log
		assert.Equal(s, "b", letters[len(letters)-1].EventID())
		assert.Equal(s, 1, s.told("row cannot be published and went to the dead letters"))
		s.stop()
		_, err := s.exit()
		require.NoError(s, err)
		s.world.failures = nil // the oracle does not know about dead letters
	})
}

// Without a topic for dead letters, such a row ends the process, which says how
// to pass it. What was published before the row is stored.
func TestRowThatTheBrokerRejectsIsFinal(t *testing.T) {
	t.Parallel()
	perform(t, func(s *stage) {
		s.warmUp()
		s.reject("b")
		s.at(4 * time.Second)
		s.commit(0x3000, "before")
		s.at(4*time.Second + 10*time.Millisecond)
		s.commit(0x4000, "b")
		_, err := s.exit()
		assert.Equal(s, failure.Refused, failure.ClassOf(err))
		assert.Contains(s, failure.Fix(err), "poison.policy=dead-letter")
		var poison *router.PoisonError
		require.ErrorAs(s, err, &poison)
		assert.Equal(s, replication.Position{Commit: 0x4000, Ordinal: 1}, poison.Position)
		assert.EqualValues(s, 0x3040, s.ledger.last().LSN)
		assert.EqualValues(s, 0x3040, s.reader().last())
	})
}

// A message that cannot be decoded ends the process, which names its position:
// reading it again would give the same result. What came before it is stored
// and confirmed.
func TestMessageThatCannotBeDecoded(t *testing.T) {
	t.Parallel()
	perform(t, func(s *stage) {
		s.warmUp()
		s.at(4 * time.Second)
		s.commit(0x3000, "b")
		s.reader().say(replication.Message{Kind: replication.Data, LSN: 0x3a00, Data: []byte{'?'}})
		after, err := s.exit()
		assert.Equal(s, failure.Refused, failure.ClassOf(err))
		require.ErrorContains(s, err, "message at WAL position 0/3A00 cannot be decoded")
		assert.Equal(s, 4*time.Second+time.Millisecond, after)
		assert.EqualValues(s, 0x3040, s.reader().last())
		assert.False(s, s.reader().finished.IsZero(), "cleanly")
		assert.Equal(s, []string{"a", "b"}, s.ids())
	})
}

// A fenced producer ends with its flow, and the next flow reads back from
// Kafka. Nothing is lost or repeated.
func TestProducerThatWasFenced(t *testing.T) {
	t.Parallel()
	perform(t, func(s *stage) {
		s.warmUp()
		before := s.ledger.last().Producer
		s.at(4 * time.Second)
		s.failProducer(modelEvents, sarama.ErrOutOfOrderSequenceNumber)
		s.commit(0x3000, "b", "c")
		s.at(10 * time.Second)
		assert.Equal(s, []string{"a", "b", "c"}, s.ids())
		assert.Equal(s, before.Epoch+1, s.ledger.last().Producer.Epoch)
		assert.EqualValues(s, 0x3040, s.reader().last())
	})
}

// A batch whose response is lost is not repeated, neither by the same flow nor
// by the next.
func TestAnswerThatIsLost(t *testing.T) {
	t.Parallel()
	for name, kind := range map[string]model.Kind{
		"after it was written": model.CutAfter, "before it was written": model.CutBefore, "in the answer": model.DropBlock,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			perform(t, func(s *stage) {
				s.warmUp()
				s.at(4 * time.Second)
				s.world.kafka.Lock()
				p := s.world.kafka.Topics[modelEvents].Partitions[0]
				s.world.kafka.Faults[model.At(modelEvents, 0, p.Arrivals)] = model.Fail(kind, 0)
				s.world.kafka.Unlock()
				s.commit(0x3000, "b", "c")
				s.reader().fail(errModelCut)
				s.at(30 * time.Second)
				assert.Equal(s, []string{"a", "b", "c"}, s.ids())
				assert.EqualValues(s, 0x3040, s.reader().last())
			})
		})
	}
}

// The lag is the age of the oldest commit that is not in Kafka, and 0 when
// nothing is waiting.
func TestLagWhileTheBrokerIsAway(t *testing.T) {
	t.Parallel()
	perform(t, func(s *stage) {
		lag := func() time.Duration {
			behind, known := s.pipeline.Lag()
			require.True(s, known)
			return behind.Round(time.Second)
		}
		s.warmUp()
		s.at(10 * time.Second)
		assert.Zero(s, lag())
		s.world.kafka.Freeze()
		s.commit(0x3000, "b")
		s.at(14 * time.Second)
		assert.Equal(s, 4*time.Second, lag())
		s.at(18 * time.Second)
		assert.Equal(s, 8*time.Second, lag())
		s.world.kafka.Thaw()
		s.at(22 * time.Second)
		assert.Zero(s, lag())
		s.answers(func(string) error { return errModelDown })
		s.reader().fail(errModelCut)
		s.at(62 * time.Second)
		assert.Greater(s, lag(), 30*time.Second, "what is committed meanwhile is unknown")
	})
}

// The end of a transaction without an outbox row is an idle position.
func TestTransactionWithoutRows(t *testing.T) {
	t.Parallel()
	perform(t, func(s *stage) {
		s.warmUp()
		s.at(4 * time.Second)
		s.reader().send(s.transaction(0x3000))
		s.at(25 * time.Second)
		assert.EqualValues(s, 0x3040, s.ledger.last().LSN)
		assert.EqualValues(s, 0x3040, s.reader().last())
		assert.Equal(s, sequence(0x2000, 1), s.ledger.last().Last.Sequence, "the last row is an earlier one")
	})
}
