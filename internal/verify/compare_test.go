package verify

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/replication"
	"github.com/outboxstream/streamer/router/kafka"
	"github.com/outboxstream/streamer/router/wire"
)

// bench is a comparison under test.
type bench struct {
	t        *testing.T
	c        *Comparison
	findings []Finding
	expect   *Expectation
}

func newBench(t *testing.T, change ...func(*Options)) *bench {
	t.Helper()
	b := &bench{t: t}
	o := Options{TempDir: t.TempDir(), Streams: []string{"s"}, Limit: 100}
	for _, f := range change {
		f(&o)
	}
	b.c = New(o, func(f Finding) error {
		b.findings = append(b.findings, f)
		return nil
	})
	t.Cleanup(b.c.Close)
	var err error
	b.expect, err = NewExpectation(sampleRules())
	require.NoError(t, err)
	return b
}

// row adds event n; change may be nil.
func (b *bench) row(n int, change func(*Row)) {
	b.t.Helper()
	row, err := b.expect.Row(sampleValues(n, "x"))
	require.NoError(b.t, err)
	if change != nil {
		change(row)
	}
	require.NoError(b.t, b.c.AddRow(row, 0))
}

const sampleTopic = "outbox.event.order"

// records adds events by their numbers to partition 0, at offsets from 0 on.
func (b *bench) records(numbers ...int) {
	b.t.Helper()
	log := b.c.OpenLog(kafka.Log{Topic: sampleTopic}, false)
	for offset, n := range numbers {
		r := sampleRecord(n, "x")
		r.Offset = int64(offset)
		require.NoError(b.t, log.Add(r))
	}
}

func (b *bench) compare() Counts {
	b.t.Helper()
	counts, err := b.c.Compare(b.t.Context(), nil)
	require.NoError(b.t, err)
	return counts
}

// told abbreviates each finding: kind, event and offset.
func (b *bench) told() []string {
	var all []string
	for _, f := range b.findings {
		text := f.Kind.String() + " " + strings.TrimLeft(f.EventID[strings.LastIndexByte(f.EventID, '-')+1:], "0")
		if f.At != nil {
			text += fmt.Sprintf(" @%d", f.At.Offset)
		}
		if f.Other != nil {
			text += fmt.Sprintf(" after @%d", f.Other.Offset)
		}
		all = append(all, text)
	}
	return all
}

func TestComparison(t *testing.T) {
	t.Parallel()
	strict := func(o *Options) { o.Strict = true }
	for name, c := range map[string]struct {
		rows, records []int
		options       func(*Options)
		want          []string
	}{
		"nothing at all":         {},
		"everything is there":    {rows: []int{1, 2, 3}, records: []int{1, 2, 3}},
		"gaps are normal":        {rows: []int{1, 5, 9}, records: []int{1, 5, 9}},
		"a row without a record": {rows: []int{1, 2, 3}, records: []int{1, 3}, want: []string{"missing 2"}},
		"a deleted row":          {rows: []int{1}, records: []int{1, 2}},
		"a phantom":              {rows: []int{1}, records: []int{1, 2}, options: strict, want: []string{"phantom 2 @1"}},
		"a phantom twice is one": {
			rows:    []int{1},
			records: []int{1, 2, 2},
			options: strict,
			want:    []string{"repeated 2 @2 after @1", "phantom 2 @1"},
		},
		"a record younger than the rows": {
			rows:    []int{1},
			records: []int{1, 2},
			options: func(o *Options) { o.Strict, o.Opened = true, 0x1002 },
		},
		"a repeat": {rows: []int{1, 2}, records: []int{1, 2, 1}, want: []string{"repeated 1 @2 after @0"}},
		"a repeated suffix": {
			rows:    []int{1, 2, 3, 4},
			records: []int{1, 2, 3, 2, 3, 4},
			want:    []string{"repeated 2 @3 after @1", "repeated 3 @4 after @2"},
		},
		"an event behind a later one": {rows: []int{1, 2, 3}, records: []int{1, 3, 2}, want: []string{"out of order 2 @2 after @1"}},
		"a repeat is not out of order as well": {
			rows:    []int{1, 2, 3},
			records: []int{2, 3, 2, 1},
			want:    []string{"out of order 1 @3 after @1", "repeated 2 @2 after @0"},
		},
		"only the earliest are told": {
			rows:    []int{5, 1, 4, 2, 3},
			options: func(o *Options) { o.Limit = 2 },
			want:    []string{"missing 1", "missing 2"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, func(o *Options) {
				if c.options != nil {
					c.options(o)
				}
			})
			for _, n := range c.rows {
				b.row(n, func(r *Row) { r.Written = time.UnixMilli(int64(n)) })
			}
			b.records(c.records...)
			counts := b.compare()
			assert.Equal(t, c.want, b.told())
			assert.EqualValues(t, len(c.rows), counts.Rows)
			assert.EqualValues(t, len(c.records), counts.Records)
			if name == "only the earliest are told" {
				assert.EqualValues(t, 5, counts.Total())
			} else {
				assert.EqualValues(t, len(c.want), counts.Total())
			}
		})
	}
}

func TestAltered(t *testing.T) {
	t.Parallel()
	for part, change := range map[string]func(*Row){
		"payload":         func(r *Row) { h := HashPayload([]byte("y"), true); r.Payload = &h },
		"topic":           func(r *Row) { r.Topic = []byte("elsewhere") },
		"key":             func(r *Row) { r.Key = []byte("k") },
		"type":            func(r *Row) { r.Type = []byte("k") },
		"subject":         func(r *Row) { r.Subject = []byte("k") },
		"source":          func(r *Row) { r.Source = []byte("k") },
		"time":            func(r *Row) { r.Time = []byte("2026-11-21T11:33:26Z") },
		"datacontenttype": func(r *Row) { r.ContentType = []byte("text/plain") },
		"extensions":      func(r *Row) { r.Attributes = []Attribute{{"tenant", []byte("7")}} },
	} {
		t.Run(part, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, func(o *Options) { o.Attributes = []string{"tenant"} })
			b.row(1, change)
			b.records(1)
			b.compare()
			require.Len(t, b.findings, 1)
			assert.Equal(t, Altered, b.findings[0].Kind)
			assert.Equal(t, []string{part}, b.findings[0].Differs)
			assert.Contains(t, b.findings[0].String(), part+" differ from the row")
		})
	}
	t.Run("an absent payload is not an empty one", func(t *testing.T) {
		t.Parallel()
		assert.NotEqual(t, HashPayload(nil, true), HashPayload(nil, false))
	})
	t.Run("what is not known is not compared", func(t *testing.T) {
		t.Parallel()
		b := newBench(t)
		require.NoError(t, b.c.AddRow(&Row{ID: []byte(sampleID(1))}, -1))
		b.records(1)
		assert.Zero(t, b.compare().Total())
	})
	t.Run("a repeat without a row is compared with the first", func(t *testing.T) {
		t.Parallel()
		b := newBench(t)
		log := b.c.OpenLog(kafka.Log{Topic: sampleTopic}, false)
		require.NoError(t, log.Add(sampleRecord(1, "x")))
		r := sampleRecord(1, "y")
		r.Offset = 2
		require.NoError(t, log.Add(r))
		b.compare()
		assert.Equal(t, []string{"altered 1 @2 after @1", "repeated 1 @2 after @1"}, b.told())
	})
}

func TestExcuses(t *testing.T) {
	t.Parallel()
	t.Run("in flight", func(t *testing.T) {
		t.Parallel()
		b := newBench(t)
		b.row(1, nil)
		b.row(2, nil)
		require.NoError(t, b.c.Excuse([]byte(sampleID(1)), nil, InFlight))
		require.NoError(t, b.c.Excuse([]byte(sampleID(3)), nil, InFlight)) // not visible yet
		b.records(2)
		counts := b.compare()
		assert.Empty(t, b.findings)
		assert.EqualValues(t, 1, counts.InFlight)
		assert.EqualValues(t, 2, counts.Rows)
	})
	t.Run("a dead letter", func(t *testing.T) {
		t.Parallel()
		b := newBench(t)
		b.row(1, nil)
		log := b.c.OpenLog(kafka.Log{Topic: "dead"}, false)
		for range 2 {
			require.NoError(t, log.Add(
				&kafka.LogRecord{Headers: headers("streamer-stream", "s", "streamer-dead-letter", "too_large", "streamer-event-id", sampleID(1))},
			))
		}
		require.NoError(
			t,
			log.Add(&kafka.LogRecord{Headers: headers("streamer-stream", "s", "streamer-dead-letter", "invalid_row", "streamer-event-id", "")}),
		)
		counts := b.compare()
		assert.Empty(t, b.findings)
		assert.EqualValues(t, 1, counts.DeadLettered)
		assert.Zero(t, counts.Records)
	})
	t.Run("nobody knows", func(t *testing.T) {
		t.Parallel()
		b := newBench(t)
		b.row(1, nil)
		b.c.Undecided()
		assert.EqualValues(t, 1, b.compare().InFlight)
		assert.Empty(t, b.findings)
	})
	t.Run("a replay is a publication but no repeat", func(t *testing.T) {
		t.Parallel()
		b := newBench(t)
		b.row(1, nil)
		b.row(2, nil)
		b.records(2)
		log := b.c.OpenLog(kafka.Log{Topic: sampleTopic, Partition: 1}, false)
		for _, n := range []int{2, 1, 1} {
			r := sampleRecord(n, "x")
			r.Headers = append(r.Headers, headers(wire.ReplayHeader, "1")...)
			require.NoError(t, log.Add(r))
		}
		counts := b.compare()
		assert.Empty(t, b.findings)
		assert.EqualValues(t, 3, counts.Replays)
		assert.EqualValues(t, 2, counts.Published)
	})
	t.Run("records of others", func(t *testing.T) {
		t.Parallel()
		b := newBench(t)
		log := b.c.OpenLog(kafka.Log{Topic: sampleTopic}, false)
		require.NoError(t, log.Add(&kafka.LogRecord{}))
		r := sampleRecord(1, "x")
		r.Headers[len(r.Headers)-1].Value = []byte("another")
		require.NoError(t, log.Add(r))
		counts := b.compare()
		assert.EqualValues(t, 2, counts.Foreign)
		assert.Zero(t, counts.Records)
	})
}

func TestExpired(t *testing.T) {
	t.Parallel()
	written := func(n int) func(*Row) {
		return func(r *Row) { r.Written = time.UnixMilli(1_700_000_000_000 + int64(n)).UTC() }
	}
	position := func(n int) func(*Row) {
		return func(r *Row) { r.Position = replication.Position{Commit: replication.LSN(0x1000 + n), Ordinal: 1} }
	}
	add := func(b *bench, log kafka.Log, compacted, gap bool, numbers ...int) {
		l := b.c.OpenLog(log, compacted)
		for _, n := range numbers {
			r := sampleRecord(n, "x")
			r.AfterGap = gap && n == numbers[len(numbers)-1]
			require.NoError(b.t, l.Add(r))
		}
	}
	for name, c := range map[string]struct {
		log       kafka.Log
		compacted bool
		gap       bool // before the last record
		records   []int
		row       func(n int) func(*Row)
		expired   int64
		missing   []string
	}{
		"a whole log":             {kafka.Log{}, false, false, []int{10}, written, 0, []string{"missing 1", "missing 20"}},
		"older than what is left": {kafka.Log{Start: 9, From: 9}, false, false, []int{10}, written, 1, []string{"missing 20"}},
		"by position":             {kafka.Log{Start: 9, From: 9}, false, false, []int{10}, position, 1, []string{"missing 20"}},
		"of unknown age":          {kafka.Log{Start: 9, From: 9}, false, false, []int{10}, nil, 2, nil},
		"nothing is left":         {kafka.Log{Start: 9, From: 9, End: 9}, false, false, nil, written, 2, nil},
		"begun behind the start": {
			kafka.Log{Start: 9, From: 10},
			false, false,
			[]int{10},
			written, 0,
			[]string{"missing 1", "missing 20"},
		},
		"retention overtakes the scan":       {kafka.Log{}, false, true, []int{5, 15}, written, 1, []string{"missing 20"}},
		"compacted":                          {kafka.Log{}, true, true, []int{5, 15}, written, 2, nil},
		"a compacted log that lost its head": {kafka.Log{Start: 9, From: 9}, true, false, []int{10}, written, 2, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			for _, n := range []int{1, 20} {
				var change func(*Row)
				if c.row != nil {
					change = c.row(n)
				}
				b.row(n, change)
			}
			c.log.Topic = sampleTopic
			add(b, c.log, c.compacted, c.gap, c.records...)
			counts := b.compare()
			assert.Equal(t, c.expired, counts.Expired)
			assert.Equal(t, c.missing, b.told())
		})
	}
	t.Run("published late", func(t *testing.T) {
		t.Parallel()
		b := newBench(t)
		for _, n := range []int{1, 20} {
			b.row(n, written(n))
		}
		r := sampleRecord(10, "x")
		at := r.Time
		r.Time = at.Add(30 * time.Hour)
		for i, h := range r.Headers {
			if string(h.Key) == "ce_time" {
				r.Headers[i].Value = []byte(at.UTC().Format(time.RFC3339Nano))
			}
		}
		require.NoError(t, b.c.OpenLog(kafka.Log{Topic: sampleTopic, Start: 9, From: 9}, false).Add(r))
		assert.EqualValues(t, 1, b.compare().Expired)
		assert.Equal(t, []string{"missing 20"}, b.told())
	})
	t.Run("a partition that is not known may be any of the topic", func(t *testing.T) {
		t.Parallel()
		b := newBench(t)
		row, err := b.expect.Row(sampleValues(1, "x"))
		require.NoError(t, err)
		require.NoError(t, b.c.AddRow(row, -1))
		b.c.OpenLog(kafka.Log{Topic: sampleTopic, Partition: 0}, false)
		b.c.OpenLog(kafka.Log{Topic: sampleTopic, Partition: 1, Start: 5, From: 5}, false)
		assert.EqualValues(t, 1, b.compare().Expired)
	})
}

func TestSpan(t *testing.T) {
	t.Parallel()
	at := func(n int) time.Time { return time.UnixMilli(1_700_000_000_000 + int64(n)).UTC() }
	records := []int{1, 2, 3, 4, 1, 2, 3, 4} // each is repeated
	for name, c := range map[string]struct {
		span, written Span
		dated         bool
		repeated      []string
		outside       int64
		undated       int64
	}{
		"everything":     {Span{}, Span{}, false, []string{"1", "2", "3", "4"}, 0, 0},
		"by time":        {Span{FromTime: at(2), ToTime: at(4)}, Span{FromTime: at(2), ToTime: at(4)}, true, []string{"2", "3"}, 1, 0},
		"by position":    {Span{From: 0x1003}, Span{FromTime: at(2)}, true, []string{"3", "4"}, 1, 0},
		"without a date": {Span{To: 0x1003}, Span{ToTime: at(3)}, false, []string{"1", "2"}, 0, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, func(o *Options) { o.Span, o.Written = c.span, c.written })
			b.row(0, func(r *Row) {
				if c.dated {
					r.Written = at(0)
				}
			})
			b.records(records...)
			counts := b.compare()
			var repeated []string
			for _, f := range b.findings {
				if f.Kind == Repeated {
					repeated = append(repeated, strings.TrimLeft(f.EventID[len(f.EventID)-4:], "0"))
				}
			}
			assert.Equal(t, c.repeated, repeated)
			assert.Equal(t, c.outside, counts.Outside)
			assert.Equal(t, c.undated, counts.Undated)
		})
	}
	t.Run("a row that tells its position needs no date", func(t *testing.T) {
		t.Parallel()
		b := newBench(t, func(o *Options) { o.Span, o.Written = Span{From: 0x1003}, Span{FromTime: at(3)} })
		for n := range 5 {
			b.row(n, func(r *Row) { r.Position = replication.Position{Commit: replication.LSN(0x1000 + n), Ordinal: 1} })
		}
		b.compare()
		assert.Equal(t, []string{"missing 3", "missing 4"}, b.told())
	})
}

func TestScattered(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	for n, partition := range []int32{0, 1, 0, 1, 2} {
		log := b.c.OpenLog(kafka.Log{Topic: sampleTopic, Partition: partition}, false)
		r := sampleRecord(n+1, "x")
		if partition == 2 {
			r.Key = []byte("another")
		}
		require.NoError(t, log.Add(r))
	}
	other := b.c.OpenLog(kafka.Log{Topic: "outbox.event.invoice", Partition: 5}, false)
	require.NoError(t, other.Add(sampleRecord(9, "x"))) // the same key, but another topic
	b.compare()
	require.Len(t, b.findings, 1)
	assert.Equal(t, Scattered, b.findings[0].Kind)
	assert.Equal(t, Place{sampleTopic, 1, 2}, *b.findings[0].At)
	assert.Equal(t, Place{sampleTopic, 0, 1}, *b.findings[0].Other)
}

func TestMalformed(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	log := b.c.OpenLog(kafka.Log{Topic: sampleTopic}, false)
	for offset, change := range []func(*kafka.LogRecord){
		func(r *kafka.LogRecord) { r.Headers = headers("streamer-stream", "s") },
		func(r *kafka.LogRecord) { r.Headers[6].Value = []byte("nonsense") },
		func(r *kafka.LogRecord) { r.Headers[1].Value = nil },
		func(r *kafka.LogRecord) {
			r.Headers, r.Value = headers("streamer-stream", "s", "content-type", "application/cloudevents+json"), []byte("{")
		},
		func(r *kafka.LogRecord) {
			r.Headers, r.Value = headers("streamer-stream", "s", "content-type", "application/cloudevents+json"), []byte(`{"id": "1"}`)
		},
	} {
		r := sampleRecord(1, "x")
		change(r)
		r.Offset = int64(offset)
		require.NoError(t, log.Add(r))
	}
	for range 3 * keptMalformed {
		require.NoError(t, log.Add(&kafka.LogRecord{Headers: headers("streamer-stream", "s")}))
	}
	counts := b.compare()
	assert.EqualValues(t, 5+3*keptMalformed, counts.Findings[Malformed])
	assert.Len(t, b.findings, keptMalformed)
}

// A replay from the table knows no positions, in neither mode.
func TestReplayWithoutPosition(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.row(1, nil)
	r := sampleRecord(1, "x")
	r.Headers = headers("content-type", "application/cloudevents+json; charset=UTF-8", wire.StreamHeader, "s", wire.ReplayHeader, "1")
	r.Value = fmt.Appendf(nil, `{"id":%q,"source":"/s","type":"t"}`, sampleID(1))
	head, ok := ReadHead(r)
	require.True(t, ok)
	assert.Equal(t, sampleID(1), string(head.ID))
	assert.Equal(t, "1", string(head.Replay))
	assert.Zero(t, head.Position)
	require.NoError(t, b.c.OpenLog(kafka.Log{Topic: sampleTopic}, false).Add(r))
	counts := b.compare()
	assert.EqualValues(t, 1, counts.Replays)
	assert.Zero(t, counts.Findings[Malformed])
}

// In structured mode the same event must yield the same facts.
func TestStructured(t *testing.T) {
	t.Parallel()
	document := func(id int, contentType, member, data string) *kafka.LogRecord {
		r := sampleRecord(id, "x")
		quoted, err := json.Marshal(contentType)
		require.NoError(t, err)
		text := fmt.Sprintf(
			`{"specversion":"1.0","id":%q,"source":"/outbox/shop/public.outbox","type":"com.example.order.placed","time":"2026-11-21T11:33:26Z",`+
				`"subject":"order-42","sequence":"%016x-00000001","tenant":7,"partitionkey":"order-42"`,
			sampleID(id), 0x1000+id,
		)
		if member != "" {
			text += `,"datacontenttype":` + string(quoted) + `,"` + member + `":` + data
		}
		r.Value = []byte(text + "}")
		r.Headers = headers("content-type", "application/cloudevents+json; charset=UTF-8", "streamer-stream", "s")
		return r
	}
	for name, c := range map[string]struct {
		contentType, member, data string
		payload                   []byte
	}{
		"json":   {"application/json", "data", `{"n": [1,  2]}`, []byte(`{"n": [1,  2]}`)},
		"text":   {"text/plain; charset=utf-8", "data", `"a \"b\" \u0001 é"`, []byte("a \"b\" \x01 é")},
		"bytes":  {"application/octet-stream", "data_base64", `"` + base64.StdEncoding.EncodeToString([]byte{0, 255}) + `"`, []byte{0, 255}},
		"absent": {"", "", "", nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, func(o *Options) { o.Attributes = []string{"tenant"} })
			hash := HashPayload(c.payload, c.payload != nil)
			row := Row{
				ID: []byte(sampleID(1)), Topic: []byte(sampleTopic), Key: []byte("order-42"),
				Type: []byte("com.example.order.placed"), Subject: []byte("order-42"),
				Source: []byte("/outbox/shop/public.outbox"), Time: []byte("2026-11-21T11:33:26Z"), Payload: &hash,
				HasAttributes: true, Attributes: []Attribute{{"tenant", []byte("7")}},
			}
			if c.contentType != "" {
				row.ContentType = []byte(c.contentType)
			}
			require.NoError(t, b.c.AddRow(&row, 0))
			row.ID = []byte(sampleID(2))
			other := HashPayload([]byte("other"), true)
			row.Payload = &other
			require.NoError(t, b.c.AddRow(&row, 0))
			log := b.c.OpenLog(kafka.Log{Topic: sampleTopic}, false)
			for id := range 2 {
				require.NoError(t, log.Add(document(id+1, c.contentType, c.member, c.data)))
			}
			b.compare()
			assert.Equal(t, []string{"altered 2 @2"}, b.told())
		})
	}
}

// The comparison, whether it spills or not, must find exactly what a simple one
// finds that keeps everything in memory.
func TestComparisonAgainstModel(t *testing.T) {
	t.Parallel()
	for seed := range uint64(60) {
		random := rand.New(rand.NewPCG(seed, 7))
		b := newBench(t, func(o *Options) { o.Strict, o.Limit = true, 10_000 })
		if seed%2 == 0 {
			b.c.spill.limit = 200 // bytes: nearly everything goes to the file
		}
		var rows, records []int
		for n := 1; n <= 300; n++ {
			if random.IntN(10) > 0 {
				rows = append(rows, n)
			}
			if random.IntN(10) > 0 {
				records = append(records, n)
			}
		}
		for range random.IntN(20) { // moved or repeated
			from, to := random.IntN(len(records)), random.IntN(len(records))
			moved := records[from]
			if random.IntN(2) == 0 {
				records = slices.Delete(records, from, from+1)
				to = min(to, len(records))
			}
			records = slices.Insert(records, to, moved)
		}
		for _, n := range rows {
			b.row(n, nil)
		}
		b.records(records...)
		counts := b.compare()
		if seed%2 == 0 {
			assert.NotZero(t, b.c.SpilledBytes())
		} else {
			assert.Zero(t, b.c.SpilledBytes())
		}
		assert.Equal(t, model(rows, records), counts.Findings, "seed %d: rows %v, records %v", seed, rows, records)
	}
}

// model counts findings by examining everything.
func model(rows, records []int) map[Kind]int64 {
	found := map[Kind]int64{}
	for _, n := range rows {
		if !slices.Contains(records, n) {
			found[Missing]++
		}
	}
	highest := 0
	for i, n := range records {
		if slices.Contains(records[:i], n) {
			found[Repeated]++
			continue
		}
		if !slices.Contains(rows, n) {
			found[Phantom]++
		}
		if n < highest {
			found[OutOfOrder]++
		}
		highest = max(highest, n)
	}
	return found
}

func FuzzEntry(f *testing.F) {
	e := entry{
		kind:     entryRecord,
		flags:    behind | inRange,
		id:       []byte("id"),
		place:    3,
		offset:   500,
		position: replication.Position{Commit: 77, Ordinal: 2},
		time:     -5,
		ahead:    9,
	}
	e.facts[factKey] = 17
	f.Add(e.append(nil))
	f.Add((&entry{kind: entryExcuse, id: []byte("x"), excuse: InFlight}).append(nil))
	f.Add((&entry{kind: entryKey, id: []byte("12345678"), time: 1}).append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		var e, again entry
		if e.decode(b) != nil {
			return
		}
		require.NoError(t, again.decode(e.append(nil)))
		assert.Equal(t, e, again)
	})
}
