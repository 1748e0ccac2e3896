package router

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/IBM/sarama"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/decoder"
	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/internal/kafkatest/model"
	"github.com/outboxstream/streamer/replication"
	"github.com/outboxstream/streamer/router/kafka"
)

const orders = "outbox.event.order"

// javaMurmur2 is the hash of Java's default partitioner.
func javaMurmur2(data []byte) uint32 {
	const m, r = 0x5bd1e995, 24
	h := uint32(0x9747b28c) ^ uint32(len(data))
	for ; len(data) >= 4; data = data[4:] {
		k := binary.LittleEndian.Uint32(data) * m
		k ^= k >> r
		h = h*m ^ k*m
	}
	switch len(data) {
	case 3:
		h ^= uint32(data[2]) << 16
		fallthrough
	case 2:
		h ^= uint32(data[1]) << 8
		fallthrough
	case 1:
		h = (h ^ uint32(data[0])) * m
	}
	h ^= h >> 13
	h *= m
	return h ^ h>>15
}

// transient are the codes that the producer must survive, whether or not the
// batch was written before.
var transient = []sarama.KError{
	sarama.ErrUnknown, sarama.ErrInvalidMessage, sarama.ErrUnknownTopicOrPartition, sarama.ErrLeaderNotAvailable,
	sarama.ErrNotLeaderForPartition, sarama.ErrRequestTimedOut, sarama.ErrBrokerNotAvailable, sarama.ErrReplicaNotAvailable,
	sarama.ErrNetworkException, sarama.ErrNotEnoughReplicas, sarama.ErrNotEnoughReplicasAfterAppend, sarama.ErrTopicAuthorizationFailed,
	sarama.ErrNotController, sarama.ErrKafkaStorageError, sarama.ErrFencedLeaderEpoch, sarama.ErrUnknownLeaderEpoch,
	sarama.ErrThrottlingQuotaExceeded, sarama.ErrOffsetsLoadInProgress, sarama.KError(30_000),
}

// permanent are the codes that end production, each with the resulting error.
var permanent = map[sarama.KError]error{
	sarama.ErrInvalidRecord: nil, sarama.ErrInvalidTimestamp: nil, sarama.ErrPolicyViolation: nil,
	sarama.ErrUnsupportedForMessageFormat: nil, sarama.ErrInvalidTopic: nil, sarama.ErrClusterAuthorizationFailed: nil,
	sarama.ErrInvalidRequiredAcks: nil, sarama.ErrUnsupportedVersion: nil, sarama.ErrUnsupportedCompressionType: nil,
	sarama.ErrTransactionalIDAuthorizationFailed: nil,
	sarama.ErrInvalidProducerEpoch:               kafka.ErrFenced, sarama.ErrProducerFenced: kafka.ErrFenced,
	sarama.ErrInvalidProducerIDMapping: kafka.ErrFenced,
	sarama.ErrOutOfOrderSequenceNumber: ErrSequenceLost, sarama.ErrUnknownProducerID: ErrSequenceLost,
}

func TestProducerWithoutFaults(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newOrdersRig(t, 3, 4)
		require.NoError(t, r.feed(500, 17))
		r.requireComplete()
		r.requirePrefixes()
	})
}

// Every transient code and every kind of fault at every arrival: nothing is
// lost, repeated or reordered.
func TestProducerRidesOut(t *testing.T) {
	t.Parallel()
	type fault struct {
		name string
		model.Fault
	}
	var faults []fault
	for _, code := range transient {
		faults = append(faults,
			fault{fmt.Sprintf("code %d before the append", int16(code)), model.Fail(model.ErrorBefore, code)},
			fault{fmt.Sprintf("code %d after the append", int16(code)), model.Fail(model.ErrorAfter, code)})
	}
	faults = append(faults, fault{"duplicate sequence", model.Fail(model.ErrorAfter, sarama.ErrDuplicateSequenceNumber)})
	for kind := model.DropBlock; kind < model.KindEnd; kind++ {
		faults = append(faults, fault{kind.String(), model.Fault{Kind: kind}})
	}
	for _, a := range faults {
		t.Run(a.name, func(t *testing.T) {
			t.Parallel()
			for arrival := range 14 {
				synctest.Test(t, func(t *testing.T) {
					m := newOrders(2, 1)
					m.Faults[model.At(orders, 0, arrival)] = a.Fault
					r := newRig(t, m, someConfig())
					require.NoError(t, r.feed(80, 5), "arrival %d", arrival)
					r.requireComplete()
					if a.Kind != model.Growth {
						r.requirePrefixes()
					}
				})
			}
		})
	}
}

// The same with the fault happening again and again.
func TestProducerRidesOutRepeated(t *testing.T) {
	t.Parallel()
	for kind := model.ErrorBefore; kind < model.KindEnd; kind++ {
		if kind == model.Growth {
			continue
		}
		for _, every := range []int{1, 2, 3, 5} {
			inBubble(t, fmt.Sprintf("%s, every %d", kind, every), func(t *testing.T) {
				m := newOrders(3, 3)
				for id := range int32(3) {
					for arrival := 0; arrival < 60; arrival += every {
						m.Faults[model.At(orders, id, arrival)] = model.Fail(kind, sarama.ErrNotEnoughReplicas)
					}
				}
				r := newRig(t, m, someConfig())
				require.NoError(t, r.feed(200, 11))
				r.requireComplete()
				r.requirePrefixes()
			})
		}
	}
}

// Every code that ends production at every arrival: the partition is a prefix,
// the rest is not written, and nothing beyond is confirmed.
func TestProducerGivesUp(t *testing.T) {
	t.Parallel()
	for code, sentinel := range permanent {
		t.Run(fmt.Sprintf("code %d", int16(code)), func(t *testing.T) {
			t.Parallel()
			for arrival := range 10 {
				synctest.Test(t, func(t *testing.T) {
					m := newOrders(2, 1)
					for later := arrival; later < 200; later++ {
						m.Faults[model.At(orders, 0, later)] = model.Fail(model.ErrorBefore, code)
					}
					r := newRig(t, m, someConfig())
					err := r.feed(100, 5)
					if err == nil {
						err = r.settle()
					}
					require.Error(t, err)
					require.ErrorIs(t, r.producer.Err(), err)
					require.ErrorIs(t, err, code)
					require.ErrorContains(t, err, `topic "outbox.event.order" partition 0`)
					if sentinel != nil {
						require.ErrorIs(t, err, sentinel)
						require.Equal(t, failure.Transient, failure.ClassOf(err), "a new session may help")
					} else {
						require.Equal(t, failure.Refused, failure.ClassOf(err))
					}
					pass(5 * time.Minute) // whatever is on its way arrives
					require.Error(t, r.producer.Collect())
					r.requirePrefixes()
					r.confirmedNothingMissing()
					require.Less(t, r.inKafka(), 100)
				})
			}
		})
	}
}

// A record that is too large alone is found by halving. Everything before it is
// written, nothing from it on.
func TestProducerTooLarge(t *testing.T) {
	t.Parallel()
	for poisoned := range 23 {
		inBubble(t, fmt.Sprintf("event %d", poisoned), func(t *testing.T) {
			m := newOrders(1, 1)
			id := fmt.Sprintf("event-%d", poisoned)
			m.Poison[id] = sarama.ErrMessageSizeTooLarge
			r := newRig(t, m, someConfig())
			err := r.feed(60, 5)
			if err == nil {
				err = r.settle()
			}
			require.Equal(t, failure.Refused, failure.ClassOf(err))
			p, ok := errors.AsType[*PoisonError](err)
			require.True(t, ok)
			assert.Equal(t, id, p.EventID)
			assert.Equal(t, commitOf(poisoned), p.Position.Commit)
			require.ErrorContains(t, err, `topic "outbox.event.order" partition 0`)
			require.ErrorContains(t, err, "max.message.bytes")
			pass(5 * time.Minute)
			require.Error(t, r.producer.Collect())
			r.requirePrefixes()
			assert.Equal(t, poisoned, r.inKafka(), "exactly the events before the record")
			r.confirmedNothingMissing()

			m.Lock()
			clear(m.Poison) // too late: the batches after it must wait for a new session
			m.Unlock()
			_, _ = r.producer.Append(numbered(r.next, "order", "key-0"))
			r.producer.Seal()
			pass(5 * time.Minute)
			assert.Equal(t, poisoned, r.inKafka(), "nothing is written after the batch was given up")
		})
	}
}

// The broker names the invalid record of a batch, and so does the streamer's
// error. Other partitions still deliver what they have.
func TestProducerInvalidRecord(t *testing.T) {
	t.Parallel()
	for _, mode := range []Mode{Binary, Structured} {
		for _, poisoned := range []int{0, 1, 2, 3, 17, 40} {
			inBubble(t, fmt.Sprintf("%s event %d", mode, poisoned), func(t *testing.T) {
				m := newOrders(2, 3)
				id := fmt.Sprintf("event-%d", poisoned)
				m.Poison[id] = sarama.ErrInvalidRecord
				r := newRigWith(t, m, someConfig(), withMode(mode))
				err := r.feed(100, 9)
				if err == nil {
					err = r.settle()
				}
				p, ok := errors.AsType[*PoisonError](err)
				require.True(t, ok, "%v", err)
				assert.Equal(t, id, p.EventID)
				assert.Equal(t, commitOf(poisoned), p.Position.Commit)
				pass(5 * time.Minute)
				require.Error(t, r.producer.Collect())
				if mode == Binary {
					r.requirePrefixes()
				}
				r.requireOrder()
				r.confirmedNothingMissing()
			})
		}
	}
}

func TestProducerSplitsTooLargeBatches(t *testing.T) {
	t.Parallel()
	for limit := 1; limit <= 5; limit++ {
		for _, kind := range []model.Kind{model.NoFault, model.ErrorAfter, model.CutAfter, model.CutBefore, model.Ghost, model.Move} {
			t.Run(fmt.Sprintf("limit %d, %s", limit, kind), func(t *testing.T) {
				t.Parallel()
				for arrival := range 12 {
					synctest.Test(t, func(t *testing.T) {
						m := newOrders(2, 1)
						m.MaxRecords = limit
						m.Faults[model.At(orders, 0, arrival)] = model.Fail(kind, sarama.ErrNotEnoughReplicasAfterAppend)
						config := someConfig()
						config.MaxBatchBytes = 8 << 10
						r := newRig(t, m, config)
						require.NoError(t, r.feed(100, 5))
						r.requireComplete()
						r.requirePrefixes()
					})
				}
			})
		}
	}
}

func TestSplitKeepsSequences(t *testing.T) {
	t.Parallel()
	b, part := newBatch(), &partition{topic: &topic{name: orders}, sequence: 1<<31 - 3}
	enc := encoderFor(t, someRules())
	for n := range 11 {
		encodeInto(t, enc, b, numbered(n, "order", "k"))
	}
	b.partition = part
	part.enqueue(b)
	require.EqualValues(t, 1<<31-3, b.firstSequence)
	require.EqualValues(t, 8, part.sequence, "wrapped to 0 after 2³¹−1")

	leaves := []*Batch{b}
	for again := true; again; {
		again = false
		for i, leaf := range leaves {
			if leaf.count() > 1 {
				halves := leaf.split()
				leaves = slices.Replace(leaves, i, i+1, halves[0], halves[1])
				again = true
				break
			}
		}
	}
	require.Len(t, leaves, 11)
	for i, leaf := range leaves {
		assert.Equal(t, nextSequence(1<<31-3, i), leaf.firstSequence)
		assert.Zero(t, leaf.record(0).OffsetDelta)
		id, position := identify(leaf.record(0))
		assert.Equal(t, fmt.Sprintf("event-%d", i), id)
		assert.Equal(t, commitOf(i), position.Commit)
		wire := plain(leaf, codec{}, 1, 0)
		assert.Equal(t, recordTime(numbered(i, "order", "k")), wire.FirstTimestamp.Add(wire.Records[0].TimestampDelta).UnixMilli())
		assert.Same(t, b, leaf.sending.parent)
	}
	assert.Equal(t, 11, b.sending.parts)
}

func TestNextSequence(t *testing.T) {
	t.Parallel()
	const last = 1<<31 - 1
	for _, test := range []struct {
		from int32
		n    int
		want int32
	}{{0, 0, 0}, {0, 1, 1}, {last, 0, last}, {last, 1, 0}, {last, 2, 1}, {last - 1, 3, 1}, {5, last, 4}} {
		assert.Equal(t, test.want, nextSequence(test.from, test.n))
	}
}

// K-24: sequences continue at 0 while five batches are on their way.
func TestProducerSequencesWrap(t *testing.T) {
	t.Parallel()
	for _, kind := range []model.Kind{model.NoFault, model.CutAfter, model.ErrorAfter} {
		synctest.Test(t, func(t *testing.T) {
			r := newOrdersRig(t, 1, 1)
			require.NoError(t, r.feed(1, 1))
			require.NoError(t, r.settle())
			const near = 1<<31 - 20
			r.producer.mu.Lock()
			part := r.producer.topics[orders].partitions[0]
			part.sequence = near
			r.producer.mu.Unlock()
			r.model.Topics[orders].Partitions[0].Expect(near)
			for arrival := 3; arrival < 20; arrival += 4 {
				r.model.Faults[model.At(orders, 0, arrival)] = model.Fail(kind, sarama.ErrRequestTimedOut)
			}
			require.NoError(t, r.feed(80, 3))
			r.requireComplete()
			r.requirePrefixes()
			assert.Less(t, part.sequence, int32(100))
		})
	}
}

// A broker that does not know the producer accepts any sequence, so a single
// batch goes first.
func TestProducerWindow(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newOrders(1, 1)
		m.Latency = func(int) time.Duration { return time.Second }
		r := newRig(t, m, someConfig())
		inFlight := func() int {
			r.producer.mu.Lock()
			defer r.producer.mu.Unlock()
			return len(r.producer.topics[orders].partitions[0].sent)
		}
		require.NoError(t, r.feed(60, 1))
		pass(500 * time.Millisecond)
		assert.Equal(t, 1, inFlight(), "before the first acknowledgement")
		pass(time.Second)
		assert.Equal(t, kafka.MaxRequests, inFlight(), "after the first acknowledgement, bounded by the connection's requests")
		require.NoError(t, r.settle())

		for _, test := range []struct {
			idle time.Duration
			want int
		}{{model.Expiry/2 - time.Minute, kafka.MaxRequests}, {model.Expiry/2 + time.Second, 1}, {25 * time.Hour, 1}} {
			pass(test.idle)
			require.NoError(t, r.feed(60, 1))
			r.producer.Seal()
			pass(500 * time.Millisecond)
			assert.Equal(t, test.want, inFlight(), "after %v", test.idle)
			require.NoError(t, r.settle())
		}
		r.requireComplete()
		r.requirePrefixes()
	})
}

// After a day of silence the broker has forgotten the producer. Accidents to
// the first batch then must not let later batches in before it.
func TestProducerForgotten(t *testing.T) {
	t.Parallel()
	for _, kind := range []model.Kind{
		model.NoFault, model.ErrorBefore, model.ErrorAfter, model.CutBefore, model.CutAfter,
		model.Ghost, model.Move, model.Leaderless, model.DropBlock, model.RefuseSend,
	} {
		inBubble(t, kind.String(), func(t *testing.T) {
			r := newOrdersRig(t, 2, 1)
			require.NoError(t, r.feed(50, 3))
			require.NoError(t, r.settle())
			pass(25 * time.Hour)
			arrivals := r.model.Topics[orders].Partitions[0].Arrivals
			r.model.Faults[model.At(orders, 0, arrivals)] = model.Fail(kind, sarama.ErrNotEnoughReplicas)
			r.model.Faults[model.At(orders, 0, arrivals+1)] = model.Fail(kind, sarama.ErrNotEnoughReplicas)
			require.NoError(t, r.feed(50, 3))
			r.requireComplete()
			r.requirePrefixes()
		})
	}
}

// After an error that follows the append, the later batch of the partition is
// acknowledged first. The positions from Written must never go back.
func TestWrittenNeverDecreases(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newOrdersRig(t, 1, 1)
		require.NoError(t, r.feed(20, 1))
		require.NoError(t, r.settle())
		arrivals := r.model.Topics[orders].Partitions[0].Arrivals
		r.model.Faults[model.At(orders, 0, arrivals)] = model.Fail(model.ErrorAfter, sarama.ErrNotEnoughReplicasAfterAppend)
		highest := replication.Position{}
		require.NoError(t, r.feed(16, 1)) // four batches, in flight together
		r.producer.Seal()
		for range 2000 {
			at := r.producer.Written()[orders][0]
			require.GreaterOrEqual(t, at.Compare(highest), 0, "went back from %s to %s", highest, at)
			highest = at
			pass(time.Millisecond)
		}
		require.NoError(t, r.settle())
		assert.Equal(t, commitOf(35), r.producer.Written()[orders][0].Commit, "everything is acknowledged")
		r.requireComplete()
	})
}

// A successor skips exactly what was acknowledged, wherever the predecessor
// ended.
func TestSuccessorRepeatsNothing(t *testing.T) {
	t.Parallel()
	for _, settled := range []bool{true, false} {
		for _, after := range []int{1, 7, 40, 150} {
			inBubble(t, fmt.Sprintf("settled %t after %d", settled, after), func(t *testing.T) {
				m := newOrders(2, 3)
				m.Latency = func(int) time.Duration { return 30 * time.Millisecond }
				r := newRig(t, m, someConfig())
				require.NoError(t, r.feed(after, 7))
				if settled {
					require.NoError(t, r.settle())
				} else {
					pass(100 * time.Millisecond)
				}
				r.end() // anything unanswered by now is lost
				written, inKafka := r.producer.Written(), r.inKafka()

				r.written = written
				r.begin()
				skipped, beginning := 0, r.stream
				for _, e := range beginning {
					result, err := r.append(e)
					require.NoError(t, err)
					if result == Skipped {
						skipped++
						part := written[orders][partitionFor(string(e.Attribute(decoder.AggregateID)), 3)]
						require.LessOrEqual(t, e.Position.Compare(part), 0)
					}
				}
				r.next = len(r.stream)
				require.NoError(t, r.feed(20, 7))
				require.NoError(t, r.settle())
				if settled {
					assert.Equal(t, after, skipped)
					r.requireComplete()
					r.requirePrefixes()
				} else {
					assert.Equal(t, len(r.stream)+inKafka-skipped, r.inKafka(), "repeats only what was written and not acknowledged")
				}
			})
		}
	}
}

// What a producer learned about topics that it never touched is still known to
// the next producer.
func TestWrittenSurvivesAnIdleSuccessor(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newOrdersRig(t, 1, 1)
		require.NoError(t, r.feed(10, 1))
		require.NoError(t, r.settle())
		r.end()
		want := r.producer.Written()
		require.Equal(t, commitOf(9), want[orders][0].Commit)
		for range 2 { // sessions that end before the first event
			r.written = r.producer.Written()
			r.begin()
			r.end()
		}
		assert.Equal(t, want, r.producer.Written())
	})
}

func TestProducerSelfClocking(t *testing.T) {
	t.Parallel()
	inBubble(t, "one event on an idle broker leaves at once", func(t *testing.T) {
		m := newOrders(1, 1)
		m.Latency = func(int) time.Duration { return 5 * time.Millisecond }
		r := newRig(t, m, someConfig())
		require.NoError(t, r.feed(1, 1))
		require.NoError(t, r.settle())
		for i := range 20 {
			pass(time.Second)
			start, before := time.Now(), m.Sent()
			require.NoError(t, r.feed(1, 1))
			r.producer.Flush(false)
			for !r.tracker.Idle() {
				require.NoError(t, r.await())
			}
			assert.Equal(t, 5*time.Millisecond, time.Since(start), "event %d", i)
			assert.Equal(t, before+1, m.Sent())
		}
	})
	inBubble(t, "under load batches grow", func(t *testing.T) {
		m := newOrders(1, 1)
		m.Latency = func(int) time.Duration { return 100 * time.Millisecond }
		config := someConfig()
		config.MaxBatchBytes, config.MaxInFlightBytes = 1<<20, 8<<20
		r := newRig(t, m, config)
		require.NoError(t, r.feed(1, 1))
		require.NoError(t, r.settle())
		before := m.Sent()
		for range 1000 { // one per millisecond for a second
			require.NoError(t, r.feed(1, 1))
			r.producer.Flush(false)
			pass(time.Millisecond)
		}
		require.NoError(t, r.settle())
		assert.InDelta(t, 11, m.Sent()-before, 2, "requests for 1000 events at 10 round trips a second")
		r.requireComplete()
		r.requirePrefixes()
	})
	inBubble(t, "while the stream flows, a request is worth its cost", func(t *testing.T) {
		m := newOrders(1, 10)
		config := someConfig()
		config.MaxBatchBytes, config.MaxInFlightBytes = 1<<20, 8<<20
		r := newRig(t, m, config)
		require.NoError(t, r.feed(100, 100))
		require.NoError(t, r.settle())
		before := m.Sent()
		for r.producer.opened < worthwhile {
			require.True(t, r.producer.opened == 0 || r.producer.Flush(true), "held")
			require.NoError(t, r.feed(1, 100))
		}
		pass(time.Second)
		assert.Equal(t, before, m.Sent())
		assert.False(t, r.producer.Flush(true))
		pass(time.Second)
		assert.Equal(t, before+1, m.Sent())
		require.NoError(t, r.collect())
		require.NoError(t, r.feed(1, 1))
		assert.True(t, r.producer.Flush(true))
		assert.False(t, r.producer.Flush(false), "the stream has stopped flowing")
		pass(time.Second)
		assert.Equal(t, before+2, m.Sent())
		require.NoError(t, r.settle())
		r.requireComplete()
		r.requirePrefixes()
	})
	inBubble(t, "linger holds a batch back", func(t *testing.T) {
		m := newOrders(1, 1)
		config := someConfig()
		config.Linger = 50 * time.Millisecond
		r := newRig(t, m, config)
		require.NoError(t, r.feed(1, 1))
		require.NoError(t, r.settle())
		before := m.Sent()
		require.NoError(t, r.feed(1, 1))
		pass(40 * time.Millisecond)
		r.producer.Flush(false)
		pass(9 * time.Millisecond)
		assert.Equal(t, before, m.Sent())
		pass(time.Millisecond)
		r.producer.Flush(false)
		pass(time.Millisecond)
		assert.Equal(t, before+1, m.Sent())
		r.requireComplete()
	})
}

// Batches of many partitions grow beyond an equal share of the memory in flight,
// because not all are sealed at once.
func TestProducerSealsTheOldestFirst(t *testing.T) {
	t.Parallel()
	const partitions = 200
	manyRig := func(t *testing.T) (*rig, *observed) {
		t.Helper()
		m := newOrders(1, partitions)
		m.Latency = func(int) time.Duration { return 50 * time.Millisecond }
		config := someConfig()
		config.MaxBatchBytes, config.MaxInFlightBytes = 1<<20, 4<<20
		r, o := newRig(t, m, config), &observed{}
		require.NoError(t, r.feed(2000, 2000)) // every partition remembers the producer
		require.NoError(t, r.settle())
		r.producer.observe = o
		return r, o
	}
	inBubble(t, "when a broker is idle", func(t *testing.T) {
		r, _ := manyRig(t)
		for r.producer.opened < 5*worthwhile/2 {
			require.NoError(t, r.feed(1, 2000))
		}
		order := slices.Clone(r.producer.open)
		r.producer.Flush(true)
		left := r.producer.open
		assert.Equal(t, order[len(order)-len(left):], left)
		assert.InDelta(t, worthwhile, r.producer.inFlight-r.producer.opened, worthwhile/50)
		require.NoError(t, r.settle())
		r.requireComplete()
		r.requirePrefixes()
	})
	inBubble(t, "when memory is full", func(t *testing.T) {
		r, o := manyRig(t)
		require.NoError(t, r.feed(40_000, 2000))
		share := float64(r.config.MaxInFlightBytes) / partitions
		assert.Greater(t, float64(o.bytes)/float64(o.batches), 1.2*share, "bytes of a batch")
		require.NoError(t, r.settle())
		r.requireComplete()
		r.requirePrefixes()
	})
}

func TestProducerBoundsMemory(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newOrders(1, 5)
		config := someConfig()
		r := newRig(t, m, config)
		require.NoError(t, r.feed(1, 1))
		require.NoError(t, r.settle())
		m.Lock()
		for _, p := range m.Topics[orders].Partitions {
			p.SetLeader(-1) // an outage
		}
		m.Unlock()
		blocked, n := false, 1
		for ; n < 10_000; n++ {
			result, err := r.producer.Append(numbered(n, "order", fmt.Sprintf("key-%d", n%20)))
			require.NoError(t, err)
			if blocked = result == Blocked; blocked {
				break
			}
		}
		require.True(t, blocked)
		assert.Greater(t, r.producer.InFlight(), config.MaxInFlightBytes*3/4)
		assert.LessOrEqual(t, r.producer.InFlight(), config.MaxInFlightBytes+4<<10)
		pass(time.Minute)
		result, err := r.producer.Append(numbered(n, "order", "k"))
		require.NoError(t, err)
		assert.Equal(t, Blocked, result, "the outage lasts")
		assert.Contains(t, r.producer.Waiting(), "leader")
		m.Lock()
		for _, p := range m.Topics[orders].Partitions {
			p.SetLeader(0)
		}
		m.Unlock()
		for i := 1; i < n; i++ {
			r.stream = append(r.stream, numbered(i, "order", fmt.Sprintf("key-%d", i%20)))
		}
		r.tracker.Mark(commitOf(n - 1))
		r.next = n
		require.NoError(t, r.feed(100, 20))
		r.requireComplete()
		r.requirePrefixes()
		kept := 0
		for _, b := range r.producer.free {
			kept += b.retained()
			assert.Zero(t, b.count())
			assert.Nil(t, b.partition)
			assert.Nil(t, b.body)
		}
		assert.Equal(t, kept, r.producer.freeSize)
		assert.LessOrEqual(t, kept, config.MaxInFlightBytes/2)
		assert.Positive(t, r.producer.memory.kept)
		assert.LessOrEqual(t, r.producer.memory.kept, config.MaxInFlightBytes)
	})
}

// A compression failure is not a broker problem: it ends production and says
// so.
func TestProducerThatCannotCompress(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newOrders(1, 1)
		config := someConfig()
		config.Compression, config.CompressionLevel = "gzip", 99
		r := newRig(t, m, config)
		err := r.feed(1, 1)
		if err == nil {
			err = r.settle()
		}
		require.ErrorContains(t, err, "compress record batch with gzip")
		assert.Zero(t, m.Sent())
	})
}

// Growth moves keys: no event of a key goes to the new partition before all its
// events in the old partition are acknowledged.
func TestProducerGrowth(t *testing.T) {
	t.Parallel()
	for _, latency := range []time.Duration{time.Millisecond, 200 * time.Millisecond, 3 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			m := newModel(2)
			topic := m.Topic(orders, 2)
			// The old partitions answer slowly, the new ones at once.
			m.Latency = func(node int) time.Duration { return latency * time.Duration(1-node) }
			r := newRig(t, m, someConfig())
			require.NoError(t, r.feed(100, 13))
			m.Lock()
			m.GrowLocked(topic, 5)
			m.Unlock()
			for range 200 {
				require.NoError(t, r.feed(5, 13))
				pass(500 * time.Millisecond)
			}
			r.requireComplete()
			used := 0
			for _, p := range topic.Partitions[2:] {
				used += len(p.Log)
			}
			assert.Positive(t, used, "the new partitions are used")
		})
	}
	inBubble(t, "may be refused", func(t *testing.T) {
		m := newModel(1)
		topic := m.Topic(orders, 2)
		config := someConfig()
		config.StopOnGrowth = true
		r := newRig(t, m, config)
		require.NoError(t, r.feed(50, 13))
		m.Lock()
		m.GrowLocked(topic, 1)
		m.Unlock()
		pass(time.Minute)
		err := r.feed(1, 13)
		require.ErrorContains(t, err, "from 2 to 3 partitions")
		require.Equal(t, failure.Refused, failure.ClassOf(err))
		r.stream = r.stream[:50]
		r.requireOrder()
		assert.Empty(t, topic.Partitions[2].Log)
	})
}

func TestProducerMissingTopic(t *testing.T) {
	t.Parallel()
	inBubble(t, "appears within the grace", func(t *testing.T) {
		m := newModel(1)
		r := newRig(t, m, someConfig())
		time.AfterFunc(50*time.Second, func() {
			m.Lock()
			defer m.Unlock()
			m.Topic(orders, 2)
		})
		require.NoError(t, r.feed(30, 3))
		r.requireComplete()
	})
	inBubble(t, "stays away", func(t *testing.T) {
		r := newRig(t, newModel(1), someConfig())
		start := time.Now()
		err := r.feed(1, 1)
		require.Equal(t, failure.Refused, failure.ClassOf(err))
		require.ErrorContains(t, err, orders)
		require.Contains(t, failure.Fix(err), "kafka.topics.create")
		assert.WithinDuration(t, start.Add(time.Minute), time.Now(), 20*time.Second)
	})
	inBubble(t, "is forbidden", func(t *testing.T) {
		m := newModel(1)
		m.RefreshFault = func(string) error { return sarama.ErrTopicAuthorizationFailed }
		err := newRig(t, m, someConfig()).feed(1, 1)
		require.Equal(t, failure.Refused, failure.ClassOf(err))
		require.Contains(t, failure.Fix(err), "principal Describe and Write")
	})
	inBubble(t, "is created", func(t *testing.T) {
		m := newModel(1)
		m.CreatePartitions = 3
		r := newRig(t, m, someConfig())
		require.NoError(t, r.feed(30, 3))
		r.requireComplete()
		r.requirePrefixes()
		assert.Equal(t, 1, m.Created)
	})
	inBubble(t, "is created at the second attempt", func(t *testing.T) {
		m := newModel(1)
		m.CreatePartitions = 3
		m.CreateFault = func(string) error {
			if m.Created == 1 {
				return sarama.ErrRequestTimedOut // the controller was just moving
			}
			return nil
		}
		r := newRig(t, m, someConfig())
		require.NoError(t, r.feed(30, 3))
		r.requireComplete()
	})
	inBubble(t, "may not be created by this principal", func(t *testing.T) {
		m := newModel(1)
		m.CreateFault = func(string) error { return fmt.Errorf("create topic: %w", sarama.ErrTopicAuthorizationFailed) }
		err := newRig(t, m, someConfig()).feed(1, 1)
		require.Equal(t, failure.Refused, failure.ClassOf(err))
		require.ErrorContains(t, err, `outbox row "event-0" at `)
		assert.Equal(t, 1, strings.Count(failure.Fix(err), "grant"), failure.Fix(err))
		assert.Contains(t, failure.Fix(err), "principal Create on topic")
	})
	inBubble(t, "may not be created, appears, and goes", func(t *testing.T) {
		m := newModel(1)
		m.CreateFault = func(string) error { return fmt.Errorf("create topic: %w", sarama.ErrTopicAuthorizationFailed) }
		r := newRig(t, m, someConfig())
		time.AfterFunc(30*time.Second, func() {
			m.Lock()
			defer m.Unlock()
			m.Topic(orders, 1)
		})
		require.NoError(t, r.feed(10, 3))
		r.requireComplete()
		m.Lock()
		delete(m.Topics, orders)
		m.Unlock()
		err := r.feed(10, 3)
		if err == nil {
			err = r.settle()
		}
		require.Contains(t, failure.Fix(err), "create it with `streamer setup --topic outbox.event.order`", "the reason is another one now")
	})
	inBubble(t, "may not be created by a policy", func(t *testing.T) {
		m := newModel(1)
		m.CreateFault = func(string) error { return fmt.Errorf("no such names: %w", sarama.ErrPolicyViolation) }
		start := time.Now()
		err := newRig(t, m, someConfig()).feed(1, 1)
		require.Equal(t, failure.Refused, failure.ClassOf(err))
		require.ErrorContains(t, err, "no such names")
		require.ErrorContains(t, err, `outbox row "event-0" at `)
		assert.WithinDuration(t, start, time.Now(), 20*time.Second, "there is nothing to wait for")
	})
	inBubble(t, "metadata is out for a while", func(t *testing.T) {
		m := newOrders(1, 2)
		start := time.Now()
		m.RefreshFault = func(string) error {
			if time.Since(start) < 10*time.Minute {
				return sarama.ErrOutOfBrokers
			}
			return nil
		}
		r := newRig(t, m, someConfig())
		require.NoError(t, r.feed(30, 3))
		r.requireComplete()
	})
}

// Where the producer turns out to be unable to keep others out, only a new
// session can go on: it decides whether that is needed.
func TestProducerWithoutTransactions(t *testing.T) {
	t.Parallel()
	for name, cause := range map[string]error{
		"no such request": fmt.Errorf("%w: %w", kafka.ErrUnsupported, sarama.ErrUnsupportedVersion),
		"not allowed":     fmt.Errorf("%w: %w", kafka.ErrNoTransactions, sarama.ErrTransactionalIDAuthorizationFailed),
	} {
		for _, grows := range []bool{false, true} {
			inBubble(t, fmt.Sprintf("%s, growth: %t", name, grows), func(t *testing.T) {
				a := &admitting{modelled: newOrders(1, 1)}
				r := begun(t, a, Found{})
				if grows {
					require.NoError(t, r.feed(5, 1))
					require.NoError(t, r.settle())
				}
				a.guard.Lock()
				a.deny = cause
				a.guard.Unlock()
				a.Lock()
				a.GrowLocked(a.Topics[orders], 2)
				a.Unlock()
				err := r.feed(1, 1)
				if err == nil {
					pass(time.Minute)
					err = r.producer.Err()
				}
				require.ErrorIs(t, err, cause)
				assert.Equal(t, failure.Transient, failure.ClassOf(err))
			})
		}
	}
}

// A partition without a leader and a missing topic are looked up less and less
// often.
func TestProducerAsksLessAndLess(t *testing.T) {
	t.Parallel()
	for name, trouble := range map[string]func(m *modelled){
		"no leader": func(m *modelled) { m.Topic(orders, 1).Partitions[0].SetLeader(-1) },
		"no topic":  func(*modelled) {},
	} {
		inBubble(t, name, func(t *testing.T) {
			m := newModel(1)
			trouble(m)
			asked := 0
			m.RefreshFault = func(string) error { asked++; return nil }
			config := someConfig()
			config.UnknownGrace = time.Hour
			r := newRig(t, m, config)
			_, err := r.producer.Append(numbered(0, "order", "k"))
			require.NoError(t, err)
			r.producer.Stored(r.producer.Marks(0))
			pass(10 * time.Minute)
			require.NoError(t, r.producer.Collect())
			m.Lock()
			defer m.Unlock()
			assert.Positive(t, asked)
			assert.Less(t, asked, 300, "requests in 10 minutes, with pauses of up to 5 s")
		})
	}
}

// While no broker can be reached, brokers are asked as often for many partitions
// as for one: each attempt costs them a connection, and a login.
func TestProducerAsksForAllAtOnce(t *testing.T) {
	t.Parallel()
	for name, size := range map[string]struct{ topics, partitions int }{
		"one partition": {1, 1}, "many partitions": {1, 30}, "many topics": {30, 1},
	} {
		inBubble(t, name, func(t *testing.T) {
			m := newModel(1)
			r := newRig(t, m, someConfig())
			for i := range size.topics {
				aggregateType := fmt.Sprint("type", i)
				m.Topic("outbox.event."+aggregateType, size.partitions)
				_, err := r.append(numbered(i, aggregateType, "k"))
				require.NoError(t, err)
				require.NoError(t, r.settle())
			}
			asked, away := 0, true
			m.Lock()
			m.RefreshFault = func(string) error {
				asked++
				if away {
					return fmt.Errorf("%w: connection refused", sarama.ErrOutOfBrokers)
				}
				return nil
			}
			id := partitionFor("k", size.partitions)
			m.Faults[model.At("outbox.event.type0", int32(id), 1)] = model.Fault{Kind: model.CutBefore}
			m.Unlock()
			_, err := r.append(numbered(size.topics, "type0", "k"))
			require.NoError(t, err)
			r.producer.Seal()
			pass(10 * time.Minute)
			m.Lock()
			assert.Greater(t, asked, 600/8, "as soon as the pauses allow")
			assert.Less(t, asked, 300, "requests in 10 minutes, with pauses of up to 5 s")
			away = false
			m.Unlock()
			began := time.Now()
			require.NoError(t, r.settle())
			assert.Less(t, time.Since(began), 8*time.Second, "one pause at most")
		})
	}
}

// A topic that is deleted while the producer uses it is refused after the
// grace.
func TestProducerTopicDeleted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newOrdersRig(t, 1, 1)
		require.NoError(t, r.feed(30, 3))
		require.NoError(t, r.settle())
		r.model.Lock()
		delete(r.model.Topics, orders)
		r.model.Unlock()
		err := r.feed(10, 3)
		if err == nil {
			err = r.settle()
		}
		require.Equal(t, failure.Refused, failure.ClassOf(err))
		require.Contains(t, failure.Fix(err), "create it with `streamer setup --topic outbox.event.order`")
	})
}

// A poison row is refused before it gets into a batch.
func TestAppendPoison(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newOrders(1, 1)
		rules := someRules()
		rules.MaxRecordBytes = 1000
		r := newRigWith(t, m, someConfig(), rules)
		require.NoError(t, r.feed(1, 1))
		require.NoError(t, r.settle())
		for name, spoil := range map[string]func(*decoder.Event){
			"too large":       func(e *decoder.Event) { e.Data = make([]byte, 1001) },
			"topic":           func(e *decoder.Event) { e.SetAttribute(decoder.AggregateType, []byte("no topic!")) },
			"no aggregate id": func(e *decoder.Event) { e.SetAttribute(decoder.AggregateID, nil) },
			"empty JSON":      func(e *decoder.Event) { e.Data = []byte{} },
			"media type":      func(e *decoder.Event) { e.SetAttribute(decoder.DataContentType, []byte("json")) },
		} {
			e := numbered(7, "order", "k")
			spoil(e)
			_, err := r.producer.Append(e)
			p, ok := errors.AsType[*PoisonError](err)
			require.True(t, ok, name)
			assert.Equal(t, e.Position, p.Position, name)
			assert.Equal(t, "event-7", p.EventID, name)
			assert.Zero(t, r.producer.Events(), name)
			assert.Zero(t, r.producer.InFlight(), name)
			assert.True(t, r.tracker.Idle(), name)
		}
		r.next = 8
		r.stream = r.stream[:1]
		require.NoError(t, r.feed(20, 1))
		r.requireComplete()
	})
}

func TestProducerWrite(t *testing.T) {
	t.Parallel()
	inBubble(t, "alongside events, with faults", func(t *testing.T) {
		m := newOrders(2, 2)
		m.Topic(checkpoints, 1)
		for arrival := 0; arrival < 40; arrival += 3 {
			m.Faults[model.At(checkpoints, 0, arrival)] = model.Fault{
				Kind: []model.Kind{model.CutAfter, model.Move, model.CutBefore, model.ErrorAfter, model.Leaderless}[arrival%5],
				Code: sarama.ErrRequestTimedOut,
			}
		}
		r := newRig(t, m, someConfig())
		var writing sync.WaitGroup
		writing.Go(func() {
			for i := range 30 {
				//nolint:testifylint // require belongs to the goroutine of the test
				assert.NoError(t, r.producer.Write(t.Context(), checkpoints, 0, []byte("slot"), fmt.Append(nil, i)))
				pass(100 * time.Millisecond)
			}
		})
		for range 100 {
			require.NoError(t, r.feed(3, 5))
			pass(50 * time.Millisecond)
		}
		writing.Wait()
		require.NoError(t, r.settle())
		log := m.Topics[checkpoints].Partitions[0].Log
		require.Len(t, log, 30)
		for i, record := range log {
			assert.Equal(t, routed{key: "slot", value: strconv.Itoa(i)}, routedAs(record))
		}
		m.Topics[checkpoints].Partitions[0].Log = nil
		r.requireComplete()
		r.requirePrefixes()
	})
	inBubble(t, "from several goroutines", func(t *testing.T) {
		m := newModel(1)
		m.Topic(checkpoints, 1)
		r := newRig(t, m, someConfig())
		var writing sync.WaitGroup
		for i := range 20 {
			writing.Go(func() {
				assert.NoError(t, r.producer.Write(t.Context(), checkpoints, 0, []byte("slot"), fmt.Append(nil, i)))
			})
		}
		writing.Wait()
		require.Len(t, m.Topics[checkpoints].Partitions[0].Log, 20)
	})
	inBubble(t, "is given up alone", func(t *testing.T) {
		m := newOrders(1, 1)
		m.Topic(checkpoints, 1)
		m.Faults[model.At(checkpoints, 0, 0)] = model.Fail(model.ErrorBefore, sarama.ErrInvalidRecord)
		r := newRig(t, m, someConfig())
		err := r.producer.Write(t.Context(), checkpoints, 0, nil, []byte("x"))
		require.ErrorIs(t, err, sarama.ErrInvalidRecord)
		require.Equal(t, failure.Refused, failure.ClassOf(err))
		require.NoError(t, r.producer.Err())
		require.NoError(t, r.producer.Write(t.Context(), checkpoints, 0, nil, []byte("y")), "the next write leaves no gap")
		require.Len(t, m.Topics[checkpoints].Partitions[0].Log, 1)
		m.Topics[checkpoints].Partitions[0].Log = nil
		require.NoError(t, r.feed(10, 1))
		r.requireComplete()
	})
	inBubble(t, "a lost sequence ends production", func(t *testing.T) {
		m := newModel(1)
		m.Topic(checkpoints, 1)
		m.Faults[model.At(checkpoints, 0, 0)] = model.Fail(model.ErrorBefore, sarama.ErrOutOfOrderSequenceNumber)
		r := newRig(t, m, someConfig())
		require.ErrorIs(t, r.producer.Write(t.Context(), checkpoints, 0, nil, []byte("x")), ErrSequenceLost)
		require.ErrorIs(t, r.producer.Err(), ErrSequenceLost)
	})
	inBubble(t, "ends with its context", func(t *testing.T) {
		r := newRig(t, newModel(1), someConfig())
		ctx, cancel := context.WithTimeoutCause(t.Context(), 5*time.Second, errors.New("too late"))
		defer cancel()
		require.EqualError(t, r.producer.Write(ctx, checkpoints, 0, nil, nil), "too late")
	})
	inBubble(t, "ends with the producer", func(t *testing.T) {
		r := newRig(t, newModel(1), someConfig())
		time.AfterFunc(time.Second, r.producer.Close)
		require.ErrorIs(t, r.producer.Write(t.Context(), checkpoints, 0, nil, nil), errClosed)
		require.ErrorIs(t, r.producer.Write(t.Context(), checkpoints, 0, nil, nil), errClosed)
		r.producer.Close() // twice is fine
	})
}

// Any goroutine may call these while the reading goroutine works.
func TestProducerIsAskedFromOutside(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newOrders(2, 3)
		for arrival := range 40 {
			m.Faults[model.At(orders, int32(arrival%3), arrival)] = model.Fault{Kind: model.Leaderless}
		}
		r := newRig(t, m, someConfig())
		stopped, stop := context.WithCancel(t.Context())
		var asking sync.WaitGroup
		asking.Go(func() {
			for stopped.Err() == nil {
				_ = r.producer.Err()
				_ = r.producer.Written()
				_ = r.producer.Waiting()
				_ = r.producer.Ready()
				pass(100 * time.Millisecond)
			}
		})
		require.NoError(t, r.feed(300, 7))
		r.requireComplete()
		stop()
		asking.Wait()
	})
}

// A partition that loses its leader while it waits in its broker's list comes
// back. It must not be in the list twice: two batches of one partition in one
// request overwrite each other.
func TestPartitionIsScheduledOnce(t *testing.T) {
	t.Parallel()
	p := &Producer{
		config: someConfig(), lookups: map[*partition]struct{}{}, metadata: make(chan struct{}, 1),
		brokers: map[kafka.Connection]*broker{}, notify: func() {},
	}
	b := &broker{producer: p, wake: make(chan struct{}, 1)}
	t1 := &topic{name: orders}
	full := func(id int32) *partition {
		part := &partition{topic: t1, id: id, broker: b, lastAck: time.Now()}
		for range 4 {
			batch := newBatch()
			batch.partition, batch.size = part, maxRequestBytes
			encodeInto(t, encoderFor(t, someRules()), batch, numbered(1, "order", "k"))
			part.enqueue(batch)
		}
		return part
	}
	parts := []*partition{full(0), full(1)}
	for _, part := range parts {
		p.scheduleLocked(part)
	}
	for _, part := range parts {
		for _, batch := range part.queue {
			batch.size = maxRequestBytes
		}
	}
	r := b.assembleLocked()
	require.Len(t, r.batches, 1, "the other batch does not fit")
	waiting := b.partitions[0]
	p.detachLocked(waiting)
	other := &broker{producer: p, wake: make(chan struct{}, 1)}
	for _, next := range []*broker{other, b} {
		delete(p.lookups, waiting)
		waiting.broker = next
		p.scheduleLocked(waiting)
		b.assembleLocked()
		p.scheduleLocked(waiting)
		for _, of := range []*broker{b, other} {
			seen := map[*partition]int{}
			for _, part := range of.partitions {
				if part.broker == of {
					seen[part]++
				}
			}
			assert.LessOrEqual(t, seen[waiting], 1, "in the list of one broker")
		}
		p.detachLocked(waiting)
	}
}

// Close in the middle of everything leaves no goroutine behind. The bubble
// would report one.
func TestProducerClose(t *testing.T) {
	t.Parallel()
	for _, kind := range []model.Kind{model.NoFault, model.Stall, model.Leaderless, model.CutAfter, model.Slow} {
		for _, after := range []time.Duration{0, time.Millisecond, 150 * time.Millisecond, 10 * time.Second} {
			synctest.Test(t, func(t *testing.T) {
				m := newOrders(2, 2)
				for arrival := 2; arrival < 20; arrival++ {
					m.Faults[model.At(orders, 0, arrival)] = model.Fault{Kind: kind}
				}
				config := someConfig()
				config.MaxInFlightBytes = 1 << 20
				r := newRig(t, m, config)
				require.NoError(t, r.feed(100, 5))
				pass(after)
				r.end()
				require.ErrorIs(t, r.producer.Err(), errClosed)
				r.requirePrefixes()
				r.requireOrder()
			})
		}
	}
}

// observed counts the calls of the observer.
type observed struct {
	events, batches, bytes int
	oldest                 time.Time
	failed                 atomic.Int32
}

func (o *observed) Failed(topic string) {
	if topic == orders {
		o.failed.Add(1)
	}
}

func (o *observed) Published(p Publication) {
	if p.Topic != orders || p.Bytes <= 0 {
		return
	}
	o.events += p.Events
	o.batches++
	o.bytes += p.Bytes
	if o.oldest.IsZero() {
		o.oldest = p.OldestCommit
	}
}

// The end of an idle connection is no error, and costs no pause. That of the
// new connection, or of one that is in use, is an error.
func TestProducerOnIdleConnections(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		idle  time.Duration
		kinds []model.Kind // of what happens to the next requests
		want  int32        // errors
	}{
		"idle for an hour":             {time.Hour, []model.Kind{model.CutBefore}, 0},
		"idle, and the answer is lost": {time.Hour, []model.Kind{model.CutAfter}, 0},
		"idle for a second":            {time.Second, []model.Kind{model.CutBefore}, 1},
		"the new connection as well":   {time.Hour, []model.Kind{model.CutBefore, model.CutBefore}, 1},
		"later":                        {time.Hour, []model.Kind{model.NoFault, model.CutBefore}, 1},
		"a broker that refuses":        {time.Hour, []model.Kind{model.ErrorBefore}, 1},
	} {
		inBubble(t, name, func(t *testing.T) {
			m := newOrders(1, 1)
			r := newRig(t, m, someConfig())
			o := &observed{}
			r.producer.observe = o
			for range 2 { // the second time is like the first
				require.NoError(t, r.feed(5, 1))
				require.NoError(t, r.settle())
				pass(c.idle)
				o.failed.Store(0)
				m.Lock()
				next := m.Topics[orders].Partitions[0].Arrivals
				for i, kind := range c.kinds {
					m.Faults[model.At(orders, 0, next+i)] = model.Fail(kind, sarama.ErrNotEnoughReplicas)
				}
				m.Unlock()
				began := time.Now()
				for range c.kinds {
					require.NoError(t, r.feed(1, 1))
					require.NoError(t, r.settle())
				}
				assert.Equal(t, c.want, o.failed.Load())
				if c.want == 0 {
					assert.Less(t, time.Since(began), someConfig().RetryInitial/2)
				}
			}
			r.requireComplete()
		})
	}
}

func TestProducerObserver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newOrders(1, 1)
		m.MaxRecords = 2
		r := newRig(t, m, someConfig())
		o := &observed{}
		r.producer.observe = o
		require.NoError(t, r.feed(100, 5))
		r.requireComplete()
		assert.Equal(t, 100, o.events)
		assert.Equal(t, time.UnixMicro(r.stream[0].CommitTime), o.oldest)
		assert.Zero(t, o.failed.Load())
		m.Lock()
		m.Faults[model.At(orders, 0, m.Topics[orders].Partitions[0].Arrivals)] = model.Fail(model.ErrorBefore, sarama.ErrNotEnoughReplicas)
		m.Unlock()
		require.NoError(t, r.feed(1, 1))
		require.NoError(t, r.settle())
		assert.EqualValues(t, 1, o.failed.Load())
	})
}

// The oldest event in flight is known wherever it is: in an open batch, waiting
// or sent.
func TestProducerOldest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newOrders(1, 2)
		m.Latency = func(int) time.Duration { return time.Second }
		r := newRig(t, m, someConfig())
		_, inFlight := r.producer.Oldest()
		assert.False(t, inFlight)
		require.NoError(t, r.feed(1, 1)) // must wait for the topic
		require.NoError(t, r.settle())
		_, inFlight = r.producer.Oldest()
		assert.False(t, inFlight)

		require.NoError(t, r.feed(3, 3))
		first := time.UnixMicro(r.stream[1].CommitTime)
		expect := func(where string) {
			oldest, inFlight := r.producer.Oldest()
			assert.True(t, inFlight, where)
			assert.Equal(t, first, oldest, where)
		}
		expect("open")
		r.producer.Seal()
		expect("waiting")
		pass(500 * time.Millisecond)
		require.NoError(t, r.feed(3, 3))
		expect("sent, and younger ones open")
		require.NoError(t, r.settle())
		_, inFlight = r.producer.Oldest()
		assert.False(t, inFlight)
	})
}
