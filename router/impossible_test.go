package router

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/router/kafka"
)

// A name that Kafka can never have is the fault of the rows that choose it.
// Everything else goes on.
func TestProducerImpossibleTopic(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newOrders(1, 2)
		m.CreateFault = func(topic string) error { return kafka.CollisionError(topic, orders) }
		r := newRig(t, m, someConfig())
		require.NoError(t, r.feed(10, 3))
		for range 2 {
			_, err := r.append(numbered(r.next, "or_der", "k"))
			p, ok := errors.AsType[*PoisonError](err)
			require.True(t, ok, "%v", err)
			assert.Equal(t, PoisonRoute, p.Class)
			assert.Equal(t, fmt.Sprintf("event-%d", r.next), p.EventID)
			assert.Contains(t, Reason(err), `topic "outbox.event.or_der" cannot exist`)
			assert.Contains(t, Reason(err), "correct the row's aggregate type")
			r.next++
			pass(2 * r.config.UnknownGrace) // the reason does not change with time
		}
		assert.Equal(t, 1, m.Created, "Kafka is asked once")
		require.NoError(t, r.feed(10, 3))
		require.NoError(t, r.settle())
		require.NoError(t, r.producer.Err())
		assert.Equal(t, 20, r.inKafka())
	})
}

// The topic of the dead letters is not chosen by a row.
func TestProducerImpossibleLetterTopic(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newOrders(1, 2)
		m.CreateFault = func(topic string) error { return kafka.CollisionError(topic, "dead_letters") }
		rules := someRules()
		rules.DeadLetterTopic = letterTopic
		r := newRigWith(t, m, someConfig(), rules)
		l := letterOf(1, rowColumns("event-1", "order", "a", "{}"))
		for {
			result, err := r.producer.Bury(&l)
			require.NoError(t, err)
			require.Equal(t, Blocked, result)
			if err := r.await(); err != nil {
				require.Equal(t, failure.Refused, failure.ClassOf(err))
				require.ErrorContains(t, err, "dead_letters")
				return
			}
		}
	})
}
