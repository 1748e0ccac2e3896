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
	"github.com/outboxstream/streamer/router/kafka"
	"github.com/outboxstream/streamer/router/wire"
)

// row returns the n-th row of a stream as a Passage learns of it.
func (p *Passage) row(n int) (published bool, err error) {
	published, err = p.Pass(at(n), fmt.Appendf(nil, "event-%d", n), int64(n))
	if err == nil && !published {
		p.Dealt()
	}
	return published, err
}

// Rows found in Kafka are skipped, by partition or as single events. The
// highest row of each partition must reappear.
func TestPassageOfWhatWasFound(t *testing.T) {
	t.Parallel()
	p := NewPassage(Point{}, Found{
		Topics:    map[string]FoundTopic{"a": {Partitions: []FoundPartition{{Written: at(5)}, {Written: at(3)}}}},
		Landmarks: []Landmark{landmark(3, "a", 1), landmark(5, "a", 0), landmark(8, "b", -1)},
		Published: published(4, 7, 8),
	}, nil)
	for _, step := range []struct {
		number    int
		topic     string
		partition int32
		published bool
	}{
		{1, "a", 1, true},
		{2, "a", 0, true},
		{3, "a", 1, true},
		{4, "b", 0, true},
		{5, "a", 0, true},
		{6, "b", 0, false},
		{7, "b", 3, true},
		{8, "c", 0, true},
		{9, "a", 0, false},
	} {
		dealt, err := p.Pass(at(step.number), fmt.Appendf(nil, "event-%d", step.number), 0)
		require.NoError(t, err, "event %d", step.number)
		require.False(t, dealt, "event %d", step.number)
		assert.Equal(t, step.number >= 8, p.Proven(), "event %d", step.number)
		assert.Equal(t, step.number <= 8, p.resuming(), "event %d", step.number)
		held, err := p.holds(at(step.number), step.topic, step.partition, 2)
		require.NoError(t, err, "event %d", step.number)
		assert.Equal(t, step.published, held || p.Alone(at(step.number)), "event %d", step.number)
		p.Dealt()
	}
}

// A row that reappears in another form or in another place is not skipped.
func TestPassageOfAnotherHistory(t *testing.T) {
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
		p := NewPassage(Point{}, Found{
			Topics:    map[string]FoundTopic{"a": {Partitions: []FoundPartition{{}, {Written: at(3)}}}},
			Landmarks: []Landmark{landmark(3, "a", 1)},
		}, nil)
		_, err := p.row(2)
		require.NoError(t, err, name)
		if _, err = p.Pass(test.position, []byte(test.id), 3); err == nil {
			_, err = p.holds(test.position, test.topic, test.part, 2)
		}
		requireOtherHistory(t, name, err, `topic "a"`, `"event-3"`)
	}
}

func requireOtherHistory(t *testing.T, name string, err error, parts ...string) {
	t.Helper()
	require.ErrorIs(t, err, ErrOtherHistory, name)
	assert.Equal(t, failure.Refused, failure.ClassOf(err), name)
	for _, part := range append(parts, wire.FormatSequence(at(3)), "streamer verify", "checkpoint set") {
		assert.Contains(t, failure.Describe(err), part, name)
	}
}

// A connection ends and the stream is read again from the checkpoint. Rows that
// were handled are skipped if they reappear unchanged.
func TestPassageOfWhatWasDealtWith(t *testing.T) {
	t.Parallel()
	begin := func(t *testing.T) (*Passage, Point) {
		t.Helper()
		p := NewPassage(Point{}, Found{}, nil)
		var saved Point
		for n := 1; n <= 6; n++ {
			published, err := p.row(n)
			require.NoError(t, err)
			require.False(t, published)
			if n == 3 {
				saved = p.LastDealt()
			}
		}
		assert.True(t, p.Proven())
		return p, saved
	}
	again := func(p *Passage, from int) error {
		for n := from; n <= 9; n++ {
			if published, err := p.row(n); err != nil || published != (n <= 6) {
				return errors.Join(err, p.Reached(commitOf(n)+8))
			}
		}
		return nil
	}
	checkpointed := Landmark{Position: at(3), EventID: "event-3", CommitTime: 3}

	t.Run("unchanged, any number of times", func(t *testing.T) {
		t.Parallel()
		p, saved := begin(t)
		for range 3 {
			p.Resume(saved)
			assert.False(t, p.Proven())
			furthest, _ := p.Furthest()
			assert.Equal(t, at(6), furthest)
			for n := 4; n <= 5; n++ {
				published, err := p.row(n)
				require.NoError(t, err)
				require.True(t, published)
			}
			require.NoError(t, p.Reached(commitOf(6)))
		}
		p.Resume(saved)
		require.NoError(t, again(p, 4))
		assert.True(t, p.Proven())
		assert.Equal(t, at(9), p.LastDealt().Position)
	})
	t.Run("from before the checkpoint", func(t *testing.T) {
		t.Parallel()
		p, saved := begin(t)
		p.Resume(saved, checkpointed)
		require.NoError(t, again(p, 2))
	})
	for name, row := range map[string]func(p *Passage) error{
		"another id":   func(p *Passage) error { _, err := p.Pass(at(5), []byte("event-7"), 5); return err },
		"another time": func(p *Passage) error { _, err := p.Pass(at(5), []byte("event-5"), 7); return err },
		"one row less": func(*Passage) error { return nil },
		"one row more": func(p *Passage) error {
			_, err := p.row(5)
			_, _ = p.Pass(replication.Position{Commit: commitOf(5), Ordinal: 2}, nil, 5)
			return err
		},
		"less, and the log has gone on": func(p *Passage) error { return p.Reached(commitOf(6) + 1) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, saved := begin(t)
			p.Resume(saved)
			_, err := p.row(4)
			require.NoError(t, err)
			if err = row(p); err == nil {
				err = again(p, 6)
			}
			require.ErrorIs(t, err, ErrOtherHistory)
			assert.Equal(t, failure.Refused, failure.ClassOf(err))
			assert.ErrorContains(t, err, wire.FormatSequence(at(6)))
		})
	}
	for name, row := range map[string]func(p *Passage) error{
		"another row at the checkpoint":      func(p *Passage) error { _, err := p.Pass(at(3), []byte("event-2"), 3); return err },
		"the same at another time":           func(p *Passage) error { _, err := p.Pass(at(3), []byte("event-3"), 4); return err },
		"none at the checkpoint":             func(p *Passage) error { _, err := p.row(4); return err },
		"none, and the log has gone further": func(p *Passage) error { return p.Reached(commitOf(3) + 1) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, saved := begin(t)
			p.Resume(saved, checkpointed)
			_, err := p.row(2)
			require.NoError(t, err)
			requireOtherHistory(t, name, row(p), `"event-3"`)
		})
	}
}

// A row that waits to be appended when the connection ends has not been
// handled.
func TestPassageOfARowThatWaited(t *testing.T) {
	t.Parallel()
	p := NewPassage(Point{}, Found{}, nil)
	_, err := p.row(1)
	require.NoError(t, err)
	_, err = p.Pass(at(2), []byte("event-2"), 2)
	require.NoError(t, err)
	p.Resume(Point{})
	for n := 1; n <= 3; n++ {
		published, err := p.row(n)
		require.NoError(t, err)
		assert.Equal(t, n == 1, published, "event %d", n)
	}
}

// Rows that Kafka acknowledged to a predecessor in this process are skipped if
// the partition count is unchanged.
func TestPassageAfterAPredecessor(t *testing.T) {
	t.Parallel()
	p := NewPassage(Point{}, Found{Topics: map[string]FoundTopic{
		"a": {Partitions: make([]FoundPartition, 2)}, "b": {Partitions: make([]FoundPartition, 3)},
	}}, map[string][]replication.Position{"a": {at(3), at(5)}, "b": {at(9), at(9)}, "c": {at(2)}})
	for _, c := range []struct {
		topic      string
		id         int32
		partitions int
		number     int
		held       bool
	}{
		{"a", 0, 2, 3, true},
		{"a", 0, 2, 4, false},
		{"a", 1, 2, 5, true},
		{"b", 1, 3, 1, false},
		{"c", 0, 1, 2, true},
		{"c", 0, 1, 3, false},
		{"c", 0, 2, 1, false},
	} {
		held, err := p.holds(at(c.number), c.topic, c.id, c.partitions)
		require.NoError(t, err)
		assert.Equal(t, c.held, held, "%v", c)
	}
}

func BenchmarkPass(b *testing.B) {
	p := NewPassage(Point{}, Found{}, nil)
	id := []byte("0190a0b2-3c4d-7e5f-8a6b-7c8d9e0f1a2b")
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if published, err := p.Pass(replication.Position{Commit: commitOf(i), Ordinal: 1}, id, int64(i)); err != nil || published {
			b.Fatal(published, err)
		}
		p.Dealt()
	}
}

// admitting is a model that counts admissions and may deny them.
type admitting struct {
	*modelled
	guard  sync.Mutex
	counts []int // of partitions, in order
	deny   error
}

func (a *admitting) Admit(topic string, partitions int) (kafka.Admission, error) {
	a.guard.Lock()
	defer a.guard.Unlock()
	if a.deny != nil {
		return kafka.Admission{}, a.deny
	}
	a.counts = append(a.counts, partitions)
	return a.modelled.Admit(topic, partitions)
}

func (a *admitting) admitted() []int {
	a.guard.Lock()
	defer a.guard.Unlock()
	return a.counts
}

// begun returns a rig on an admitting model that starts with found.
func begun(t *testing.T, a *admitting, found Found) *rig {
	t.Helper()
	r := &rig{
		T: t, model: a.modelled, cluster: a, close: a.Close,
		config: someConfig(), rules: someRules(), found: found, notified: make(chan struct{}, 1),
	}
	r.begin()
	return r
}

// Events that were read back are skipped, and the rest is appended.
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
		assert.Len(t, a.admitted(), counts, "the topic was fenced and stored at the start")
	})
}

// An unknown topic waits until a checkpoint names it.
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
		assert.Contains(t, r.producer.Waiting(), "holiday", "Waiting names the topic")
		assert.Empty(t, r.producer.Marks(0), "the topic is in no checkpoint")

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
		a.GrowLocked(topic, 3)
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

// What a producer in this process leaves to the next one is valid only for the
// old partition count. With more partitions, a key's events may follow another
// key's in a partition where they have never been.
func TestProducerGrownSinceItsPredecessor(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newOrdersRig(t, 1, 5)
		r.end()
		// Of two partitions, one had everything up to event 30, the other
		// nothing.
		r.written = map[string][]replication.Position{orders: {at(30), {}}}
		r.begin()
		require.NoError(t, r.feed(31, 12))
		require.NoError(t, r.settle())
		missing := map[string]bool{}
		for n := range 31 {
			if key := fmt.Sprintf("key-%d", n%12); partitionFor(key, 2) == 1 {
				missing[fmt.Sprintf("event-%d", n)] = true
			}
		}
		for _, p := range r.model.Topics[orders].Partitions {
			for _, record := range p.Log {
				delete(missing, record.EventID())
			}
		}
		assert.Empty(t, missing, "lost: the events were in no partition")
	})
}

// history is a real topic during the lives of several streamers.
type history struct {
	*scribe
	topic  string
	stored map[string]Marks // in the checkpoint
	above  replication.LSN  // the checkpoint
}

// start does what the pipeline does at a start: it reads back, and stores a
// checkpoint with the new marks before anything is written.
func (h *history) start(rerouted bool, rules Rules) *rig {
	h.Helper()
	r := readBackOf(h.stored)
	r.Above, r.Rerouted = h.above, rerouted
	found := h.readBack(r)
	client, err := kafka.Connect(someClient(h.brokers))
	require.NoError(h, err)
	owner, err := client.TakeOver(h.Context(), h.topic)
	require.NoError(h, err)
	next := newOwnedRigWith(h.TB.(*testing.T), owner, rules, found)
	h.stored = next.producer.Marks(h.above)
	return next
}

func newOwnedRigWith(t *testing.T, o *kafka.Owner, rules Rules, found Found) *rig {
	t.Helper()
	config := liveConfig()
	config.MetadataInterval = 100 * time.Millisecond
	r := &rig{T: t, cluster: o, close: o.Close, config: config, rules: rules, found: found, notified: make(chan struct{}, 1)}
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

// Partitions are added while the streamer is stopped. One partition was further
// than the other. The streamer starts, and crashes before its checkpoint has
// moved. The second start must do as well as the first would have done.
func TestGrownAndCrashedTwice(t *testing.T) {
	t.Parallel()
	cluster := kafkatest.Shared(t)
	rules := someRules()
	rules.Tables[0].Topic = cluster.NewTopic(t, 2, nil)
	h := &history{scribe: newScribe(t, cluster.Brokers()), topic: rules.Tables[0].Topic}
	h.stored = map[string]Marks{h.topic: {Offsets: []int64{0, 0}}}
	for n := range 100 {
		id := partitionFor(fmt.Sprintf("key-%d", n%12), 2)
		if id == 0 || n < 50 { // partition 1 lags behind
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

// keyThatMoves returns a key that is in these partitions when there are 2 and
// 5.
func keyThatMoves(before, after int) string {
	for n := 0; ; n++ {
		if key := fmt.Sprintf("moving-%d", n); partitionFor(key, 2) == before && partitionFor(key, 5) == after {
			return key
		}
	}
}

// The same where the highest event of each partition stays where it is, so that
// nothing shows that others have moved.
func TestGrownUnnoticedAndCrashedTwice(t *testing.T) {
	t.Parallel()
	cluster := kafkatest.Shared(t)
	rules := someRules()
	rules.Tables[0].Topic = cluster.NewTopic(t, 2, nil)
	h := &history{scribe: newScribe(t, cluster.Brokers()), topic: rules.Tables[0].Topic}
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
	rules.Tables[0].Topic = cluster.NewTopic(t, 2, nil)
	h := &history{scribe: newScribe(t, cluster.Brokers()), topic: rules.Tables[0].Topic}
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
	cluster := kafkatest.New(t, kafkatest.Options{}) // growing may be slow on a shared cluster
	rules := someRules()
	rules.Tables[0].Topic = cluster.NewTopic(t, 2, nil)
	h := &history{scribe: newScribe(t, cluster.Brokers()), topic: rules.Tables[0].Topic}
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
	h.stored = r.producer.Marks(0) // the checkpoint has not moved
	r.end()
	r = h.start(false, rules)
	require.NoError(t, r.feed(n+10, 12))
	require.NoError(t, r.settle())
	h.requireOnce(cluster, n+10)
}

// publish appends an event and waits for its acknowledgement, while the
// checkpoint stays at the beginning.
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
