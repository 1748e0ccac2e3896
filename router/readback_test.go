package router

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/outboxstream/streamer/internal/kafkatest"
	"github.com/outboxstream/streamer/internal/kafkatest/fake"
	"github.com/outboxstream/streamer/internal/testserver"
	"github.com/outboxstream/streamer/replication"
	"github.com/outboxstream/streamer/router/kafka"
	"github.com/outboxstream/streamer/router/wire"
)

func readBackOf(marks map[string]Marks) ReadBack {
	return ReadBack{StreamID: someRules().StreamID, Marks: marks, Log: slog.New(slog.DiscardHandler)}
}

// scribe writes arbitrary records to partitions, without a producer id.
type scribe struct {
	testing.TB
	client  *kafka.Client
	brokers []string
	raw     sarama.Client
	codec   codec
}

func newScribe(t testing.TB, brokers []string) *scribe {
	t.Helper()
	config := sarama.NewConfig()
	config.Version = sarama.V2_8_0_0
	raw, err := sarama.NewClient(brokers, config)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, raw.Close()) })
	return &scribe{TB: t, client: connected(t, brokers), brokers: brokers, raw: raw}
}

// batch returns the events as the encoder encodes them.
func (s *scribe) batch(mode Mode, numbers ...int) *Batch {
	s.Helper()
	enc, b := encoderFor(s, withMode(mode)), newBatch()
	for _, n := range numbers {
		encodeInto(s, enc, b, numbered(n, "order", fmt.Sprintf("key-%d", n)))
	}
	return b
}

// ours writes events of the stream under test, with these numbers, in one
// batch.
func (s *scribe) ours(topic string, partition int32, numbers ...int) {
	s.Helper()
	s.put(topic, partition, s.batch(Binary, numbers...))
}

func (s *scribe) structured(topic string, partition int32, numbers ...int) {
	s.Helper()
	s.put(topic, partition, s.batch(Structured, numbers...))
}

// replayed writes events that were published again on purpose.
func (s *scribe) replayed(topic string, partition int32, numbers ...int) {
	s.Helper()
	b := s.batch(Binary, numbers...)
	records := b.records()
	for _, r := range records {
		r.Headers = append(r.Headers, &sarama.RecordHeader{Key: []byte(wire.ReplayHeader), Value: []byte("1")})
	}
	b.refill(records)
	s.put(topic, partition, b)
}

// others writes events of another stream, or of another history of this stream.
func (s *scribe) others(topic string, partition int32, numbers ...int) {
	s.Helper()
	b := s.batch(Binary, numbers...)
	records := b.records()
	for _, r := range records {
		for i, h := range r.Headers {
			if string(h.Key) == wire.StreamHeader {
				r.Headers[i] = &sarama.RecordHeader{Key: h.Key, Value: []byte("0123456789abcdef")}
			}
		}
	}
	b.refill(records)
	s.put(topic, partition, b)
}

// foreign writes n records of a producer that does not use CloudEvents.
func (s *scribe) foreign(topic string, partition int32, n int) {
	s.Helper()
	b := newBatch()
	for range n {
		b.addRecord(0, &sarama.Record{Key: []byte("k"), Value: []byte(`{"sequence": "x"}`)})
	}
	s.put(topic, partition, b)
}

// put writes a batch. Leaders may still be moving.
func (s *scribe) put(topic string, partition int32, b *Batch) {
	s.Helper()
	wire := plain(b, s.codec, -1, -1)
	wire.FirstSequence = -1
	wire.FirstTimestamp, wire.MaxTimestamp = time.Now(), time.Now()
	require.Eventually(s, func() bool {
		leader, err := s.raw.Leader(topic, partition)
		if err != nil {
			_ = s.raw.RefreshMetadata(topic)
			return false
		}
		request := &sarama.ProduceRequest{RequiredAcks: sarama.WaitForAll, Timeout: 5000, Version: 8}
		request.AddBatch(topic, partition, wire)
		response, err := leader.Produce(request)
		if err == nil && response.GetBlock(topic, partition).Err == sarama.ErrNoError {
			return true
		}
		_ = s.raw.RefreshMetadata(topic)
		return false
	}, time.Minute, time.Millisecond)
}

// control writes a transaction marker into a topic's first partition.
func (s *scribe) control(topic string) {
	s.Helper()
	o, err := s.client.TakeOver(s.Context(), topic) // its own id
	require.NoError(s, err)
	require.NoError(s, o.Fence(s.Context(), firstPartitions(topic, 1)))
}

// deleteBelow lets the beginning of a topic's first partition expire.
func (s *scribe) deleteBelow(topic string, offset int64) {
	s.Helper()
	admin, err := sarama.NewClusterAdminFromClient(s.raw)
	require.NoError(s, err)
	require.NoError(s, admin.DeleteRecords(topic, map[int32]int64{0: offset}))
}

func (s *scribe) readBack(r ReadBack) Found {
	s.Helper()
	found, err := r.Read(s.Context(), s.client)
	require.NoError(s, err)
	return found
}

func at(n int) replication.Position { return numbered(n, "", "").Position }

// landmark returns the event with this number, in this place.
func landmark(n int, topic string, partition int32) Landmark {
	return Landmark{Position: at(n), EventID: fmt.Sprintf("event-%d", n), Topic: topic, Partition: partition}
}

func published(numbers ...int) map[replication.Position]struct{} {
	all := map[replication.Position]struct{}{}
	for _, n := range numbers {
		all[at(n)] = struct{}{}
	}
	return all
}

// What a partition may hold, and what ReadBack finds in it.
func TestReadBack(t *testing.T) {
	t.Parallel()
	cluster := kafkatest.Shared(t)
	for _, test := range []struct {
		name  string
		write func(s *scribe, topic string)
		mark  int64
		above int // event number of the checkpoint
		want  int // the highest event, or -1
		gaps  int
	}{
		{name: "empty", write: func(*scribe, string) {}, want: -1},
		{name: "ours", write: func(s *scribe, topic string) { s.ours(topic, 0, 1, 2, 3) }, want: 3},
		{name: "several batches", write: func(s *scribe, topic string) {
			s.ours(topic, 0, 1, 2)
			s.ours(topic, 0, 3)
			s.ours(topic, 0, 4, 5, 6)
		}, want: 6},
		{name: "mark inside a batch", write: func(s *scribe, topic string) { s.ours(topic, 0, 1, 2, 3, 4, 5, 6, 7, 8) }, mark: 3, want: 8},
		{name: "mark at the last", write: func(s *scribe, topic string) { s.ours(topic, 0, 1, 2, 3) }, mark: 2, want: 3},
		{name: "mark at the end", write: func(s *scribe, topic string) { s.ours(topic, 0, 1, 2, 3) }, mark: 3, want: -1},
		{name: "not above the checkpoint", write: func(s *scribe, topic string) { s.ours(topic, 0, 1, 2, 3) }, above: 4, want: -1},
		{name: "a commit at the checkpoint", write: func(s *scribe, topic string) { s.ours(topic, 0, 1, 2, 3) }, above: 3, want: 3},
		{name: "structured", write: func(s *scribe, topic string) { s.structured(topic, 0, 1, 2, 3) }, want: 3},
		{name: "both modes", write: func(s *scribe, topic string) {
			s.structured(topic, 0, 1, 2)
			s.ours(topic, 0, 3)
			s.structured(topic, 0, 4)
		}, want: 4},
		{name: "control records behind", write: func(s *scribe, topic string) {
			s.ours(topic, 0, 1, 2)
			s.control(topic)
			s.control(topic)
		}, want: 2},
		{name: "control records only", write: func(s *scribe, topic string) { s.control(topic); s.control(topic) }, want: -1},
		{name: "foreign behind", write: func(s *scribe, topic string) { s.ours(topic, 0, 1, 2); s.foreign(topic, 0, 3) }, want: 2},
		{name: "foreign only", write: func(s *scribe, topic string) { s.foreign(topic, 0, 100) }, want: -1},
		{name: "far behind foreign ones", write: func(s *scribe, topic string) {
			s.ours(topic, 0, 1, 2, 3)
			for range 50 {
				s.foreign(topic, 0, 200)
			}
		}, want: 3},
		{name: "far behind foreign ones, above the mark only", write: func(s *scribe, topic string) {
			s.ours(topic, 0, 1, 2, 3)
			for range 50 {
				s.foreign(topic, 0, 200)
			}
		}, mark: 3, want: -1},
		{name: "another stream behind", write: func(s *scribe, topic string) { s.ours(topic, 0, 1, 2); s.others(topic, 0, 7, 8, 9) }, want: 2},
		{name: "another stream only", write: func(s *scribe, topic string) { s.others(topic, 0, 7, 8, 9) }, want: -1},
		{name: "another stream in between", write: func(s *scribe, topic string) {
			s.ours(topic, 0, 1)
			s.others(topic, 0, 7, 8, 9)
			s.ours(topic, 0, 2)
		}, want: 2},
		{name: "replayed behind", write: func(s *scribe, topic string) { s.ours(topic, 0, 5, 6); s.replayed(topic, 0, 1, 2, 9) }, want: 6},
		{name: "replayed only", write: func(s *scribe, topic string) { s.replayed(topic, 0, 1, 2) }, want: -1},
		{name: "expired, the highest is left", write: func(s *scribe, topic string) {
			s.ours(topic, 0, 1, 2, 3)
			s.foreign(topic, 0, 3)
			s.deleteBelow(topic, 2)
		}, mark: 1, want: 3},
		{name: "expired, nothing of ours is left", write: func(s *scribe, topic string) {
			s.ours(topic, 0, 1, 2, 3)
			s.foreign(topic, 0, 3)
			s.deleteBelow(topic, 4)
		}, mark: 1, want: -1, gaps: 1},
		{name: "expired to the end", write: func(s *scribe, topic string) {
			s.ours(topic, 0, 1, 2, 3)
			s.deleteBelow(topic, 3)
		}, mark: 1, want: -1, gaps: 1},
		{name: "expired up to the mark", write: func(s *scribe, topic string) {
			s.ours(topic, 0, 1, 2, 3)
			s.deleteBelow(topic, 3)
		}, mark: 3, want: -1},
		{name: "expired, what is left is below the checkpoint", write: func(s *scribe, topic string) {
			s.ours(topic, 0, 1, 2, 3)
			s.deleteBelow(topic, 2)
		}, mark: 1, above: 9, want: -1},
		{name: "the log ends before the mark", write: func(s *scribe, topic string) { s.ours(topic, 0, 1, 2, 3) }, mark: 4, want: 3, gaps: 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := newScribe(t, cluster.Brokers())
			topic := cluster.NewTopic(t, 1, nil)
			test.write(s, topic)
			r := readBackOf(map[string]Marks{topic: {Offsets: []int64{test.mark}}})
			if test.above > 0 {
				r.Above = commitOf(test.above)
			}
			found := s.readBack(r)
			assert.Len(t, found.Gaps, test.gaps, "%v", found.Gaps)
			for _, gap := range found.Gaps {
				assert.Contains(t, gap, fmt.Sprintf("topic %q partition 0", topic))
			}
			assert.Empty(t, found.Published)
			require.Len(t, found.Topics[topic].Partitions, 1)
			part := found.Topics[topic].Partitions[0]
			assert.Equal(t, endsNow(t, s.client, topic)[0], part.End)
			if test.want < 0 {
				assert.Zero(t, part.Written)
				assert.Empty(t, found.Landmarks)
				return
			}
			assert.Equal(t, at(test.want), part.Written)
			assert.Equal(t, []Landmark{landmark(test.want, topic, 0)}, found.Landmarks)
			assert.NotEmpty(t, found.Topics[topic].ID)
		})
	}
}

func TestReadBackCompressed(t *testing.T) {
	t.Parallel()
	cluster := kafkatest.Shared(t)
	s := newScribe(t, cluster.Brokers())
	topic := cluster.NewTopic(t, 5, nil)
	for i, name := range []string{"none", "gzip", "snappy", "lz4", "zstd"} {
		s.codec = codecOf(ProducerConfig{Compression: name})
		s.ours(topic, int32(i), 10*i, 10*i+1, 10*i+2)
		s.structured(topic, int32(i), 10*i+3, 10*i+4)
	}
	found := s.readBack(readBackOf(map[string]Marks{topic: {Offsets: make([]int64, 5)}}))
	for i := range 5 {
		assert.Equal(t, at(10*i+4), found.Topics[topic].Partitions[i].Written)
		assert.Equal(t, landmark(10*i+4, topic, int32(i)), found.Landmarks[i], "landmarks come in stream order")
	}
}

// Random partitions, compared with the result of reading everything forward.
func TestReadBackOfAnything(t *testing.T) {
	t.Parallel()
	cluster := kafkatest.Shared(t)
	const partitions = 24
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	s := newScribe(t, cluster.Brokers())
	topic := cluster.NewTopic(t, partitions, nil)
	next := 1
	type entry struct {
		offset int64
		number int
	}
	logs := make([][]entry, partitions)
	for p := range int32(partitions) {
		for range random.IntN(12) {
			end := endsNow(t, s.client, topic)[p]
			n := 1 + random.IntN(90)
			numbers := make([]int, n)
			for i := range numbers {
				numbers[i] = next + i
			}
			switch random.IntN(5) {
			case 0:
				s.foreign(topic, p, n)
				continue
			case 1:
				s.others(topic, p, numbers...)
				continue
			case 2:
				s.replayed(topic, p, numbers...)
				continue
			case 3:
				s.structured(topic, p, numbers...)
			default:
				s.ours(topic, p, numbers...)
			}
			for i, number := range numbers {
				logs[p] = append(logs[p], entry{end + int64(i), number})
			}
			next += n
		}
	}
	ends := endsNow(t, s.client, topic)
	for range 20 {
		above := random.IntN(next + 1)
		marks := make([]int64, partitions)
		for p := range marks {
			marks[p] = random.Int64N(ends[p] + 1)
		}
		r := readBackOf(map[string]Marks{topic: {Offsets: marks}})
		r.Above = commitOf(above)
		prefix := s.readBack(r)
		r.Rerouted = true
		scattered := s.readBack(r)
		all, last := map[replication.Position]struct{}{}, -1
		for p, log := range logs {
			highest := -1
			for _, e := range log {
				if e.offset >= marks[p] && e.number >= above {
					highest = e.number
					all[at(e.number)] = struct{}{}
				}
			}
			last = max(last, highest)
			part := prefix.Topics[topic].Partitions[p]
			require.Equal(t, marks[p], part.Mark)
			require.Equal(t, ends[p], part.End)
			if highest < 0 {
				require.Zero(t, part.Written, "partition %d from %d above %d", p, marks[p], above)
				continue
			}
			require.Equal(t, at(highest), part.Written, "partition %d from %d above %d", p, marks[p], above)
			require.Contains(t, prefix.Landmarks, landmark(highest, topic, int32(p)))
		}
		require.True(t, slices.IsSortedFunc(prefix.Landmarks, func(a, b Landmark) int { return a.Position.Compare(b.Position) }))
		require.Equal(t, all, scattered.Published)
		if last < 0 {
			require.Empty(t, scattered.Landmarks)
		} else {
			require.Equal(t, []Landmark{landmark(last, topic, -1)}, scattered.Landmarks)
		}
	}
}

func TestReadBackOverGaps(t *testing.T) {
	t.Parallel()
	const topic = "compacted"
	cluster := fake.Start(t, kfake.NumBrokers(1))
	require.NoError(t, cluster.CreateTopic(topic, 1, map[string]string{
		"cleanup.policy": "compact", "min.cleanable.dirty.ratio": "0", "segment.bytes": "2000",
	}))
	s := newScribe(t, cluster.Brokers())
	s.ours(topic, 0, 1, 2, 3)
	for range 300 {
		s.foreign(topic, 0, 1) // all with one key
	}
	cluster.Compact()
	read := 0
	require.NoError(t, readPartition(t.Context(), s.client, topic, 0, func(int64, *sarama.Record) error { read++; return nil }))
	require.Less(t, read, 150, "something was compacted away")
	for _, mark := range []int64{0, 2, 3, 100, 290} {
		found := s.readBack(readBackOf(map[string]Marks{topic: {Offsets: []int64{mark}}}))
		want := at(3)
		if mark > 2 {
			want = replication.Position{}
		}
		assert.Equal(t, want, found.Topics[topic].Partitions[0].Written, "from %d", mark)
	}
}

// A topic may be gone, or be another topic with the same name.
func TestReadBackTopicDeleted(t *testing.T) {
	t.Parallel()
	cluster := kafkatest.New(t, kafkatest.Options{}) // deleting delays other tests
	s := newScribe(t, cluster.Brokers())
	stays, topic := cluster.NewTopic(t, 1, nil), cluster.NewTopic(t, 1, nil)
	s.ours(stays, 0, 1, 3)
	s.ours(topic, 0, 2, 4)
	marks := map[string]Marks{stays: {Offsets: []int64{0}}, topic: {Offsets: []int64{1}}}
	first := s.readBack(readBackOf(marks))
	require.Equal(t, []Landmark{landmark(3, stays, 0), landmark(4, topic, 0)}, first.Landmarks)
	for name, m := range marks {
		marks[name] = Marks{ID: first.Topics[name].ID, Offsets: m.Offsets}
	}
	require.NotEmpty(t, marks[topic].ID)
	require.NotEqual(t, marks[topic].ID, marks[stays].ID)

	require.NoError(t, cluster.DeleteTopic(t.Context(), topic))
	found := s.readBack(readBackOf(marks))
	assert.NotContains(t, found.Topics, topic)
	assert.Contains(t, found.Topics, stays)
	assert.Equal(t, []Landmark{landmark(3, stays, 0)}, found.Landmarks)
	existing, err := s.client.Existing(t.Context(), []string{stays, topic})
	require.NoError(t, err)
	assert.Equal(t, map[string][]int32{stays: {0}}, existing)

	require.NoError(t, cluster.CreateTopic(t.Context(), topic, 1, nil))
	found = s.readBack(readBackOf(marks))
	assert.Empty(t, found.Gaps, "the mark belonged to another topic")
	assert.Equal(t, FoundPartition{}, found.Topics[topic].Partitions[0])
	assert.NotEqual(t, marks[topic].ID, found.Topics[topic].ID)
	s.ours(topic, 0, 5)
	found = s.readBack(readBackOf(marks))
	assert.Equal(t, at(5), found.Topics[topic].Partitions[0].Written, "read from the beginning, whatever the mark")
}

func TestReadBackRerouted(t *testing.T) {
	t.Parallel()
	cluster := kafkatest.New(t, kafkatest.Options{})
	s := newScribe(t, cluster.Brokers())
	topic, other := cluster.NewTopic(t, 2, nil), cluster.NewTopic(t, 1, nil)
	s.ours(topic, 0, 1, 3, 6)
	s.ours(topic, 1, 2, 4)
	s.replayed(topic, 1, 9)
	s.ours(other, 0, 5, 7)
	r := readBackOf(map[string]Marks{topic: {Offsets: []int64{1, 0}}, other: {Offsets: []int64{0}}})
	r.Above = commitOf(3)
	found := s.readBack(r)
	assert.Equal(t, []Landmark{landmark(4, topic, 1), landmark(6, topic, 0), landmark(7, other, 0)}, found.Landmarks)
	assert.Empty(t, found.Published)

	r.Scattered = func(name string) bool { return name == topic }
	found = s.readBack(r)
	assert.Equal(t, published(3, 4, 6), found.Published)
	assert.Equal(t, []Landmark{landmark(6, topic, -1), landmark(7, other, 0)}, found.Landmarks)
	assert.Zero(t, found.Topics[topic].Partitions[0].Written)
	assert.Equal(t, at(7), found.Topics[other].Partitions[0].Written)

	r.Scattered, r.Rerouted = nil, true
	found = s.readBack(r)
	assert.Equal(t, published(3, 4, 5, 6, 7), found.Published)
	assert.Equal(t, []Landmark{landmark(7, other, -1)}, found.Landmarks)

	r.Rerouted = false
	require.NoError(t, cluster.AddPartitions(t.Context(), topic, 4))
	s.ours(topic, 3, 8)
	found = s.readBack(r)
	assert.Equal(t, published(3, 4, 6, 8), found.Published)
	assert.Equal(t, []Landmark{landmark(7, other, 0), landmark(8, topic, -1)}, found.Landmarks)
	assert.Len(t, found.Topics[topic].Partitions, 4)

	// It cannot be known that only events below the checkpoint have expired.
	s.deleteBelow(topic, 2)
	found = s.readBack(r)
	assert.Len(t, found.Gaps, 1)
	assert.Equal(t, published(4, 6, 8), found.Published)
}

// The set of single events is bounded. Beyond the bound the start says so and
// repeats events.
func TestReadBackOverflow(t *testing.T) {
	t.Parallel()
	cluster := kafkatest.Shared(t)
	s := newScribe(t, cluster.Brokers())
	topic := cluster.NewTopic(t, 2, nil)
	for i := range 10 {
		s.ours(topic, int32(i%2), 3*i, 3*i+1, 3*i+2)
	}
	r := readBackOf(map[string]Marks{topic: {Offsets: []int64{0, 0}}})
	r.Rerouted, r.most = true, 30
	found := s.readBack(r)
	assert.Len(t, found.Published, 30)
	assert.Empty(t, found.Gaps)
	r.most = 29
	found = s.readBack(r)
	assert.Empty(t, found.Published)
	assert.Empty(t, found.Landmarks)
	require.Len(t, found.Gaps, 1)
	assert.Contains(t, found.Gaps[0], "more than 29 events")
}

// Thousands of partitions, most of them empty, are read with few requests.
func TestReadBackManyPartitions(t *testing.T) {
	testserver.Long(t)
	t.Parallel()
	if testing.Short() {
		t.Skip("starts its own Kafka cluster")
	}
	const partitions = 2000
	cluster := kafkatest.New(t, kafkatest.Options{})
	topic := cluster.NewTopic(t, partitions, nil)
	s := newScribe(t, cluster.Brokers())
	for i, id := range []int32{0, 127, 128, 999, 1999} {
		s.ours(topic, id, 10*i+1, 10*i+2)
	}
	began := time.Now()
	o := owning(t, cluster.Brokers(), "slot")
	require.NoError(t, o.Fence(t.Context(), firstPartitions(topic, partitions)))
	t.Logf("take over and fence: %s", time.Since(began))
	began = time.Now()
	found := s.readBack(readBackOf(map[string]Marks{topic: {Offsets: make([]int64, partitions)}}))
	t.Logf("read back: %s", time.Since(began))
	// The marker is the last record everywhere.
	require.Len(t, found.Landmarks, 5)
	for i, id := range []int32{0, 127, 128, 999, 1999} {
		assert.Equal(t, landmark(10*i+2, topic, id), found.Landmarks[i])
	}
	for id, part := range found.Topics[topic].Partitions {
		require.Positive(t, part.End, "partition %d", id)
	}
	assert.Equal(t, 10, found.Records)

	// The same where every partition is at its mark: there is nothing to read.
	marks := make([]int64, partitions)
	for id, part := range found.Topics[topic].Partitions {
		marks[id] = part.End
	}
	found = s.readBack(readBackOf(map[string]Marks{topic: {Offsets: marks}}))
	assert.Zero(t, found.Records)
	assert.Empty(t, found.Landmarks)
}

// A long suffix is not read whole if its last event is enough.
func TestReadBackLongSuffix(t *testing.T) {
	testserver.Long(t)
	t.Parallel()
	cluster := kafkatest.Shared(t)
	s := newScribe(t, cluster.Brokers())
	s.codec = codecOf(ProducerConfig{Compression: "lz4"})
	topic := cluster.NewTopic(t, 1, nil)
	const batches, each = 300, 1000
	numbers := make([]int, each)
	for b := range batches {
		for i := range numbers {
			numbers[i] = b*each + i
		}
		s.ours(topic, 0, numbers...)
	}
	s.foreign(topic, 0, 50)
	r := readBackOf(map[string]Marks{topic: {Offsets: []int64{0}}})
	found := s.readBack(r)
	assert.Equal(t, at(batches*each-1), found.Topics[topic].Partitions[0].Written)
	assert.Less(t, found.Records, 10_000)
	r.Rerouted = true
	began := time.Now()
	found = s.readBack(r)
	t.Logf("%d single events in %s", len(found.Published), time.Since(began))
	assert.Len(t, found.Published, batches*each)
}

// Retention during the reading must not hide the remaining records.
func TestReadBackWhileRecordsExpire(t *testing.T) {
	t.Parallel()
	cluster := kafkatest.Shared(t)
	s := newScribe(t, cluster.Brokers())
	topic := cluster.NewTopic(t, 1, nil)
	for n := range 20 {
		s.ours(topic, 0, n)
	}
	s.deleteBelow(topic, 12)
	_, err := s.client.LookUp(t.Context(), []string{topic})
	require.NoError(t, err)
	planned := &kafka.Span{TopicPartition: kafka.TopicPartition{Topic: topic, Partition: 0}, Next: 0, End: 20} // as planned before
	var seen []int64
	require.NoError(t, s.client.ReadSpans(t.Context(), []*kafka.Span{planned}, func(_ *kafka.Span, offset int64, _ *sarama.Record) error {
		seen = append(seen, offset)
		return nil
	}))
	assert.Equal(t, []int64{12, 13, 14, 15, 16, 17, 18, 19}, seen)
}

func TestReadBackCancelled(t *testing.T) {
	t.Parallel()
	cluster := fake.Start(t, kfake.NumBrokers(1), kfake.SeedTopics(1, "orders"))
	s := newScribe(t, cluster.Brokers())
	s.ours("orders", 0, 1, 2)
	ctx, cancel := context.WithCancel(t.Context())
	cluster.ControlKey(int16(kmsg.Fetch), func(request kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		cancel()
		return request.ResponseKind(), nil, true // nothing to return
	})
	_, err := readBackOf(map[string]Marks{"orders": {Offsets: []int64{0}}}).Read(ctx, s.client)
	require.ErrorIs(t, err, context.Canceled)
}

// A broker that dies during the reading is replaced by the next leader.
func TestReadBackWhileBrokerDies(t *testing.T) {
	testserver.Long(t)
	t.Parallel()
	if testing.Short() {
		t.Skip("starts its own Kafka cluster")
	}
	cluster := kafkatest.New(t, kafkatest.Options{Brokers: 3})
	s := newScribe(t, cluster.Brokers())
	const partitions, each = 6, 4000
	topic := cluster.NewTopic(t, partitions, map[string]string{"min.insync.replicas": "2"})
	numbers := make([]int, 100)
	for n := 0; n < partitions*each; n += len(numbers) {
		for i := range numbers {
			numbers[i] = n + i
		}
		s.ours(topic, int32(n/len(numbers)%partitions), numbers...)
	}
	r := readBackOf(map[string]Marks{topic: {Offsets: make([]int64, partitions)}})
	r.Rerouted = true
	for dead := range 3 {
		ended := make(chan error, 1)
		reader := newScribe(t, cluster.Brokers())
		go func() { ended <- cluster.KillBroker(dead) }()
		found := reader.readBack(r)
		require.NoError(t, <-ended)
		require.Len(t, found.Published, partitions*each)
		again := reader.readBack(r) // with the dead leader still in its metadata
		require.Len(t, again.Published, partitions*each)
		require.NoError(t, cluster.StartBroker(t.Context(), dead))
	}
}

// A tombstone in structured mode is an event like any other.
func TestReadBackTombstones(t *testing.T) {
	t.Parallel()
	cluster := kafkatest.Shared(t)
	s := newScribe(t, cluster.Brokers())
	for _, mode := range []Mode{Binary, Structured} {
		topic := cluster.NewTopic(t, 1, nil)
		rules := withMode(mode)
		rules.Tables[0].NullPayload = NullTombstone
		enc, b := encoderFor(t, rules), newBatch()
		encodeInto(t, enc, b, numbered(1, "order", "k"))
		deletion := numbered(2, "order", "k")
		deletion.Data, deletion.HasData = nil, false
		encodeInto(t, enc, b, deletion)
		require.Nil(t, b.record(1).Value)
		s.put(topic, 0, b)
		found := s.readBack(readBackOf(map[string]Marks{topic: {Offsets: []int64{0}}}))
		assert.Equal(t, at(2), found.Topics[topic].Partitions[0].Written, "%s: the tombstone would be repeated", mode)
	}
}

// The last value of a key in the checkpoint topic, wherever it is.
func TestCompactedTopicLast(t *testing.T) {
	t.Parallel()
	cluster := kafkatest.Shared(t)
	s := newScribe(t, cluster.Brokers())
	name := cluster.NewTopic(t, 1, nil)
	log := kafka.NewCompactedTopic(s.client, name)
	put := func(key string, value []byte, n int) {
		for n > 0 {
			b := newBatch()
			for b.count() < 100 && n > 0 {
				b.addRecord(0, &sarama.Record{Key: []byte(key), Value: value})
				n--
			}
			s.put(name, 0, b)
		}
	}
	last := func(key string) string {
		t.Helper()
		value, err := log.Last(t.Context(), []byte(key))
		require.NoError(t, err)
		if value == nil {
			return "none"
		}
		return string(value)
	}
	assert.Equal(t, "none", last("a"))
	put("a", []byte("a1"), 1)
	assert.Equal(t, "a1", last("a"))
	put("b", []byte("b1"), 1)
	put("a", []byte("a2"), 1)
	put("a", []byte("a3"), 1)
	assert.Equal(t, "a3", last("a"), "the newest of a window")
	assert.Equal(t, "b1", last("b"))
	put("c", []byte("c1"), 4000)
	put("c", []byte("c2"), 1)
	s.control(name)
	assert.Equal(t, "c2", last("c"))
	assert.Equal(t, "a3", last("a"), "far back")
	assert.Equal(t, "b1", last("b"))
	assert.Equal(t, "none", last("d"))
	put("a", nil, 1)
	assert.Equal(t, "none", last("a"), "a tombstone hides earlier values")
	s.deleteBelow(name, 3)
	assert.Equal(t, "none", last("b"), "deleted")
	assert.Equal(t, "c2", last("c"))

	_, err := kafka.NewCompactedTopic(s.client, kafkatest.TopicName(t)).Last(t.Context(), []byte("a"))
	require.ErrorIs(t, err, sarama.ErrUnknownTopicOrPartition)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = log.Last(ctx, []byte("d"))
	require.ErrorIs(t, err, context.Canceled)
}

// Where others write a lot, finding the streamer's checkpoint near the end is
// cheap.
func TestCompactedTopicLastReadsLittle(t *testing.T) {
	t.Parallel()
	cluster := fake.Start(t, kfake.NumBrokers(1), kfake.SeedTopics(1, "checkpoints"))
	s := newScribe(t, cluster.Brokers())
	value := make([]byte, 100<<10)
	for i := range 100 {
		b := newBatch()
		b.addRecord(0, &sarama.Record{Key: fmt.Appendf(nil, "slot-%d", i%2), Value: append(fmt.Appendf(nil, "%d ", i), value...)})
		s.put("checkpoints", 0, b)
	}
	var lowest int64 = 1000
	cluster.ControlKey(int16(kmsg.Fetch), func(request kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		lowest = min(lowest, request.(*kmsg.FetchRequest).Topics[0].Partitions[0].FetchOffset)
		return nil, nil, false
	})
	got, err := kafka.NewCompactedTopic(s.client, "checkpoints").Last(t.Context(), []byte("slot-0"))
	require.NoError(t, err)
	assert.Equal(t, "98 ", string(got[:3]))
	assert.GreaterOrEqual(t, lowest, int64(80))
}

// Compaction leaves gaps, even where a window begins.
func TestCompactedTopicLastOverGaps(t *testing.T) {
	t.Parallel()
	const name = "checkpoints"
	cluster := fake.Start(t, kfake.NumBrokers(1))
	require.NoError(t, cluster.CreateTopic(name, 1, map[string]string{
		"cleanup.policy": "compact", "min.cleanable.dirty.ratio": "0", "segment.bytes": "2000",
	}))
	s := newScribe(t, cluster.Brokers())
	for i := range 2000 {
		key := "busy"
		if i < 7 {
			key = fmt.Sprintf("idle-%d", i)
		}
		b := newBatch()
		b.addRecord(0, &sarama.Record{Key: []byte(key), Value: fmt.Append(nil, i)})
		s.put(name, 0, b)
	}
	cluster.Compact()
	log := kafka.NewCompactedTopic(s.client, name)
	for i := range 7 {
		value, err := log.Last(t.Context(), fmt.Appendf(nil, "idle-%d", i))
		require.NoError(t, err)
		assert.Equal(t, strconv.Itoa(i), string(value))
	}
	value, err := log.Last(t.Context(), []byte("busy"))
	require.NoError(t, err)
	assert.Equal(t, "1999", string(value))
}
