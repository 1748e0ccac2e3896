package router

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/IBM/sarama"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/decoder"
	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/internal/kafkatest"
	"github.com/outboxstream/streamer/replication"
)

// somePartition is one of a topic, with this number.
func somePartition(topicName string, id int32) *partition {
	return &partition{topic: &topic{name: topicName}, id: id}
}

func TestResumption(t *testing.T) {
	t.Parallel()
	assert.Nil(t, newResumption(Found{}))
	assert.Nil(t, newResumption(Found{Topics: map[string]FoundTopic{"a": {}}}))
	r := newResumption(Found{
		Landmarks: []Landmark{landmark(3, "a", 1), landmark(5, "a", 0), landmark(8, "b", -1)},
		Published: published(4, 7, 8),
	})
	for _, step := range []struct {
		number    int
		topic     string
		partition int32
		published bool
	}{{1, "a", 1, false}, {2, "a", 0, false}, {3, "a", 1, false}, {4, "b", 0, true}, {5, "a", 0, false}, {6, "b", 0, false}, {7, "b", 3, true}} {
		was, err := r.pass(at(step.number), fmt.Sprintf("event-%d", step.number), somePartition(step.topic, step.partition))
		require.NoError(t, err, "event %d", step.number)
		require.Equal(t, step.published, was, "event %d", step.number)
		require.False(t, r.over(), "event %d", step.number)
	}
	was, err := r.pass(at(8), "event-8", nil)
	require.NoError(t, err)
	require.True(t, was)
	require.True(t, r.over())
	was, err = r.pass(at(9), "event-9", somePartition("a", 0))
	require.NoError(t, err)
	require.False(t, was)
}

func TestResumptionOfAnotherHistory(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		position replication.Position
		id       string
		topic    string
		part     int32
	}{
		"another event id":  {at(3), "event-4", "a", 1},
		"no event id":       {at(3), "", "a", 1},
		"another partition": {at(3), "event-3", "a", 0},
		"another topic":     {at(3), "event-3", "b", 1},
		"it is missing":     {at(4), "event-4", "a", 1},
		"missing in its transaction": {
			replication.Position{Commit: commitOf(3), Ordinal: 2}, "event-3", "a", 1,
		},
	} {
		r := newResumption(Found{Landmarks: []Landmark{landmark(3, "a", 1)}})
		_, err := r.pass(at(2), "event-2", somePartition("a", 1))
		require.NoError(t, err, name)
		_, err = r.pass(test.position, test.id, somePartition(test.topic, test.part))
		require.ErrorIs(t, err, ErrOtherHistory, name)
		assert.Equal(t, failure.Refused, failure.ClassOf(err), name)
		for _, part := range []string{`topic "a"`, `"event-3"`, FormatSequence(at(3)), "streamer verify", "checkpoint set"} {
			assert.ErrorContains(t, err, part, name)
		}
	}
}

// admitting is a model that counts, and may deny, what is let in.
type admitting struct {
	*modelled
	guard  sync.Mutex
	counts []int // of partitions, in order
	deny   error
}

func (a *admitting) Admit(topic string, partitions int) (FoundTopic, error) {
	a.guard.Lock()
	defer a.guard.Unlock()
	if a.deny != nil {
		return FoundTopic{}, a.deny
	}
	a.counts = append(a.counts, partitions)
	return a.modelled.Admit(topic, partitions)
}

func (a *admitting) admitted() []int {
	a.guard.Lock()
	defer a.guard.Unlock()
	return a.counts
}

// begun is a rig on an admitting model, with what was found.
func begun(t *testing.T, a *admitting, found Found) *rig {
	t.Helper()
	config := someConfig()
	config.Found = found
	r := &rig{T: t, model: a.modelled, cluster: a, close: a.Close, config: config, rules: someRules(), notified: make(chan struct{}, 1)}
	r.begin()
	return r
}

// What was read back is skipped, and the rest is appended.
func TestProducerPassesOverWhatWasFound(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := &admitting{modelled: newModel(1)}
		a.Topic(orders, 2)
		first := begun(t, a, Found{})
		require.NoError(t, first.feed(40, 9))
		require.NoError(t, first.settle())
		first.end()

		// It crashed after event 40; the checkpoint is at event 10.
		found := Found{Topics: map[string]FoundTopic{orders: {Partitions: make([]FoundPartition, 2)}}}
		highest := map[int]int{}
		for n := range 40 {
			highest[partitionFor(fmt.Sprintf("key-%d", n%9), 2)] = n
		}
		for id := range 2 {
			end := int64(len(a.Topics[orders].Partitions[id].Log))
			found.Topics[orders].Partitions[id] = FoundPartition{End: end, Last: at(highest[id]), Written: at(highest[id])}
		}
		low, high := 0, 1
		if highest[0] > highest[1] {
			low, high = 1, 0
		}
		found.Landmarks = []Landmark{landmark(highest[low], orders, int32(low)), landmark(highest[high], orders, int32(high))}
		counts := len(a.admitted())
		r := begun(t, a, found)
		r.stream = first.stream[:10:10]
		r.next = 10
		r.tracker.Mark(commitOf(9))
		require.NoError(t, r.feed(50, 9))
		r.requireComplete()
		r.requirePrefixes()
		assert.Len(t, a.admitted(), counts, "it was fenced and stored at the start")
	})
}

// A topic that nothing is known of waits until a checkpoint names it.
func TestProducerWaitsUntilStored(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := &admitting{modelled: newModel(1), deny: errors.New("coordinator is on holiday")}
		a.Topic(orders, 3)
		r := begun(t, a, Found{})
		result, err := r.producer.Append(numbered(0, "order", "k"))
		require.NoError(t, err)
		require.Equal(t, Blocked, result)
		pass(time.Minute)
		require.NoError(t, r.producer.Collect())
		assert.False(t, r.producer.Unstored())
		assert.Contains(t, r.producer.Waiting(), "holiday", "it says what it waits for")
		assert.Empty(t, r.producer.Marks(0), "and is in no checkpoint")

		a.guard.Lock()
		a.deny = nil
		a.guard.Unlock()
		pass(time.Minute)
		require.NoError(t, r.producer.Collect())
		require.Equal(t, []int{3}, a.admitted())
		require.True(t, r.producer.Unstored())
		result, err = r.producer.Append(numbered(0, "order", "k"))
		require.NoError(t, err)
		require.Equal(t, Blocked, result, "admitted, but not stored")
		assert.False(t, r.producer.Accepts())
		for _, wrong := range []map[string]Marks{nil, {"other": {Offsets: make([]int64, 3)}}, {orders: {Offsets: make([]int64, 2)}}} {
			r.producer.Stored(wrong)
			require.True(t, r.producer.Unstored(), "%v", wrong)
		}
		r.producer.Stored(r.producer.Marks(0))
		require.False(t, r.producer.Unstored())
		require.NoError(t, r.feed(20, 4))
		r.requireComplete()
	})
}

// New partitions are fenced and stored before the first event gets there.
func TestProducerAdmitsNewPartitions(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := &admitting{modelled: newModel(1)}
		topic := a.Topic(orders, 2)
		r := begun(t, a, Found{})
		require.NoError(t, r.feed(50, 9))
		require.NoError(t, r.settle())
		a.Lock()
		a.Grow(topic, 3)
		a.Unlock()
		pass(time.Minute)
		require.NoError(t, r.feed(50, 9))
		r.requireComplete()
		counts := a.admitted()
		assert.Equal(t, 2, counts[0])
		assert.Equal(t, 5, counts[len(counts)-1])
		marks := r.producer.Marks(r.tracker.Confirmed() + 1)
		require.Len(t, marks[orders].Offsets, 5)
		for id, p := range topic.Partitions {
			assert.EqualValues(t, len(p.Log), marks[orders].Offsets[id], "partition %d", id)
		}
	})
}

// What a producer in this process leaves to the next one holds for the
// partitions as they were: with more of them, a key's events may be behind
// another key's in a partition where they never were.
func TestProducerGrownSinceItsPredecessor(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newModel(1)
		m.Topic(orders, 5)
		config := someConfig()
		// Of two partitions, one had everything up to event 30, the other nothing.
		config.Written = map[string]map[int32]replication.Position{orders: {0: at(30)}}
		r := newRig(t, m, config)
		require.NoError(t, r.feed(31, 12))
		require.NoError(t, r.settle())
		missing := map[string]bool{}
		for n := range 31 {
			if key := fmt.Sprintf("key-%d", n%12); partitionFor(key, 2) == 1 {
				missing[fmt.Sprintf("event-%d", n)] = true
			}
		}
		for _, p := range m.Topics[orders].Partitions {
			for _, record := range p.Log {
				delete(missing, record.EventID())
			}
		}
		assert.Empty(t, missing, "lost: they were in no partition")
	})
}

// history is a real topic through the lives of several streamers.
type history struct {
	*scribe
	topic  string
	stored map[string]Marks // in the checkpoint
	above  replication.LSN  // the checkpoint
}

// start is what the pipeline does at a start: read back, and store a checkpoint
// with the new marks before anything is written.
func (h *history) start(rerouted bool, rules Rules) *rig {
	h.Helper()
	r := readBackOf(h.stored)
	r.Above, r.Rerouted = h.above, rerouted
	found := h.readBack(r)
	client, err := Connect(clientConfig(h.client.config.Brokers))
	require.NoError(h, err)
	owner, err := client.TakeOver(h.Context(), h.topic)
	require.NoError(h, err)
	next := newOwnedRigWith(h.TB.(*testing.T), owner, rules, found)
	h.stored = next.producer.Marks(h.above)
	return next
}

func newOwnedRigWith(t *testing.T, o *Owner, rules Rules, found Found) *rig {
	t.Helper()
	config := liveConfig()
	config.Found, config.MetadataInterval = found, 100*time.Millisecond
	r := &rig{T: t, cluster: o, close: o.Close, config: config, rules: rules, notified: make(chan struct{}, 1)}
	r.shift = time.Since(time.UnixMicro(numbered(0, "", "").CommitTime))
	r.begin()
	return r
}

// requireOnce checks that the first n events are in the topic, each once.
func (h *history) requireOnce(cluster *kafkatest.Cluster, n int) {
	h.Helper()
	messages, err := cluster.Consume(h.Context(), h.topic)
	require.NoError(h, err)
	counts := map[string]int{}
	for _, m := range messages {
		counts[header(&sarama.Record{Headers: m.Headers}, headerID)]++
	}
	var lost, repeated []string
	for i := range n {
		switch id := fmt.Sprintf("event-%d", i); counts[id] {
		case 0:
			lost = append(lost, id)
		case 1:
		default:
			repeated = append(repeated, id)
		}
	}
	assert.Empty(h, lost, "lost")
	assert.Empty(h, repeated, "repeated")
}

// Partitions are added while the streamer is stopped; one partition was further
// than the other. It starts, and crashes before its checkpoint has moved. What
// the second start does must be as good as what the first would have done.
func TestGrownAndCrashedTwice(t *testing.T) {
	t.Parallel()
	cluster := kafkatest.Shared(t)
	rules := someRules()
	rules.Topic = cluster.NewTopic(t, 2, nil)
	h := &history{scribe: newScribe(t, cluster.Brokers()), topic: rules.Topic}
	h.stored = map[string]Marks{h.topic: {Offsets: []int64{0, 0}}}
	for n := range 100 {
		id := partitionFor(fmt.Sprintf("key-%d", n%12), 2)
		if id == 0 || n < 50 { // partition 1 is behind
			b := newBatch()
			encodeInto(t, encoderFor(t, rules), b, numbered(n, "order", fmt.Sprintf("key-%d", n%12)))
			h.put(h.topic, int32(id), b)
		}
	}
	require.NoError(t, cluster.AddPartitions(t.Context(), h.topic, 5))
	h.start(false, rules).end() // and crashes at once
	r := h.start(false, rules)
	require.NoError(t, r.feed(110, 12))
	require.NoError(t, r.settle())
	h.requireOnce(cluster, 110)
}

// keyThatMoves is one that is in these partitions when there are 2 and 5.
func keyThatMoves(before, after int) string {
	for n := 0; ; n++ {
		if key := fmt.Sprintf("moving-%d", n); partitionFor(key, 2) == before && partitionFor(key, 5) == after {
			return key
		}
	}
}

// The same where the highest event of each partition stays where it is, so that
// nothing tells that others have moved.
func TestGrownUnnoticedAndCrashedTwice(t *testing.T) {
	t.Parallel()
	cluster := kafkatest.Shared(t)
	rules := someRules()
	rules.Topic = cluster.NewTopic(t, 2, nil)
	h := &history{scribe: newScribe(t, cluster.Brokers()), topic: rules.Topic}
	h.stored = map[string]Marks{h.topic: {Offsets: []int64{0, 0}}}
	ahead, behind, moves := keyThatMoves(0, 0), keyThatMoves(1, 1), keyThatMoves(1, 0)
	event := func(n int) *decoder.Event {
		key := []string{ahead, moves}[n%2]
		switch n {
		case 49:
			key = behind
		case 99:
			key = ahead
		}
		return numbered(n, "order", key)
	}
	for n := range 100 {
		e := event(n)
		id := partitionFor(string(e.Attribute(decoder.AggregateID)), 2)
		if id == 0 || n < 50 {
			b := newBatch()
			encodeInto(t, encoderFor(t, rules), b, e)
			h.put(h.topic, int32(id), b)
		}
	}
	require.NoError(t, cluster.AddPartitions(t.Context(), h.topic, 5))
	h.start(false, rules).end()
	r := h.start(false, rules)
	for n := range 110 {
		_, err := r.append(event(n))
		require.NoError(t, err)
	}
	require.NoError(t, r.settle())
	h.requireOnce(cluster, 110)
}

// The same where another configuration routes the rows elsewhere.
func TestReroutedAndCrashedTwice(t *testing.T) {
	t.Parallel()
	cluster := kafkatest.Shared(t)
	rules := someRules()
	rules.Topic = cluster.NewTopic(t, 2, nil)
	h := &history{scribe: newScribe(t, cluster.Brokers()), topic: rules.Topic}
	h.stored = map[string]Marks{h.topic: {Offsets: []int64{0, 0}}}
	for n := range 100 {
		id := partitionFor(fmt.Sprintf("key-%d", n%12), 2)
		if id == 0 || n < 50 {
			b := newBatch()
			encodeInto(t, encoderFor(t, rules), b, numbered(n, "order", fmt.Sprintf("key-%d", n%12)))
			h.put(h.topic, int32(id), b)
		}
	}
	rules.Partitioner = "crc32"
	h.start(true, rules).end() // its checkpoint has the new routing
	r := h.start(false, rules)
	require.NoError(t, r.feed(110, 12))
	require.NoError(t, r.settle())
	h.requireOnce(cluster, 110)
}

// Partitions are added while the streamer runs, and it crashes before its
// checkpoint has passed the events that were routed the old way.
func TestGrownWhileRunningAndCrashed(t *testing.T) {
	t.Parallel()
	cluster := kafkatest.New(t, kafkatest.Options{}) // growing may be slow on a shared one
	rules := someRules()
	rules.Topic = cluster.NewTopic(t, 2, nil)
	h := &history{scribe: newScribe(t, cluster.Brokers()), topic: rules.Topic}
	r := h.start(false, rules)
	for n := range 60 {
		h.publish(r, n)
	}
	require.NoError(t, cluster.AddPartitions(t.Context(), h.topic, 5))
	n := 60
	for deadline := time.Now().Add(time.Minute); len(r.producer.Marks(0)[h.topic].Offsets) < 5; n++ {
		require.True(t, time.Now().Before(deadline))
		h.publish(r, n)
	}
	h.stored = r.producer.Marks(0) // the checkpoint is where it was
	r.end()
	r = h.start(false, rules)
	require.NoError(t, r.feed(n+10, 12))
	require.NoError(t, r.settle())
	h.requireOnce(cluster, n+10)
}

// publish appends an event and waits for it, while the checkpoint stays at the
// beginning.
func (h *history) publish(r *rig, n int) {
	h.Helper()
	e := numbered(n, "order", fmt.Sprintf("key-%d", n%12))
	e.CommitTime += r.shift.Microseconds()
	e.Time = e.CommitTime
	for {
		result, err := r.producer.Append(e)
		require.NoError(h, err)
		r.producer.Seal()
		require.NoError(h, r.producer.Collect())
		if r.producer.Unstored() {
			r.producer.Stored(r.producer.Marks(0))
		}
		if result == Appended && r.tracker.Idle() {
			return
		}
		if result == Appended {
			break
		}
		<-r.notified
	}
	require.Eventually(h, func() bool {
		require.NoError(h, r.producer.Collect())
		return r.tracker.Idle()
	}, time.Minute, time.Millisecond)
}
