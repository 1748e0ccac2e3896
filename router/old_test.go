package router

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/IBM/sarama"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/internal/kafkatest"
	"github.com/outboxstream/streamer/internal/kafkatest/model"
	"github.com/outboxstream/streamer/internal/testserver"
	"github.com/outboxstream/streamer/router/kafka"
)

// aged makes the events of a rig older by the given age when they are
// published.
func (r *rig) aged(by time.Duration) {
	r.shift = time.Since(time.UnixMicro(numbered(r.next, "", "").CommitTime)) - by
}

// Kafka measures how long it remembers a producer by the time of its records,
// not by their arrival. Events may be older than that when they are published,
// for example after a weekend. They must not make Kafka forget the producer:
// nothing is lost, repeated or reordered, whatever happens to a batch.
func TestProducerOldEvents(t *testing.T) {
	t.Parallel()
	for _, expiry := range []time.Duration{model.Expiry, time.Hour, time.Minute} {
		for kind := range model.KindEnd {
			if kind == model.Growth {
				continue // its keys move
			}
			for _, limit := range []int{0, 3} {
				t.Run(fmt.Sprintf("remembered for %s, %s, limit %d", expiry, kind, limit), func(t *testing.T) {
					t.Parallel()
					for arrival := 0; arrival < 12; arrival += testserver.Step(4) {
						synctest.Test(t, func(t *testing.T) {
							m := newModel(2)
							m.Expiry = expiry
							m.Topic(orders, 1)
							m.MaxRecords = limit
							m.Faults[model.At(orders, 0, arrival)] = model.Fail(kind, sarama.ErrNotEnoughReplicasAfterAppend)
							r := newRig(t, m, someConfig())
							r.aged(30 * time.Hour)
							for range 8 {
								require.NoError(t, r.feed(10, 5))
								m.Restart()
							}
							r.requireComplete()
							r.requirePrefixes()
						})
					}
				})
			}
		}
	}
}

// owned is a model broker as the owner of a transactional id sees it.
type owned struct {
	*modelled
	id    int64
	epoch int16
}

func (o owned) ID() (int64, int16) { return o.id, o.epoch }

// A fenced predecessor stays out while old events are published, even if
// brokers restart.
func TestOldEventsLetNoPredecessorIn(t *testing.T) {
	t.Parallel()
	for _, age := range []time.Duration{0, 23 * time.Hour, 30 * time.Hour, 1000 * time.Hour} {
		inBubble(t, age.String(), func(t *testing.T) {
			m := newOrders(1, 1)
			own := func() owned {
				id, epoch := m.InitProducerID("slot")
				require.NoError(t, m.Abort("slot", id, epoch, map[string][]int32{orders: {0}}))
				return owned{m, id, epoch}
			}
			begin := func() *rig {
				r := &rig{T: t, cluster: own(), close: m.Close, config: someConfig(), rules: someRules(), notified: make(chan struct{}, 1)}
				r.begin()
				r.aged(age)
				return r
			}
			zombie := begin()
			require.NoError(t, zombie.feed(20, 3))
			require.NoError(t, zombie.settle())
			successor := begin()
			successor.next = zombie.next
			require.NoError(t, successor.feed(20, 3))
			require.NoError(t, successor.settle())
			m.Restart()
			before := len(m.Topics[orders].Partitions[0].Log)
			err := zombie.feed(20, 3)
			if err == nil {
				err = zombie.settle()
			}
			require.ErrorIs(t, err, kafka.ErrFenced)
			assert.Len(t, m.Topics[orders].Partitions[0].Log, before)
		})
	}
}

// Events younger than some minutes keep their commit time, to the millisecond.
// Older events get the earliest time that brokers accept as young. A record
// that is sent again is unchanged.
func TestRecordTimeOfOldEvents(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ expiry, latest time.Duration }{
		{24 * time.Hour, 10 * time.Minute},
		{time.Hour, 10 * time.Minute},
		{40 * time.Minute, 10 * time.Minute},
		{20 * time.Minute, 5 * time.Minute},
		{8 * time.Second, 2 * time.Second},
	} {
		inBubble(t, test.expiry.String(), func(t *testing.T) {
			m := newModel(1)
			m.Expiry = test.expiry
			m.Topic(orders, 1)
			m.Faults[model.At(orders, 0, 2)] = model.Fault{Kind: model.CutBefore}
			r := newRig(t, m, someConfig())
			for _, age := range []time.Duration{
				1000 * time.Hour, test.latest + time.Second, test.latest + time.Millisecond, test.latest,
				test.latest - time.Millisecond, time.Second, 0, -time.Second,
			} {
				r.aged(age)
				opened := time.Now()
				require.NoError(t, r.feed(1, 1))
				require.NoError(t, r.settle())
				log := m.Topics[orders].Partitions[0].Log
				want := time.UnixMicro(r.stream[len(r.stream)-1].CommitTime)
				if earliest := opened.Add(-test.latest); want.Before(earliest) {
					want = earliest
				}
				assert.Equal(t, want.UnixMilli(), log[len(log)-1].Time.UnixMilli(), "%s old", age)
			}
		})
	}
}

// How many batches may be on their way at once depends on how long brokers
// remember the last one.
func TestWindowFollowsTheBrokers(t *testing.T) {
	t.Parallel()
	for _, expiry := range []time.Duration{model.Expiry, 2 * time.Hour, 10 * time.Minute} {
		for kind := range model.KindEnd {
			if kind == model.Growth {
				continue
			}
			inBubble(t, fmt.Sprintf("remembered for %s, %s", expiry, kind), func(t *testing.T) {
				m := newModel(2)
				m.Expiry = expiry
				m.Topic(orders, 1)
				r := newRig(t, m, someConfig())
				r.aged(0)
				require.NoError(t, r.feed(50, 3))
				require.NoError(t, r.settle())
				pass(expiry + time.Second)
				r.aged(0)
				arrivals := m.Topics[orders].Partitions[0].Arrivals
				m.Faults[model.At(orders, 0, arrivals)] = model.Fail(kind, sarama.ErrNotEnoughReplicas)
				m.Faults[model.At(orders, 0, arrivals+1)] = model.Fail(kind, sarama.ErrNotEnoughReplicas)
				require.NoError(t, r.feed(50, 3))
				r.requireComplete()
				r.requirePrefixes()
			})
		}
	}
}

// A topic that refuses old records accepts old events.
func TestOldEventsIntoKafka(t *testing.T) {
	t.Parallel()
	cluster := kafkatest.Shared(t)
	rules := someRules()
	rules.Tables[0].Topic = cluster.NewTopic(t, 3, map[string]string{"message.timestamp.before.max.ms": "3600000"})
	r := newLiveRig(t, cluster.Brokers(), liveConfig(), rules)
	for _, age := range []time.Duration{time.Minute, 30 * time.Hour} {
		r.aged(age)
		require.NoError(t, r.feed(500, 7))
	}
	require.NoError(t, r.settle())
	messages, err := cluster.Consume(t.Context(), rules.Tables[0].Topic)
	require.NoError(t, err)
	r.requireDelivered(messages, 3)
	for _, m := range messages {
		assert.WithinRange(t, m.Timestamp, time.Now().Add(-youth-time.Minute), time.Now())
	}
}
