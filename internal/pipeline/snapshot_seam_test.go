package pipeline

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/checkpoint"
	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/replication"
	"github.com/outboxstream/streamer/router"
)

// numbered orders rows by a number.
func numbered(t testing.TB) replication.Order {
	t.Helper()
	o, err := replication.OrderBy([2]string{"n", "bigint"})
	require.NoError(t, err)
	return o
}

const seamStart = replication.LSN(1000) // of the slot

// seamRun is a snapshot into partitions, of which crashes lose a random suffix,
// and from which the application deletes what is published.
type seamRun struct {
	t          *testing.T
	random     *rand.Rand
	table      []int
	partitions [3][]seamRecord
	cursor     int // everything up to this number is acknowledged
	ordinal    uint32
	published  map[int]int
}

type seamRecord struct {
	number  int
	ordinal uint32
}

// resume is how an attempt decides where to begin, and what is there already.
type resume func(r *seamRun) (after int, held func(number, partition int) bool)

// bySeam is what the streamer does.
func bySeam(r *seamRun) (int, func(int, int) bool) {
	order := numbered(r.t)
	found := router.Found{Topics: map[string]router.FoundTopic{"topic": {Partitions: make([]router.FoundPartition, len(r.partitions))}}}
	for id, records := range r.partitions {
		if len(records) > 0 {
			last := records[len(records)-1]
			found.Landmarks = append(found.Landmarks, router.Landmark{
				Position: replication.Position{Commit: seamStart - 1, Ordinal: last.ordinal}, Topic: "topic", Partition: int32(id),
				Key: fmt.Sprintf(`["%d"]`, last.number),
			})
		}
	}
	record := checkpoint.Record{
		LSN: seamStart, Snapshot: &checkpoint.Snapshot{Begun: time.Unix(0, 0)},
		Topics: map[string]checkpoint.Topic{"topic": {Offsets: make([]int64, len(r.partitions))}},
	}
	s, err := newSeam(resumePoint{Record: record, order: order}, &found, "letters")
	require.NoError(r.t, err)
	require.Empty(r.t, found.Landmarks, "old rows need not reappear")
	r.ordinal = s.ordinal
	return r.cursor, func(number, partition int) bool {
		s.key = replication.Key{[]byte(strconv.Itoa(number))}
		return s.held("topic", int32(partition))
	}
}

func (r *seamRun) highest() (number int) {
	for _, records := range r.partitions {
		for _, record := range records {
			number = max(number, record.number)
		}
	}
	return number
}

// attempt publishes rows until it crashes.
func (r *seamRun) attempt(how resume) {
	after, held := how(r)
	budget := r.random.IntN(60)
	var sent [3]int
	for id := range r.partitions {
		sent[id] = len(r.partitions[id])
	}
	at := after
	for _, number := range r.table {
		if number <= after {
			continue
		}
		if budget--; budget < 0 {
			break
		}
		at = number
		if partition := number * 7 % len(r.partitions); !held(number, partition) {
			r.ordinal++
			r.partitions[partition] = append(r.partitions[partition], seamRecord{number, r.ordinal})
		}
	}
	if budget >= 0 { // the end of the table: everything is acknowledged
		r.cursor = at
		return
	}
	low := at
	for id, records := range r.partitions { // a part of what was in flight is lost
		kept := sent[id] + r.random.IntN(len(records)-sent[id]+1)
		if kept < len(records) {
			low = min(low, records[kept].number-1)
		}
		r.partitions[id] = records[:kept]
	}
	r.cursor = max(r.cursor, min(low, at)-r.random.IntN(10)) // saved a while ago
}

// playSeam runs attempts until the table is done, and returns how many rows are
// missing and how many there are twice.
func playSeam(t *testing.T, seed uint64, how resume) (lost, repeated int) {
	t.Helper()
	r := &seamRun{t: t, random: rand.New(rand.NewPCG(seed, 1)), published: map[int]int{}}
	const rows = 400
	for n := range rows {
		r.table = append(r.table, n+1)
	}
	for attempts := 0; r.cursor < rows; attempts++ {
		require.Less(t, attempts, 10_000)
		r.attempt(how)
		// The application deletes rows that are published.
		there := map[int]bool{}
		for _, records := range r.partitions {
			for _, record := range records {
				there[record.number] = true
			}
		}
		r.table = slices.DeleteFunc(r.table, func(n int) bool { return there[n] && n != rows && r.random.IntN(8) == 0 })
	}
	for _, records := range r.partitions {
		assert.True(t, slices.IsSortedFunc(records, func(a, b seamRecord) int { return int(a.ordinal) - int(b.ordinal) }))
		for _, record := range records {
			r.published[record.number]++
		}
	}
	for n := range rows {
		switch times := r.published[n+1]; {
		case times == 0:
			lost++
		case times > 1:
			repeated += times - 1
		}
	}
	return lost, repeated
}

// TestSeam crashes snapshots at random places. It also shows that simpler ways
// to go on lose or repeat rows, so that the test can tell.
func TestSeam(t *testing.T) {
	t.Parallel()
	never := func(int, int) bool { return false }
	for name, test := range map[string]struct {
		how            resume
		loses, repeats bool
	}{
		"cursor and last keys": {how: bySeam},
		"the cursor only":      {func(r *seamRun) (int, func(int, int) bool) { return r.cursor, never }, false, true},
		"the highest key":      {func(r *seamRun) (int, func(int, int) bool) { return r.highest(), never }, true, false},
		"counting": {func(r *seamRun) (int, func(int, int) bool) {
			left := [3]int{}
			for id, records := range r.partitions {
				for _, record := range records {
					if record.number > r.cursor {
						left[id]++
					}
				}
			}
			return r.cursor, func(_, partition int) bool {
				left[partition]--
				return left[partition] >= 0
			}
		}, true, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var lost, repeated int
			for seed := range uint64(40) {
				l, r := playSeam(t, seed, test.how)
				lost, repeated = lost+l, repeated+r
			}
			t.Logf("%d lost, %d repeated", lost, repeated)
			assert.Equal(t, test.loses, lost > 0, "lost")
			assert.Equal(t, test.repeats, repeated > 0, "repeated")
		})
	}
}

func TestSeamRefuses(t *testing.T) {
	t.Parallel()
	pending := func() resumePoint {
		return resumePoint{order: numbered(t), Record: checkpoint.Record{
			LSN: seamStart, Snapshot: &checkpoint.Snapshot{Table: "public.outbox"},
			Topics: map[string]checkpoint.Topic{"topic": {Offsets: []int64{0, 0}}},
		}}
	}
	landmark := router.Landmark{Position: replication.Position{Commit: seamStart - 1, Ordinal: 7}, Topic: "topic", Key: `["5"]`}
	topic := func(partitions int) map[string]router.FoundTopic {
		return map[string]router.FoundTopic{"topic": {Partitions: make([]router.FoundPartition, partitions)}}
	}
	streamed := landmark
	streamed.Position.Commit, streamed.Key = seamStart, ""
	broken := landmark
	broken.Key = `["x"]`
	for says, found := range map[string]router.Found{
		"has 3 partitions and had 2":           {Topics: topic(3)},
		"holds event \"\" of the stream after": {Topics: topic(2), Landmarks: []router.Landmark{streamed}},
		"cannot be ordered":                    {Topics: topic(2), Landmarks: []router.Landmark{broken}},
	} {
		_, err := newSeam(pending(), &found, "letters")
		require.ErrorContains(t, err, says)
		assert.Equal(t, failure.Refused, failure.ClassOf(err), says)
	}
	s, err := newSeam(pending(), &router.Found{
		Topics: topic(2), Landmarks: []router.Landmark{landmark}, Keys: map[string]struct{}{`["3"]`: {}},
		Published: map[replication.Position]struct{}{{Commit: seamStart - 1, Ordinal: 9}: {}},
	}, "letters")
	require.NoError(t, err)
	assert.EqualValues(t, 9, s.ordinal, "also that of a dead letter")
	assert.True(t, s.isBuried([]byte(`["3"]`)))
	assert.False(t, s.isBuried([]byte(`["4"]`)))

	without := pending()
	without.Snapshot = nil
	s, err = newSeam(without, &router.Found{Landmarks: []router.Landmark{landmark}}, "letters")
	require.NoError(t, err)
	assert.Nil(t, s)
}
