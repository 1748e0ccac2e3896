package locate

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/replication"
	"github.com/outboxstream/streamer/router/kafka"
	"github.com/outboxstream/streamer/router/wire"
)

// partition is a partition in memory, which may have gaps.
type partition struct {
	mu      sync.Mutex
	records []kafka.LogRecord
	scans   int
	passed  int // records handed out
	fails   error
}

func (p *partition) Scan(ctx context.Context, log kafka.Log, visit func(*kafka.LogRecord) error) error {
	p.mu.Lock()
	p.scans++
	p.mu.Unlock()
	from, _ := slices.BinarySearchFunc(p.records, log.From, func(r kafka.LogRecord, offset int64) int { return cmp.Compare(r.Offset, offset) })
	for i := from; i < len(p.records) && p.records[i].Offset < log.End; i++ {
		r := &p.records[i]
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		if p.fails != nil {
			return p.fails
		}
		p.mu.Lock()
		p.passed++
		p.mu.Unlock()
		if err := visit(r); err != nil {
			return err
		}
	}
	return nil
}

func (p *partition) log() kafka.Log {
	l := kafka.Log{Topic: "t", Partition: 3}
	if n := len(p.records); n > 0 {
		l.Start, l.End = p.records[0].Offset, p.records[n-1].Offset+1
	}
	return l
}

var epoch = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

// at is a commit of one event a second.
func at(second int) replication.Position {
	return replication.Position{Commit: replication.LSN(1000 + 10*second), Ordinal: 1}
}

// add appends the record of a commit.
func (p *partition) add(offset int64, stream string, second int, more ...kafka.LogHeader) {
	when := epoch.Add(time.Duration(second) * time.Second)
	header := func(name, value string) kafka.LogHeader {
		return kafka.LogHeader{Key: []byte(name), Value: []byte(value)}
	}
	p.records = append(p.records, kafka.LogRecord{Offset: offset, Time: when, Value: []byte("{}"), Headers: append([]kafka.LogHeader{
		header("ce_id", strconv.Itoa(second)), header("ce_source", "/s"), header("ce_type", "t"),
		header("ce_time", when.Format(time.RFC3339Nano)), header("ce_sequence", wire.FormatSequence(at(second))),
		header(wire.StreamHeader, stream),
	}, more...)})
}

// foreign appends the record of another program.
func (p *partition) foreign(offset int64) {
	id := kafka.LogHeader{Key: []byte("id"), Value: []byte("x")}
	p.records = append(p.records, kafka.LogRecord{Offset: offset, Time: epoch, Headers: []kafka.LogHeader{id}})
}

func replayed(id string) kafka.LogHeader {
	return kafka.LogHeader{Key: []byte(wire.ReplayHeader), Value: []byte(id)}
}

func TestOf(t *testing.T) {
	t.Parallel()
	const n = 20_000
	long, mixed, replay := &partition{}, &partition{}, &partition{}
	for i := range n {
		long.add(int64(i), "s", i)
		mixed.foreign(int64(5 * i))
		mixed.add(int64(5*i+1), "other", n-i)
		mixed.add(int64(5*i+3), "s", i) // and markers take offsets
		replay.add(int64(2*i), "s", i)
		replay.add(int64(2*i+1), "s", i/2, replayed("r"))
	}
	ofStream := InTurn([]string{"s"})
	short := &partition{}
	short.foreign(7)
	for name, c := range map[string]struct {
		p            *partition
		q            Question
		offset       int64
		below, above int // seconds, -1: none
	}{
		"a position":                {long, Question{Counts: InTurn([]string{"s"}), Below: BelowLSN(at(17_000).Commit)}, 17_000, 16_999, 17_000},
		"between positions":         {long, Question{Counts: InTurn(nil), Below: BelowLSN(at(17_000).Commit - 1)}, 17_000, 16_999, 17_000},
		"before all":                {long, Question{Counts: InTurn(nil), Below: BelowLSN(1)}, 0, -1, 0},
		"after all":                 {long, Question{Counts: InTurn(nil), Below: BelowLSN(1 << 40)}, n, n - 1, -1},
		"a time":                    {long, Question{Counts: InTurn(nil), Below: Before(epoch.Add(5 * time.Second))}, 5, 4, 5},
		"among others and markers":  {mixed, Question{Counts: ofStream, Below: BelowLSN(at(12_345).Commit)}, 5*12_344 + 4, 12_344, 12_345},
		"among replays":             {replay, Question{Counts: ofStream, Below: BelowLSN(at(12_345).Commit)}, 2*12_344 + 1, 12_344, 12_345},
		"nothing of such a stream":  {short, Question{Counts: InTurn(nil), Below: BelowLSN(5)}, 7, -1, -1},
		"nothing at all":            {&partition{}, Question{Counts: InTurn(nil), Below: BelowLSN(5)}, 0, -1, -1},
		"one of many replayed ones": {replay, Question{Counts: InTurn([]string{"none"}), Below: BelowLSN(5)}, 0, -1, -1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, err := Of(t.Context(), c.p, c.p.log(), c.q)
			require.NoError(t, err)
			assert.Equal(t, c.offset, b.Offset)
			for second, met := range map[int]*Landmark{c.below: b.Below, c.above: b.Above} {
				if second < 0 {
					continue
				}
				if assert.NotNil(t, met) {
					assert.Equal(t, at(second), met.Position)
				}
			}
			assert.Equal(t, c.below < 0, b.Below == nil)
			assert.Equal(t, c.above < 0, b.Above == nil)
		})
	}
}

// A place is found in a few fetches, however long the partition is.
func TestOfIsQuick(t *testing.T) {
	t.Parallel()
	p := &partition{}
	for i := range 1 << 17 {
		p.add(int64(i), "s", i)
	}
	b, err := Of(t.Context(), p, p.log(), Question{Counts: InTurn(nil), Below: BelowLSN(at(99_999).Commit), Fine: 256})
	require.NoError(t, err)
	assert.LessOrEqual(t, b.Offset, int64(99_999))
	assert.Greater(t, b.Offset, int64(99_999-256))
	assert.LessOrEqual(t, p.scans, 9)
	assert.Equal(t, p.scans, p.passed, "one record of each")
	p.fails = errors.New("broken")
	_, err = Of(t.Context(), p, p.log(), Question{Counts: InTurn(nil), Below: BelowLSN(1)})
	require.ErrorIs(t, err, p.fails)
}

func TestAround(t *testing.T) {
	t.Parallel()
	p := &partition{}
	for i := range 100 {
		p.add(int64(i), "s", i)
	}
	logs := []kafka.Log{p.log(), {Topic: "t", Partition: 4}}
	below, above, err := Around(t.Context(), p, logs, []string{"s"}, at(42).Commit)
	require.NoError(t, err)
	assert.Equal(t, epoch.Add(41*time.Second), below)
	assert.Equal(t, epoch.Add(42*time.Second+time.Millisecond), above)
	below, above, err = Around(t.Context(), p, logs, []string{"other"}, at(42).Commit)
	require.NoError(t, err)
	assert.Zero(t, below)
	assert.Zero(t, above)
}

func TestBackwards(t *testing.T) {
	t.Parallel()
	const n = 5*chunk + 10
	p := &partition{}
	for i := range n {
		p.add(int64(i), "s", i)
	}
	never := func() bool { return false }
	t.Run("to the beginning", func(t *testing.T) {
		t.Parallel()
		log := p.log()
		log.From = 7
		seen := make([]bool, n)
		var mu sync.Mutex
		read, err := Backwards(t.Context(), p, []kafka.Log{log, {Topic: "empty"}}, 3, func(of kafka.Log, r *kafka.LogRecord) {
			mu.Lock()
			defer mu.Unlock()
			assert.False(t, seen[r.Offset], "each once")
			assert.EqualValues(t, 3, of.Partition)
			seen[r.Offset] = true
		}, never)
		require.NoError(t, err)
		require.Len(t, read, 2)
		assert.EqualValues(t, 7, read[0].From)
		assert.Equal(t, read[1].From, read[1].End)
		for offset, was := range seen {
			assert.Equal(t, offset >= 7, was)
		}
	})
	t.Run("until there is enough", func(t *testing.T) {
		t.Parallel()
		log := p.log()
		log.From = log.Start
		var mu sync.Mutex
		lowest := int64(n)
		read, err := Backwards(t.Context(), p, []kafka.Log{log}, 2, func(_ kafka.Log, r *kafka.LogRecord) {
			mu.Lock()
			defer mu.Unlock()
			lowest = min(lowest, r.Offset)
		}, func() bool {
			mu.Lock()
			defer mu.Unlock()
			return lowest < n
		})
		require.NoError(t, err)
		assert.Equal(t, lowest, read[0].From, "what was begun was read to its end")
		assert.GreaterOrEqual(t, lowest, int64(n-4*chunk))
	})
	t.Run("until the time is over", func(t *testing.T) {
		t.Parallel()
		log := p.log()
		log.From = log.Start
		ctx, cancel := context.WithCancel(t.Context())
		read, err := Backwards(ctx, p, []kafka.Log{log}, 1, func(_ kafka.Log, r *kafka.LogRecord) {
			if r.Offset == n-2*chunk+5 {
				cancel()
			}
		}, never)
		require.NoError(t, err)
		assert.EqualValues(t, n-chunk, read[0].From, "half a chunk does not count")
	})
	t.Run("until an error", func(t *testing.T) {
		t.Parallel()
		broken := &partition{records: p.records, fails: errors.New("broken")}
		log := broken.log()
		read, err := Backwards(t.Context(), broken, []kafka.Log{log}, 2, func(kafka.Log, *kafka.LogRecord) {}, never)
		require.ErrorIs(t, err, broken.fails)
		assert.Equal(t, log.End, read[0].From)
	})
}
