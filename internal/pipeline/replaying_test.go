package pipeline

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/checkpoint"
	"github.com/outboxstream/streamer/decoder"
	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/replication"
	"github.com/outboxstream/streamer/router"
)

// replays makes the process a replay of what commits below 0x9000.
func (s *stage) replays(r Replay) *Replay {
	r.ID, r.Request, r.StreamID, r.From, r.Until = "replay-1", "everything", "4d2f6c1e00aa55ff", firstLSN, 0x9000
	s.config.Replay, s.config.Until = &r, r.Until
	return &r
}

// A replay ends by itself when everything requested is published. It does not
// end the stream cleanly, because the slot is no longer needed.
func TestReplay(t *testing.T) {
	t.Parallel()
	perform(t, func(s *stage) {
		r := s.replays(Replay{IDs: map[string]struct{}{"a": {}, "c": {}}})
		var reached []replication.LSN
		r.Reached = func(lsn replication.LSN) { reached = append(reached, lsn) }
		s.world.forked = true // the oracle knows nothing of replays
		s.transaction(0x2000, "a", "b")
		s.transaction(0x3000, "c")
		s.transaction(0x9000, "d")
		s.stream()
		after, err := s.exit()
		s.world.failures = nil
		require.NoError(s, err)
		assert.Less(s, after, 50*time.Millisecond)
		assert.True(s, s.pipeline.Complete())
		assert.Equal(s, []string{"a", "c"}, s.ids())
		assert.Equal(s, "replay-1", s.ledger.last().Replay.ID)
		assert.EqualValues(s, 0x9000, s.ledger.last().LSN)
		assert.True(s, s.reader().finished.IsZero())
		assert.True(s, slices.IsSorted(reached))
	})
}

// A paced replay publishes one event after the other, and everything else
// continues meanwhile. Asked to stop within a transaction, it ends cleanly at
// once, and the next run continues from there.
func TestReplayIsPaced(t *testing.T) {
	t.Parallel()
	perform(t, func(s *stage) {
		s.replays(Replay{Rate: 1})
		s.world.forked = true
		rows := []string{"a", "b", "c", "d", "e", "f", "g", "h"}
		s.transaction(0x2000, rows...)
		s.stream()
		s.at(5500 * time.Millisecond)
		assert.Equal(s, rows[:6], s.ids(), "the first at once, then one a second")
		confirmed := s.reader().confirmations()
		assert.GreaterOrEqual(s, len(confirmed), 2, "the old position is confirmed")
		assert.Equal(s, firstLSN, s.reader().last())
		s.stop()
		after, err := s.exit()
		require.NoError(s, err)
		assert.Equal(s, 5500*time.Millisecond, after)
		assert.False(s, s.pipeline.Complete())
		assert.False(s, s.reader().finished.IsZero(), "cleanly")
		assert.Equal(s, firstLSN, s.ledger.last().LSN, "the transaction has not ended")
		s.stream()
		s.at(7500 * time.Millisecond) // events passed over are paced as well
		assert.Equal(s, rows, s.ids(), "nothing is repeated")
		s.world.failures = nil
	})
}

// A replay up to a time ends when all further commits are certain to be later,
// a minute after it.
func TestReplayOfATimeIsComplete(t *testing.T) {
	t.Parallel()
	perform(t, func(s *stage) {
		began := time.Now()
		s.replays(Replay{Before: began.Add(time.Second)})
		s.world.forked = true
		s.stream()
		s.commit(0x2000, "a")
		s.at(59 * time.Second)
		s.commit(0x3000, "late")
		s.at(60 * time.Second)
		require.True(s, s.process.running(), "commit times may be out of order")
		s.at(62 * time.Second)
		s.commit(0x4000, "too late")
		_, err := s.exit()
		require.NoError(s, err)
		assert.True(s, s.pipeline.Complete())
		assert.Equal(s, []string{"a"}, s.ids())
		s.world.failures = nil
	})
}

// A second replay does not wait for the first.
func TestReplayDoesNotStandBy(t *testing.T) {
	t.Parallel()
	perform(t, func(s *stage) {
		s.replays(Replay{})
		s.otherHolds(true)
		s.start()
		s.began = time.Now()
		after, err := s.exit()
		assert.Equal(s, failure.Refused, failure.ClassOf(err))
		require.ErrorContains(s, err, "a streamer holds the lock")
		assert.Equal(s, 2*time.Second+time.Millisecond, after, "plus one millisecond for connecting")
	})
}

// A replay continues only from its own record.
func TestReplayOwnsItsRecord(t *testing.T) {
	t.Parallel()
	mine := purposeOf(Config{Replay: &Replay{ID: "replay-1"}})
	assert.True(t, mine.owns(checkpoint.Record{Replay: &checkpoint.Replay{ID: "replay-1"}}))
	assert.False(t, mine.owns(checkpoint.Record{Replay: &checkpoint.Replay{ID: "replay-2"}}))
	assert.False(t, mine.owns(checkpoint.Record{}))
	assert.True(t, streaming{}.owns(checkpoint.Record{}))
}

// What a purpose decides about rows that cannot be published, and about ending
// the stream.
func TestPurposes(t *testing.T) {
	t.Parallel()
	replay := &Replay{ID: "replay-1", StreamID: "4d2f6c1e00aa55ff", Rate: 3}
	id := checkpoint.Record{Identity: checkpoint.Identity{SystemID: "7", Database: "shop", Slot: "streamer"}, History: 2}
	for name, test := range map[string]struct {
		purpose        purpose
		stream, mark   string
		passes, buries bool
		parts, limited bool
	}{
		"streaming": {purposeOf(Config{}), StreamID(id.Identity, 2), "", false, true, true, false},
		"replaying": {purposeOf(Config{Replay: replay}), "4d2f6c1e00aa55ff", "replay-1", true, true, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			assert.Equal(t, test.stream, test.purpose.streamID(id))
			assert.Equal(t, test.mark, test.purpose.mark())
			assert.Equal(t, test.passes, test.purpose.passes(router.Rules{}), "without a topic for dead letters")
			assert.Equal(t, test.buries, test.purpose.passes(router.Rules{DeadLetterTopic: "letters"}))
			assert.Equal(t, test.parts, test.purpose.parts())
			assert.Equal(t, test.limited, test.purpose.limiter() != nil)
		})
	}
}

// A replay publishes the events that match all of its limits.
func TestReplayWants(t *testing.T) {
	t.Parallel()
	noon := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	routes, err := router.NewRouter(router.Rules{
		Tables: []router.TableRules{{
			Source: "/shop", Type: "{type}", Topic: "outbox.{aggregate_type}", Key: "{aggregate_id}",
			Mode: router.Binary, NullPayload: router.NullJSON,
			Columns: map[decoder.Attribute]string{
				decoder.ID: "id", decoder.AggregateType: "aggregatetype", decoder.AggregateID: "aggregateid", decoder.Type: "type",
				decoder.Payload: "payload",
			},
			Schema: "public", Table: "outbox",
		}},
		Database: "shop", StreamID: "4d2f6c1e00aa55ff",
	})
	require.NoError(t, err)
	e := &decoder.Event{Position: replication.Position{Commit: 0x2000, Ordinal: 1}, CommitTime: noon.UnixMicro()}
	e.SetAttribute(decoder.ID, []byte("event-1"))
	e.SetAttribute(decoder.AggregateType, []byte("order"))
	e.SetAttribute(decoder.AggregateID, []byte("k7"))
	e.SetAttribute(decoder.Type, []byte("placed"))
	for name, test := range map[string]struct {
		replay Replay
		want   bool
	}{
		"everything":                 {Replay{}, true},
		"since its commit":           {Replay{Since: noon}, true},
		"since later":                {Replay{Since: noon.Add(time.Microsecond)}, false},
		"before later":               {Replay{Before: noon.Add(time.Microsecond)}, true},
		"before its commit":          {Replay{Before: noon}, false},
		"its type":                   {Replay{AggregateTypes: []string{"customer", "order"}}, true},
		"a pattern of its type":      {Replay{AggregateTypes: []string{"ord*"}}, true},
		"another type":               {Replay{AggregateTypes: []string{"customer"}}, false},
		"its key":                    {Replay{Keys: []string{"k7"}}, true},
		"another key":                {Replay{Keys: []string{"k8"}}, false},
		"its topic":                  {Replay{Topics: []string{"outbox.order"}}, true},
		"another topic":              {Replay{Topics: []string{"outbox.customer"}}, false},
		"its topic, and another key": {Replay{Topics: []string{"outbox.order"}, Keys: []string{"k8"}}, false},
		"its id":                     {Replay{IDs: map[string]struct{}{"event-1": {}}}, true},
		"another id":                 {Replay{IDs: map[string]struct{}{"event-2": {}}}, false},
		"no id":                      {Replay{IDs: map[string]struct{}{}}, false},
	} {
		assert.Equal(t, test.want, test.replay.wants(e, routes), name) // one goroutine: a router is not shared
	}
	assert.False(t, (&Replay{Before: noon.Add(-time.Minute)}).passed(e), "times may be out of order by a minute")
	assert.True(t, (&Replay{Before: noon.Add(-time.Minute - time.Microsecond)}).passed(e))
	assert.False(t, (&Replay{}).passed(e))
}
