package find

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/checkpoint"
	"github.com/outboxstream/streamer/cmd/streamer/internal/console"
	"github.com/outboxstream/streamer/cmd/streamer/internal/deadletter"
	"github.com/outboxstream/streamer/internal/config"
	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/internal/goldentest"
	"github.com/outboxstream/streamer/replication"
	"github.com/outboxstream/streamer/router"
	"github.com/outboxstream/streamer/router/kafka"
)

func TestParsePosition(t *testing.T) {
	t.Parallel()
	commit := replication.Position{Commit: 0xDA08CE68}
	first := replication.Position{Commit: 0xDA08CE68, Ordinal: 1}
	for text, want := range map[string]replication.Position{
		"0/DA08CE68": commit, "0/da08ce68": commit, "0/DA08CE68+1": first, "00000000da08ce68-00000001": first,
	} {
		got, err := parsePosition(text)
		require.NoError(t, err, text)
		assert.Equal(t, want, got, text)
	}
	for _, text := range []string{
		"", "DA08CE68", "0/XYZ", "0/0", "0/0+1", "0/DA08CE68+",
		"0/DA08CE68+0", "0/DA08CE68+x", "0/DA08CE68+1+1", "00000000da08ce68",
	} {
		_, err := parsePosition(text)
		assert.Equal(t, failure.Misconfigured, failure.ClassOf(err), text)
	}
}

func TestUsage(t *testing.T) {
	t.Parallel()
	key := "k"
	loaded := func() (*config.Loaded, error) { return nil, errors.New("no server is asked") }
	for says, c := range map[string]Command{
		"--lsn":         {LSN: "yesterday"},
		"--since":       {ID: "a", Since: "yesterday"},
		"--until":       {ID: "a", Until: "0/1"},
		"is not before": {ID: "a", Since: "1h", Until: "2h"},
	} {
		c.Limit, c.Timeout = 1, time.Second
		require.NoError(t, c.Validate())
		err := c.Run(t.Context(), loaded, console.Streams{})
		assert.Equal(t, failure.Misconfigured, failure.ClassOf(err), says)
		require.ErrorContains(t, err, says)
	}
	for says, c := range map[string]Command{
		"name an event": {Limit: 1, Timeout: 1}, "--limit": {Key: &key, Timeout: 1}, "--timeout": {ID: "a", Limit: 1, Timeout: -1},
	} {
		require.ErrorContains(t, c.Validate(), says)
	}
}

func TestWants(t *testing.T) {
	t.Parallel()
	key := "o1"
	at := replication.Position{Commit: 100, Ordinal: 2}
	byID, byKey := asked{id: "a", key: &key, at: at}, asked{key: &key}
	assert.True(t, byID.wants([]byte("a"), nil, replication.Position{}), "the rest says only where to look")
	assert.False(t, byID.wants([]byte("b"), []byte("o1"), at))
	assert.True(t, byKey.wants([]byte("b"), []byte("o1"), at))
	assert.False(t, byKey.wants([]byte("b"), []byte("o2"), at))
	assert.False(t, byKey.wants([]byte("b"), nil, at))
	assert.True(t, asked{at: at}.wants(nil, nil, at))
	assert.True(t, asked{at: replication.Position{Commit: 100}}.wants(nil, nil, at))
	assert.False(t, asked{at: at}.wants(nil, nil, replication.Position{Commit: 100, Ordinal: 1}))
	both := asked{key: &key, at: at}
	assert.True(t, both.wants(nil, []byte("o1"), at))
	assert.False(t, both.wants(nil, []byte("o2"), at))
}

func TestTimeOf(t *testing.T) {
	t.Parallel()
	for id, want := range map[string]string{
		"017f22e2-79b0-7cc3-98c4-dc0c0c07398f": "2022-02-22T19:22:22Z",
		"017F22E279B07CC398C4DC0C0C07398F":     "2022-02-22T19:22:22Z",
		"01ARZ3NDEKTSV4RRFFQ69G5FAV":           "2016-07-30T23:54:10.259Z",
		"01arz3ndektsv4rrffq69g5fav":           "2016-07-30T23:54:10.259Z",
	} {
		at, ok := timeOf(id)
		require.True(t, ok, id)
		assert.Equal(t, want, at.Format(time.RFC3339Nano), id)
	}
	for _, id := range []string{
		"", "4711", "1f8c0c95-814c-46ff-a761-be1075d4b2da", "ffffffff-ffff-7fff-bfff-ffffffffffff", "00000000-0000-7000-8000-000000000000",
		"81ARZ3NDEKTSV4RRFFQ69G5FAV", "01ARZ3NDEKTSV4RRFFQ69G5FAU", "order with 26 characters!!",
	} {
		_, ok := timeOf(id)
		assert.False(t, ok, id)
	}
}

func TestReadPart(t *testing.T) {
	t.Parallel()
	p := &readPart{}
	for _, span := range [][2]int64{{10, 20}, {30, 40}, {5, 5}, {20, 25}, {0, 3}, {24, 31}, {33, 35}} {
		p.add(span[0], span[1])
	}
	assert.Equal(t, [][2]int64{{0, 3}, {10, 40}}, p.spans)
	assert.True(t, p.covers(12, 40))
	assert.False(t, p.covers(2, 11))
}

func TestRecordKinds(t *testing.T) {
	t.Parallel()
	e := &Event{}
	at, moved := replication.Position{Commit: 1, Ordinal: 1}, replication.Position{Commit: 2, Ordinal: 1}
	for _, r := range []Record{
		{Topic: "t", Offset: 30, Kind: Replayed, at: at},
		{Topic: "t", Offset: 20, Kind: InTurn, at: at},
		{Topic: "t", Offset: 10, Kind: InTurn, at: at},
		{Topic: "t", Offset: 10, Kind: InTurn, at: at}, // met twice
		{Topic: "t", Offset: 40, Kind: InTurn, at: moved},
		{Topic: "t", Partition: 1, Offset: 10, Kind: InTurn, Stream: "other", at: at},
	} {
		e.add(r)
	}
	e.sortRecords()
	var kinds []Kind
	for _, r := range e.Records {
		kinds = append(kinds, r.Kind)
	}
	assert.ElementsMatch(t, []Kind{InTurn, Repeat, Replayed, InTurn, InTurn}, kinds)
	assert.Equal(t, Repeat, e.Records[1].Kind)
}

func TestLastReplay(t *testing.T) {
	t.Parallel()
	assert.Nil(t, replayOfRecord(checkpoint.Record{}))
	assert.Nil(t, replayOfRecord(checkpoint.Record{Replay: &checkpoint.Replay{ID: "x", From: "0/1", Until: "0/2"}}))
	r := replayOfRecord(checkpoint.Record{Replay: &checkpoint.Replay{ID: "2026-11-21T11:33:26.155Z", From: "0/10", Until: "0/20"}})
	require.NotNil(t, r)
	assert.False(t, r.holds(replication.Position{Commit: 0xF}))
	assert.True(t, r.holds(replication.Position{Commit: 0x10}))
	assert.False(t, r.holds(replication.Position{Commit: 0x20}))
}

func TestCompareGroups(t *testing.T) {
	t.Parallel()
	r := Record{Topic: "t", Partition: 2, Offset: 100}
	group := func(offset int64) kafka.Group {
		return kafka.Group{Name: "g", State: "Stable", Offsets: map[kafka.TopicPartition]int64{{Topic: "t", Partition: 2}: offset}}
	}
	for says, g := range map[string]kafka.Group{
		"has passed it":                                         group(101),
		"has not passed it: it is the next one":                 group(100),
		"has not reached it: 99 records before it":              group(1),
		"has committed no offset in this partition":             {Name: "g", Offsets: map[kafka.TopicPartition]int64{{Topic: "t"}: 5}},
		"has not reached it: 100 records before it, and nobody": {Name: "g", State: "Empty", Offsets: group(0).Offsets},
	} {
		assert.True(t, strings.HasPrefix(compare(g, r, 150).distance(), says), "%s: %s", says, compare(g, r, 150).distance())
	}
	assert.EqualValues(t, 49, compare(group(101), r, 150).Lag)
	assert.EqualValues(t, 0, compare(group(151), r, 150).Lag)
	assert.True(t, consumes(group(1), "t"))
	assert.False(t, consumes(group(1), "u"))
}

var noon = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

func letter(state router.Verb) *deadletter.Letter {
	return &deadletter.Letter{
		ID: "0:17", Topic: "letters", State: state, Class: "too_large", Reason: "is too large", ResolvedBy: "alice", ResolvedAt: noon,
	}
}

// One sentence says where an event is, whatever was found.
func TestAnswers(t *testing.T) {
	t.Parallel()
	row := &Row{Table: "public.outbox"}
	record := Record{Topic: "t", Offset: 7, Kind: InTurn}
	zero := int64(0)
	for name, c := range map[string]struct {
		e              Event
		snapshot, read bool
		state          State
		says           []string
	}{
		"published, no group": {
			e:     Event{Records: []Record{record}},
			state: Published, says: []string{"published; no consumer group"},
		},
		"published twice": {
			e:     Event{Records: []Record{record, {Kind: Repeat}}},
			state: Published, says: []string{"published 2 times"},
		},
		"published by another": {
			e:     Event{Records: []Record{{Kind: Foreign}}},
			state: Published, says: []string{"by another program"},
		},
		"passed by all": {
			e:     Event{Records: []Record{record}, Groups: []Group{{Group: "a", Passed: true}}},
			state: Published, says: []string{"and 1 consumer group of its topic has passed it"},
		},
		"passed by one record": {
			e: Event{
				Records: []Record{record, {Kind: Repeat}},
				Groups:  []Group{{Group: "a", Passed: true}, {Group: "a", Committed: &zero}},
			},
			state: Published, says: []string{"1 consumer group"},
		},
		"not reached by one": {
			e: Event{
				Records: []Record{record},
				Groups:  []Group{{Group: "a", Passed: true}, {Group: "billing", Committed: &zero, Before: 12345, Lag: 20000}},
			},
			state: Published, says: []string{"published, but group billing has not reached it: 12,345 records before it"},
		},
		"open letter": {
			e:     Event{Row: row, DeadLetter: letter("open")},
			state: DeadLettered, says: []string{"not published", "dead-letters retry 0:17"},
		},
		"dropped letter": {
			e:     Event{DeadLetter: letter(router.Dropped)},
			state: Dropped, says: []string{"never to be published", "alice", "2026-11-21T12:00:00Z"},
		},
		"retried letter": {
			e:     Event{DeadLetter: letter(router.Retried), Records: []Record{{Kind: Late}}},
			state: Published, says: []string{"published late", "alice"},
		},
		"retried letter, unseen": {
			e:     Event{DeadLetter: letter(router.Retried)},
			state: Published, says: []string{"its record was not found"},
		},
		"waiting": {
			e:     Event{Row: row, Waits: &Wait{Slot: "s", Before: 1234, Bytes: 3 << 20, InUse: true}},
			state: Waiting, says: []string{`waiting in slot "s": 1,234 events and 3.0 MiB of WAL before it; a streamer reads the slot`},
		},
		"waiting, no streamer": {
			e:     Event{Waits: &Wait{Slot: "s", Before: 1}},
			state: Waiting, says: []string{"1 event and", "no streamer reads the slot"},
		},
		"waiting behind poison": {
			e:     Event{Waits: &Wait{Behind: `event "x" at 0/1+1: value is NULL`}},
			state: Waiting, says: []string{"behind a row that can never be published", "value is NULL"},
		},
		"waiting as poison": {
			e:     Event{Waits: &Wait{Problem: "value is NULL"}},
			state: Waiting, says: []string{"it can never be published: value is NULL"},
		},
		"snapshot under way": {e: Event{Row: row}, snapshot: true, state: Snapshot, says: []string{"not published yet"}},
		"from before the slot": {
			e:    Event{Row: row, complete: true},
			read: true, state: NotPublished, says: []string{"before the slot began", "replay --missing"},
		},
		"the topic was not read": {e: Event{Row: row}, state: Unknown, says: []string{"not everything was looked at"}},
		"its row is poison": {
			e:     Event{Row: &Row{Problem: "value is NULL"}},
			state: Unknown, says: []string{"can never be published: value is NULL"},
		},
		"its row was poison": {
			e:    Event{Row: &Row{Problem: "value is NULL"}},
			read: true, state: NotPublished, says: []string{"not waiting", "value is NULL"},
		},
		"not where it should be": {
			e:     Event{Row: row, complete: true, slotRead: true},
			state: Unknown, says: []string{"not where its row says, and not waiting"},
		},
		"far back in the slot": {e: Event{Row: row, complete: true}, state: Unknown, says: []string{"it probably waits there"}},
		"the record may have gone": {
			e:    Event{Row: row, complete: true, gone: "it begins at 5"},
			read: true, state: Unknown, says: []string{"may have expired", "begins at 5"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := c.e
			e.State = e.state(c.snapshot, c.read)
			assert.Equal(t, c.state, e.State)
			for _, words := range c.says {
				assert.Contains(t, e.answer(), words)
			}
		})
	}
}

// The screen, with all that can be on it.
func TestScreen(t *testing.T) {
	t.Parallel()
	at := replication.Position{Commit: 0xDA08CE68, Ordinal: 1}
	next := int64(800_000)
	e := &Event{
		ID: "1f8c0c95-814c-46ff-a761-be1075d4b2da", Source: "/outbox/shop/public.outbox", Type: "com.example.order.placed",
		Row: &Row{Table: "public.outbox", Time: noon, Topic: "outbox.event.order"},
		Records: []Record{
			{Topic: "outbox.event.order", Partition: 2, Offset: 812_345, Timestamp: noon.Add(time.Millisecond), Kind: InTurn, at: at},
			{
				Topic: "outbox.event.order", Partition: 2, Offset: 900_001, Timestamp: noon.Add(time.Hour), Kind: Replayed,
				Replay: "2026-11-21T13:10:00.000Z", at: at,
			},
		},
		DeadLetter: letter(router.Retried),
		Groups: []Group{
			{Group: "mail", State: "Stable", Topic: "t", Partition: 2, Offset: 812_345, Committed: &next, Passed: true, Lag: 3},
			{Group: "billing", State: "Empty", Topic: "t", Partition: 2, Offset: 812_345, Committed: &next, Before: 12_345, Lag: 112_345},
		},
	}
	e.locate(at, noon)
	slot := replication.Slot{
		Name: "streamer", Confirmed: 0xDA090000, Flushed: 0xDA0A0000, Lag: 65536, Active: true, ActivePID: 4711,
	}
	s := &search{
		events: []*Event{e}, notes: []string{"consumer groups that the streamer's principal may not describe"}, began: time.Now(), more: true,
		members: []*member{{slot: slot}},
		missing: []string{"outbox.event.refund"}, records: 4812,
		read: map[kafka.TopicPartition]*readPart{
			{Topic: "outbox.event.order", Partition: 2}: {log: kafka.Log{End: 1_700_000}, spans: [][2]int64{{810_000, 814_812}}},
		},
	}
	s.conclude()
	var screen bytes.Buffer
	require.NoError(t, s.report(console.Streams{Out: &screen}))
	goldentest.Equal(t, "screen", steady(screen.String()))

	other := &Event{ID: "2", Row: &Row{Table: "public.outbox", Problem: "value is NULL"}}
	s.events, s.asked = append(s.events, other), asked{id: "1"}
	s.conclude()
	screen.Reset()
	require.NoError(t, s.report(console.Streams{Out: &screen}))
	goldentest.Equal(t, "several", steady(screen.String()))

	s.events = nil
	screen.Reset()
	require.NoError(t, s.report(console.Streams{Out: &screen}))
	assert.Contains(t, screen.String(), "\nevent \"1\": no trace in what was looked at\n")

	s.command.JSON, s.events = true, []*Event{e}
	screen.Reset()
	require.NoError(t, s.report(console.Streams{Out: &screen}))
	before, _, _ := strings.Cut(screen.String(), `"seconds"`)
	goldentest.Equal(t, "json", before)
}

// steady replaces how long it took.
func steady(screen string) string {
	before, _, found := strings.Cut(screen, " partition, in ")
	if !found {
		return screen
	}
	_, after, _ := strings.Cut(screen[len(before):], "\n")
	return before + " partition, in TIME\n" + after
}
