package kafka

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/internal/kafkatest"
	"github.com/outboxstream/streamer/internal/kafkatest/fake"
	"github.com/outboxstream/streamer/internal/kafkatest/model"
	"github.com/outboxstream/streamer/internal/testserver"
)

// takeOver is a new instance's first step, on its own connection.
func takeOver(t testing.TB, brokers []string, transactionalID string) *Owner {
	t.Helper()
	client, err := Connect(clientConfig(brokers))
	require.NoError(t, err)
	t.Cleanup(client.Close)
	o, err := client.TakeOver(t.Context(), transactionalID)
	require.NoError(t, err)
	require.True(t, o.Fences())
	return o
}

// partitionsOf names the first n partitions of a topic.
func partitionsOf(topic string, n int) map[string][]int32 {
	ids := make([]int32, n)
	for i := range ids {
		ids[i] = int32(i)
	}
	return map[string][]int32{topic: ids}
}

// appended returns the broker's answer to one batch of one record, as the
// owner's next with this sequence number. A new leader needs a moment to know
// that it leads.
func (o *Owner) appended(topic string, partition, sequence int32) error {
	for deadline := time.Now().Add(30 * time.Second); ; {
		err := o.tryAppend(topic, partition, sequence)
		if !errors.Is(err, sarama.ErrNotLeaderForPartition) || time.Now().After(deadline) {
			return err
		}
		_ = o.client.RefreshMetadata(topic)
	}
}

func (o *Owner) tryAppend(topic string, partition, sequence int32) error {
	leader, err := o.client.Leader(topic, partition)
	if err != nil {
		return err
	}
	now := time.Now()
	request := &sarama.ProduceRequest{RequiredAcks: sarama.WaitForAll, Timeout: 5000, Version: 8}
	request.AddBatch(topic, partition, &sarama.RecordBatch{
		Version: 2, ProducerID: o.id, ProducerEpoch: o.epoch, FirstSequence: sequence, FirstTimestamp: now, MaxTimestamp: now,
		Records: []*sarama.Record{{Value: []byte("x")}},
	})
	response, err := leader.Produce(request)
	if err != nil {
		return err
	}
	block := response.GetBlock(topic, partition)
	switch {
	case block == nil:
		return sarama.ErrIncompleteResponse
	case block.Err != sarama.ErrNoError:
		return block.Err
	}
	return nil
}

func endsOf(t testing.TB, c *Client, topic string, partitions int) []int64 {
	t.Helper()
	ends := make([]int64, partitions)
	parts := make([]TopicPartition, partitions)
	for id := range parts {
		parts[id] = TopicPartition{topic, int32(id)}
	}
	found, err := c.Offsets(t.Context(), parts, sarama.OffsetNewest)
	require.NoError(t, err)
	for id, part := range parts {
		ends[id] = found[part]
	}
	return ends
}

func TestFence(t *testing.T) {
	t.Parallel()
	testFence(t, kafkatest.Shared(t))
}

func testFence(t *testing.T, cluster *kafkatest.Cluster) {
	t.Helper()
	const partitions = 6
	topic, id := cluster.NewTopic(t, partitions, nil), kafkatest.TopicName(t)
	old := takeOver(t, cluster.Brokers(), id)
	require.NoError(t, old.Fence(t.Context(), partitionsOf(topic, partitions)))
	for p := range int32(partitions / 2) {
		require.NoError(t, old.appended(topic, p, 0))
	}

	successor := takeOver(t, cluster.Brokers(), id)
	oldID, oldEpoch := old.ID()
	newID, newEpoch := successor.ID()
	assert.Equal(t, oldID, newID)
	assert.Equal(t, oldEpoch+1, newEpoch)
	require.NoError(t, old.appended(topic, 0, 1), "taking over alone fences no partition")
	require.ErrorIs(t, old.Fence(t.Context(), partitionsOf(topic, partitions)), ErrFenced, "but the predecessor may no longer fence")

	require.NoError(t, successor.Fence(t.Context(), partitionsOf(topic, partitions)))
	for p := range int32(partitions) {
		next := int32(1)
		switch {
		case p == 0:
			next = 2
		case p >= partitions/2:
			next = 0 // it has never written there
		}
		require.ErrorIs(t, old.appended(topic, p, next), sarama.ErrInvalidProducerEpoch, "partition %d", p)
		require.NoError(t, successor.appended(topic, p, 0), "partition %d", p)
	}
}

// A fence takes effect at once for records on their way. The ends are read
// after the fence, and no record of a predecessor is found after them.
func TestFenceStopsWhatIsOnItsWay(t *testing.T) {
	t.Parallel()
	testFenceStopsWhatIsOnItsWay(t, kafkatest.Shared(t))
}

func testFenceStopsWhatIsOnItsWay(t *testing.T, cluster *kafkatest.Cluster) {
	t.Helper()
	const partitions, rounds = 4, 10
	topic, id := cluster.NewTopic(t, partitions, nil), kafkatest.TopicName(t)
	owner := takeOver(t, cluster.Brokers(), id)
	require.NoError(t, owner.Fence(t.Context(), partitionsOf(topic, partitions)))
	for round := range rounds {
		old, busy := owner, make(chan struct{}, partitions)
		var writers sync.WaitGroup
		for p := range int32(partitions) {
			writers.Go(func() {
				for sequence := int32(0); ; sequence++ {
					if err := old.appended(topic, p, sequence); err != nil {
						assert.ErrorIs(t, err, sarama.ErrInvalidProducerEpoch, "round %d partition %d", round, p)
						return
					}
					if sequence == 3 {
						busy <- struct{}{}
					}
				}
			})
		}
		for range partitions {
			<-busy
		}
		owner = takeOver(t, cluster.Brokers(), id)
		require.NoError(t, owner.Fence(t.Context(), partitionsOf(topic, partitions)))
		ends := endsOf(t, owner.Client, topic, partitions)
		writers.Wait()
		require.Equal(t, ends, endsOf(t, owner.Client, topic, partitions), "round %d", round)
	}
}

// An owner may repeat its fence while it writes, and continue.
func TestRenewWhileWriting(t *testing.T) {
	t.Parallel()
	testRenewWhileWriting(t, kafkatest.Shared(t))
}

func testRenewWhileWriting(t *testing.T, cluster *kafkatest.Cluster) {
	t.Helper()
	topic := cluster.NewTopic(t, 3, nil)
	o := takeOver(t, cluster.Brokers(), kafkatest.TopicName(t))
	require.NoError(t, o.Fence(t.Context(), partitionsOf(topic, 3)))
	for sequence := range int32(10) {
		for partition := range int32(3) {
			require.NoError(t, o.appended(topic, partition, sequence))
		}
		renewNow(t, o)
	}
	messages, err := cluster.Consume(t.Context(), topic)
	require.NoError(t, err)
	assert.Len(t, messages, 30)
}

// renewNow repeats the fence as if that were due.
func renewNow(t testing.TB, o *Owner) {
	t.Helper()
	o.mu.Lock()
	o.attempted = now().minus(o.interval)
	o.mu.Unlock()
	again, err := o.Renew()
	require.NoError(t, err)
	require.Equal(t, o.interval, again)
}

func TestRenewIsDue(t *testing.T) {
	t.Parallel()
	const topic = "orders"
	cluster := fake.Start(t, kfake.NumBrokers(1), kfake.SeedTopics(2, topic))
	added := cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.AddPartitionsToTxn}, Observe: true, Count: -1})
	o := takeOver(t, cluster.Brokers(), "slot")
	assert.Equal(t, 6*time.Hour, o.interval)
	assert.Equal(t, 12*time.Hour, o.lapse)
	assert.Equal(t, 24*time.Hour, o.Remembers())
	again, err := o.Renew()
	require.NoError(t, err)
	assert.Equal(t, longestFence, again, "nothing to fence")
	require.NoError(t, o.Lapsed())
	require.NoError(t, o.Fence(t.Context(), partitionsOf(topic, 2)))
	require.Equal(t, 1, added.Hits())

	again, err = o.Renew()
	require.NoError(t, err)
	assert.InDelta(t, 6*time.Hour, again, float64(5*time.Minute))
	require.Equal(t, 1, added.Hits(), "not due")

	o.fenced, o.attempted = now().minus(7*time.Hour), now().minus(6*time.Hour)
	again, err = o.Renew()
	require.NoError(t, err)
	assert.Equal(t, 6*time.Hour, again)
	require.Equal(t, 2, added.Hits(), "due")
	assert.Less(t, since(o.fenced), 5*time.Minute)

	fenced := now().minus(7 * time.Hour)
	o.fenced, o.attempted = fenced, now().minus(6*time.Hour)
	cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.AddPartitionsToTxn}, Err: kerr.TransactionalIDAuthorizationFailed})
	again, err = o.Renew()
	require.ErrorIs(t, err, sarama.ErrTransactionalIDAuthorizationFailed)
	assert.Equal(t, time.Minute, again)
	assert.Equal(t, fenced, o.fenced, "a failure does not count as a renewal")
	again, err = o.Renew()
	require.NoError(t, err)
	assert.Positive(t, again, "not before the pause has passed")

	for _, test := range []struct {
		age    time.Duration
		lapsed bool
	}{{12*time.Hour - time.Minute, false}, {12*time.Hour + time.Second, true}} {
		o.fenced = now().minus(test.age)
		if test.lapsed {
			require.ErrorIs(t, o.Lapsed(), ErrLapsed)
		} else {
			require.NoError(t, o.Lapsed())
		}
	}
}

// The partitions that a fence covers may change without its owner.
func TestRenewWhatIsLeft(t *testing.T) {
	t.Parallel()
	cluster := fake.Start(t, kfake.NumBrokers(1), kfake.SeedTopics(4, "stays", "goes", "shrinks"))
	o := takeOver(t, cluster.Brokers(), "slot")
	all := partitionsOf("stays", 4)
	all["goes"], all["shrinks"] = []int32{0, 1, 2, 3}, []int32{0, 1, 2, 3}
	require.NoError(t, o.Fence(t.Context(), all))
	require.NoError(t, cluster.DeleteTopic("goes"))
	require.NoError(t, cluster.DeleteTopic("shrinks"))
	require.NoError(t, cluster.CreateTopic("shrinks", 1, nil))
	renewNow(t, o)
	require.NoError(t, cluster.DeleteTopic("shrinks"))
	require.NoError(t, cluster.DeleteTopic("stays"))
	renewNow(t, o)
}

// Metadata names a new partition before its leader has it. No marker is sent
// before then.
func TestFenceWaitsForNewPartitions(t *testing.T) {
	t.Parallel()
	cluster := fake.Start(t, kfake.NumBrokers(1), kfake.SeedTopics(2, "new"))
	o := takeOver(t, cluster.Brokers(), "slot")
	var early atomic.Int32
	cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.ListOffsets}, Topic: "new", Err: kerr.UnknownTopicOrPartition, Count: 3})
	cluster.ControlKey(int16(kmsg.ListOffsets), func(kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		early.Add(1)
		return nil, nil, false
	})
	cluster.ControlKey(int16(kmsg.AddPartitionsToTxn), func(kmsg.Request) (kmsg.Response, error, bool) {
		assert.EqualValues(t, 4, early.Load(), "questions before the transaction")
		return nil, nil, false
	})
	require.NoError(t, o.Fence(t.Context(), partitionsOf("new", 2)))
	assert.EqualValues(t, 4, early.Load())
}

// An empty set of partitions makes no transaction.
func TestFenceNothing(t *testing.T) {
	t.Parallel()
	cluster := kafkatest.Shared(t)
	o := takeOver(t, cluster.Brokers(), kafkatest.TopicName(t))
	require.NoError(t, o.Fence(t.Context(), nil))
	require.NoError(t, o.Fence(t.Context(), map[string][]int32{"empty": {}}))
}

// Before Kafka 2.8, Write on a topic was not enough for a producer id without a
// transactional id.
func TestAnonymousOwnerWithoutPermission(t *testing.T) {
	t.Parallel()
	cluster := fake.Start(t, kfake.NumBrokers(1))
	cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.InitProducerID}, Err: kerr.ClusterAuthorizationFailed})
	_, err := connect(t, clientConfig(cluster.Brokers())).Anonymous(t.Context())
	require.ErrorIs(t, err, sarama.ErrClusterAuthorizationFailed)
	assert.Equal(t, failure.Refused, failure.ClassOf(err))
	assert.Contains(t, failure.Fix(err), "IdempotentWrite on the cluster")
}

func TestAnonymousOwner(t *testing.T) {
	t.Parallel()
	cluster := kafkatest.Shared(t)
	client := connect(t, clientConfig(cluster.Brokers()))
	var o *Owner
	require.Eventually(t, func() (ok bool) {
		var err error
		o, err = client.Anonymous(t.Context())
		return err == nil
	}, 30*time.Second, 50*time.Millisecond)
	assert.False(t, o.Fences())
	require.NoError(t, o.Fence(t.Context(), partitionsOf("there is no such topic", 3)))
	again, err := o.Renew()
	require.NoError(t, err)
	assert.Positive(t, again)
	require.NoError(t, o.Lapsed())

	topic := cluster.NewTopic(t, 2, nil)
	require.NoError(t, o.appended(topic, 1, 0))
	found, err := o.Admit(topic, 2)
	require.NoError(t, err)
	assert.NotEmpty(t, found.TopicID)
	assert.Equal(t, []int64{0, 1}, found.Ends)
}

func TestExhausted(t *testing.T) {
	t.Parallel()
	for epoch, exhausted := range map[int16]bool{0: false, 29_999: false, 30_000: true, math.MaxInt16: true} {
		assert.Equal(t, exhausted, (&Owner{epoch: epoch}).Exhausted(), "epoch %d", epoch)
	}
}

func TestChunks(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		sizes map[string]int
		want  []int // partitions in each chunk of at most 10
	}{
		{nil, nil},
		{map[string]int{"a": 0}, nil},
		{map[string]int{"a": 3}, []int{3}},
		{map[string]int{"a": 10}, []int{10}},
		{map[string]int{"a": 11}, []int{10, 1}},
		{map[string]int{"a": 7, "b": 7}, []int{10, 4}},
		{map[string]int{"a": 10, "b": 10, "c": 0, "d": 1}, []int{10, 10, 1}},
		{map[string]int{"a": 25, "b": 5}, []int{10, 10, 10}},
	} {
		partitions, seen := map[string][]int32{}, map[TopicPartition]int{}
		for topic, n := range test.sizes {
			partitions[topic] = partitionsOf(topic, n)[topic]
		}
		var sizes []int
		for _, chunk := range chunks(partitions, 10) {
			n := 0
			for topic, ids := range chunk {
				n += len(ids)
				for _, id := range ids {
					seen[TopicPartition{topic, id}]++
				}
			}
			sizes = append(sizes, n)
		}
		assert.Equal(t, test.want, sizes, "%v", test.sizes)
		for topic, ids := range partitions {
			for _, id := range ids {
				assert.Equal(t, 1, seen[TopicPartition{topic, id}], "%s %d of %v", topic, id, test.sizes)
			}
		}
	}
}

// Coordinators that are not ready are asked again. The fence holds afterwards.
func TestCoordinatorIsNotReady(t *testing.T) {
	t.Parallel()
	const topic = "orders"
	for name, fault := range map[string]kfake.Fault{
		"search, not available":     {Keys: []kmsg.Key{kmsg.FindCoordinator}, Err: kerr.CoordinatorNotAvailable},
		"take over, loading":        {Keys: []kmsg.Key{kmsg.InitProducerID}, Err: kerr.CoordinatorLoadInProgress},
		"take over, moved":          {Keys: []kmsg.Key{kmsg.InitProducerID}, Err: kerr.NotCoordinator},
		"take over, left behind":    {Keys: []kmsg.Key{kmsg.InitProducerID}, Err: kerr.ConcurrentTransactions},
		"take over, not available":  {Keys: []kmsg.Key{kmsg.InitProducerID}, Err: kerr.CoordinatorNotAvailable},
		"add, loading":              {Keys: []kmsg.Key{kmsg.AddPartitionsToTxn}, Err: kerr.CoordinatorLoadInProgress},
		"add, moved":                {Keys: []kmsg.Key{kmsg.AddPartitionsToTxn}, Err: kerr.NotCoordinator},
		"add, one before not over":  {Keys: []kmsg.Key{kmsg.AddPartitionsToTxn}, Err: kerr.ConcurrentTransactions},
		"add, topic not known yet":  {Keys: []kmsg.Key{kmsg.AddPartitionsToTxn}, Err: kerr.UnknownTopicOrPartition},
		"end, loading":              {Keys: []kmsg.Key{kmsg.EndTxn}, Err: kerr.CoordinatorLoadInProgress},
		"end, moved":                {Keys: []kmsg.Key{kmsg.EndTxn}, Err: kerr.NotCoordinator},
		"end, markers not yet done": {Keys: []kmsg.Key{kmsg.EndTxn}, Err: kerr.ConcurrentTransactions},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cluster := fake.Start(t, kfake.SeedTopics(3, topic))
			old := takeOver(t, cluster.Brokers(), "slot")
			require.NoError(t, old.Fence(t.Context(), partitionsOf(topic, 3)))
			fault.Count = 3
			faults := cluster.Fault(fault)
			successor := takeOver(t, cluster.Brokers(), "slot")
			require.NoError(t, successor.Fence(t.Context(), partitionsOf(topic, 3)))
			require.Equal(t, 3, faults.Hits(), "the fault never occurred")
			for p := range int32(3) {
				require.ErrorIs(t, old.appended(topic, p, 0), sarama.ErrInvalidProducerEpoch)
				require.NoError(t, successor.appended(topic, p, 0))
			}
		})
	}
}

// Between the two answers of EndTxn nothing is promised. A fence that does not
// get the second answer has failed.
func TestFenceWaitsForItsMarkers(t *testing.T) {
	t.Parallel()
	cluster := fake.Start(t, kfake.NumBrokers(1), kfake.SeedTopics(1, "orders"))
	o := takeOver(t, cluster.Brokers(), "slot")
	ended := 0
	cluster.ControlKey(int16(kmsg.EndTxn), func(request kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		if ended++; ended == 1 {
			return nil, nil, false
		}
		response := request.ResponseKind().(*kmsg.EndTxnResponse)
		response.ErrorCode = kerr.ConcurrentTransactions.Code
		return response, nil, true
	})
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	err := o.Fence(ctx, partitionsOf("orders", 1))
	require.ErrorIs(t, err, sarama.ErrConcurrentTransactions)
	require.ErrorContains(t, err, `"slot"`)
	require.ErrorContains(t, err, "has no leader or too few replicas in sync")
	require.Empty(t, o.partitions, "the topic is not fenced")
}

// Connections end between any two requests.
func TestCoordinatorHangsUp(t *testing.T) {
	t.Parallel()
	for _, key := range []kmsg.Key{kmsg.FindCoordinator, kmsg.InitProducerID, kmsg.AddPartitionsToTxn, kmsg.EndTxn} {
		t.Run(key.Name(), func(t *testing.T) {
			t.Parallel()
			cluster := fake.Start(t, kfake.SeedTopics(3, "orders"))
			n := 0
			cluster.ControlKey(int16(key), func(kmsg.Request) (kmsg.Response, error, bool) {
				cluster.KeepControl()
				if n++; n%2 == 1 && n < 7 {
					return nil, model.ErrCut, true
				}
				return nil, nil, false
			})
			o := takeOver(t, cluster.Brokers(), "slot")
			require.NoError(t, o.Fence(t.Context(), partitionsOf("orders", 3)))
			require.NoError(t, o.appended("orders", 2, 0))
			require.NoError(t, o.Fence(t.Context(), partitionsOf("orders", 3)))
		})
	}
}

// A coordinator that never gets ready does not delay a start for ever, and the
// error gives the reason.
func TestCoordinatorIsNeverReady(t *testing.T) {
	t.Parallel()
	cluster := fake.Start(t, kfake.NumBrokers(1))
	cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.InitProducerID}, Err: kerr.CoordinatorLoadInProgress, Count: -1})
	client := connect(t, clientConfig(cluster.Brokers()))
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err := client.TakeOver(ctx, "slot")
	require.ErrorIs(t, err, sarama.ErrOffsetsLoadInProgress)
	require.ErrorContains(t, err, `"slot"`)
	require.NotErrorIs(t, err, ErrNoTransactions)
	assert.Equal(t, failure.Transient, failure.ClassOf(err))
}

func TestFenceMovesWithItsCoordinator(t *testing.T) {
	t.Parallel()
	cluster := fake.Start(t, kfake.SeedTopics(3, "orders"))
	o := takeOver(t, cluster.Brokers(), "slot")
	for range 5 {
		cluster.RehashCoordinators()
		require.NoError(t, o.Fence(t.Context(), partitionsOf("orders", 3)))
		require.NoError(t, takeOver(t, cluster.Brokers(), "other").Fence(t.Context(), partitionsOf("orders", 3)))
	}
}

// Brokers of the oldest supported version know only older requests.
func TestFenceOnOldBrokers(t *testing.T) {
	t.Parallel()
	cluster := fake.Start(t, kfake.NumBrokers(1), kfake.SeedTopics(3, "orders"), kfake.MaxVersions(kversion.V2_4_0()))
	old := takeOver(t, cluster.Brokers(), "slot")
	require.NoError(t, old.appended("orders", 0, 0))
	successor := takeOver(t, cluster.Brokers(), "slot")
	require.NoError(t, successor.Fence(t.Context(), partitionsOf("orders", 3)))
	for p := range int32(3) {
		require.ErrorIs(t, old.appended("orders", p, 1-min(p, 1)), sarama.ErrInvalidProducerEpoch)
	}
	found, err := successor.Admit("orders", 3)
	require.NoError(t, err)
	assert.Empty(t, found.TopicID, "topics had no ID")
	assert.Len(t, found.Ends, 3)
}

func TestFenceWithoutPermission(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("starts its own Kafka cluster")
	}
	cluster := kafkatest.New(t, kafkatest.Options{Authorizer: true, Users: map[string]string{"streamer": "secret"}})
	open, forbidden := cluster.NewTopic(t, 2, nil), cluster.NewTopic(t, 2, nil)
	literal := func(kind sarama.AclResourceType, name string) sarama.Resource {
		return sarama.Resource{ResourceType: kind, ResourceName: name, ResourcePatternType: sarama.AclPatternLiteral}
	}
	client := connect(t, withPassword(cluster.Brokers(), "PLAIN", "secret"))

	_, err := client.TakeOver(t.Context(), "slot")
	require.ErrorIs(t, err, ErrNoTransactions)
	require.ErrorContains(t, err, `"slot"`)
	assert.Contains(t, failure.Describe(err), "Describe and Write")
	transactional := literal(sarama.AclResourceTransactionalID, "slot")
	require.NoError(t, cluster.Allow(t.Context(), "streamer", transactional, sarama.AclOperationDescribe))
	_, err = client.TakeOver(t.Context(), "slot")
	require.ErrorIs(t, err, ErrNoTransactions, "Describe alone is not enough")
	require.NoError(t, cluster.Allow(t.Context(), "streamer", transactional, sarama.AclOperationWrite))
	o, err := client.TakeOver(t.Context(), "slot")
	require.NoError(t, err)
	assert.Equal(t, 6*time.Hour, o.interval, "the brokers' setting is not visible, so this is the default")

	require.NoError(t, cluster.Allow(t.Context(), "streamer", literal(sarama.AclResourceTopic, open),
		sarama.AclOperationDescribe, sarama.AclOperationRead, sarama.AclOperationWrite))
	require.NoError(t, o.Fence(t.Context(), partitionsOf(open, 2)))
	both := partitionsOf(open, 2)
	both[forbidden] = []int32{0, 1}
	for _, allowed := range []sarama.AclOperation{sarama.AclOperationUnknown, sarama.AclOperationDescribe} {
		if allowed != sarama.AclOperationUnknown {
			require.NoError(t, cluster.Allow(t.Context(), "streamer", literal(sarama.AclResourceTopic, forbidden), allowed))
		}
		err = o.Fence(t.Context(), both)
		require.ErrorIs(t, err, sarama.ErrTopicAuthorizationFailed)
		require.Equal(t, failure.Refused, failure.ClassOf(err))
		require.ErrorContains(t, err, forbidden)
		require.NotContains(t, err.Error(), open)
	}
	require.NoError(t, o.Fence(t.Context(), partitionsOf(open, 2)), "the allowed topic can be fenced")

	// Without Read nothing can be read back.
	require.NoError(t, cluster.Allow(t.Context(), "streamer", literal(sarama.AclResourceTopic, forbidden), sarama.AclOperationWrite))
	require.NoError(t, o.Fence(t.Context(), both))
	require.NoError(t, o.appended(forbidden, 0, 0))
	spans, err := client.Whole(t.Context(), forbidden)
	require.NoError(t, err)
	err = client.ReadSpans(t.Context(), spans, func(*Span, int64, *sarama.Record) error { return nil })
	require.ErrorIs(t, err, sarama.ErrTopicAuthorizationFailed)
	require.Equal(t, failure.Refused, failure.ClassOf(err))
	require.ErrorContains(t, err, forbidden)
	_, err = NewCompactedTopic(client, forbidden).Last(t.Context(), []byte("slot"))
	require.ErrorIs(t, err, sarama.ErrTopicAuthorizationFailed)
	require.Equal(t, failure.Refused, failure.ClassOf(err))
	require.ErrorContains(t, err, forbidden)
}

// A partition without a leader cannot be fenced. The error comes in bounded
// time, names the partition, and goes away with a new leader. If the partition
// is only read, others are not delayed.
func TestFenceWithoutLeader(t *testing.T) {
	testserver.Long(t)
	t.Parallel()
	if testing.Short() {
		t.Skip("starts its own Kafka cluster")
	}
	cluster := kafkatest.New(t, kafkatest.Options{Brokers: 3})
	const id = "slot"
	topic := cluster.NewTopic(t, 3, nil)
	first := takeOver(t, cluster.Brokers(), id)
	require.NoError(t, first.Fence(t.Context(), partitionsOf(topic, 3)))
	coordinator, err := cluster.Coordinator(id)
	require.NoError(t, err)
	dead := (coordinator + 1) % 3
	require.NoError(t, cluster.Reassign(t.Context(), topic, 1, dead)) // its only replica
	// Stopped cleanly: the only replica on a killed broker would have to be
	// elected by hand.
	require.NoError(t, cluster.StopBroker(dead))
	require.Eventually(t, func() bool {
		partitions, err := cluster.Partitions(topic)
		return err == nil && partitions[1].Leader == -1
	}, time.Minute, 100*time.Millisecond)

	o := takeOver(t, cluster.Brokers(), id)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	began := time.Now()
	err = o.Fence(ctx, partitionsOf(topic, 3))
	require.Error(t, err)
	assert.Less(t, time.Since(began), time.Minute)
	require.ErrorContains(t, err, fmt.Sprintf("topic %q partition 1", topic))
	assert.Equal(t, failure.Transient, failure.ClassOf(err))

	require.NoError(t, cluster.StartBroker(t.Context(), dead))
	require.Eventually(t, func() bool {
		successor, err := o.TakeOver(t.Context(), id)
		return err == nil && successor.Fence(t.Context(), partitionsOf(topic, 3)) == nil
	}, 2*time.Minute, 100*time.Millisecond)
	for p := range int32(3) {
		_ = first.client.RefreshMetadata(topic)
		require.Eventually(t, func() bool {
			return errors.Is(first.appended(topic, p, 0), sarama.ErrInvalidProducerEpoch)
		}, time.Minute, 100*time.Millisecond)
	}
}

// Thousands of partitions are fenced in one transaction and several requests.
func TestFenceManyPartitions(t *testing.T) {
	t.Parallel()
	cluster := fake.Start(t, kfake.NumBrokers(1), kfake.SeedTopics(800, "a", "b", "c"))
	var mu sync.Mutex
	var sizes []int
	cluster.ControlKey(int16(kmsg.AddPartitionsToTxn), func(request kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		mu.Lock()
		defer mu.Unlock()
		n := 0
		for _, topic := range request.(*kmsg.AddPartitionsToTxnRequest).Topics {
			n += len(topic.Partitions)
		}
		sizes = append(sizes, n)
		return nil, nil, false
	})
	all := map[string][]int32{}
	for _, topic := range []string{"a", "b", "c"} {
		all[topic] = partitionsOf(topic, 800)[topic]
	}
	old := takeOver(t, cluster.Brokers(), "slot")
	successor := takeOver(t, cluster.Brokers(), "slot")
	require.NoError(t, successor.Fence(t.Context(), all))
	mu.Lock()
	assert.Equal(t, []int{1000, 1000, 400}, sizes)
	mu.Unlock()
	for _, topic := range []string{"a", "b", "c"} {
		for _, id := range []int32{0, 199, 200, 399, 400, 799} {
			require.ErrorIs(t, old.appended(topic, id, 0), sarama.ErrInvalidProducerEpoch, "%s %d", topic, id)
		}
	}
}

// Events for a new topic wait until predecessors are fenced there.
func TestAdmitFences(t *testing.T) {
	t.Parallel()
	cluster := kafkatest.Shared(t)
	topic, id := cluster.NewTopic(t, 3, nil), kafkatest.TopicName(t)
	old := takeOver(t, cluster.Brokers(), id)
	require.NoError(t, old.appended(topic, 2, 0))
	require.NoError(t, old.appended(topic, 2, 1))
	successor := takeOver(t, cluster.Brokers(), id)
	found, err := successor.Admit(topic, 3)
	require.NoError(t, err)
	ends := endsOf(t, successor.Client, topic, 3)
	for p, end := range found.Ends {
		require.ErrorIs(t, old.appended(topic, int32(p), 2*int32(p/2)), sarama.ErrInvalidProducerEpoch)
		assert.Equal(t, ends[p], end, "after the marker")
	}
	assert.True(t, slices.IsSorted(ends))
}

// How soon brokers forget determines how often a fence is renewed.
func TestFenceOfForgetfulBrokers(t *testing.T) {
	testserver.Long(t)
	t.Parallel()
	const expiry = 12 * time.Second
	cluster := kafkatest.New(t, kafkatest.Options{Settings: kafkatest.ForgetfulSettings(expiry)})
	o := takeOver(t, cluster.Brokers(), "slot")
	assert.Equal(t, expiry/3, o.interval)
	assert.Equal(t, expiry/2, o.lapse)
	assert.Equal(t, expiry, o.Remembers())
}
