package e2e

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/outboxstream/streamer/consume"
)

func replayed(by string) consume.Header {
	return consume.Header{Name: "streamer-replay", Value: []byte(by)}
}

const ledger = "select count(*) from inbox.claim"

// With one partition every key is at home.
func TestStreamLeavesOneRow(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.handle(0, record(0, 0, "a", 1), record(0, 1, "b", 2), record(0, 5, "a", 3))
	assert.ElementsMatch(t, []string{"e1", "e2", "e3"}, w.ids())
	assert.Zero(t, w.count(ledger), "the range covers all")
	assert.Equal(t, 1, w.count("select count(*) from inbox.range"))
	assert.Equal(t, 6, w.count("select next_offset from inbox.position"))

	w.mu.Lock()
	clear(w.committed)
	w.mu.Unlock()
	w.handle(0, record(0, 0, "a", 1), record(0, 1, "b", 2), record(0, 5, "a", 3), record(0, 6, "b", 4))
	assert.Len(t, w.ids(), 4)
	assert.Zero(t, w.count(ledger))
}

// What is judged by the range, and what by the ledger, is decided by the record.
func TestJudgement(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		before, again []consume.Record
		handled       []string // in the end
		kept          int      // in the ledger
	}{
		"a replay of what was handled is a repeat": {
			before:  []consume.Record{record(0, 0, "a", 5), record(0, 1, "a", 6)},
			again:   []consume.Record{record(0, 2, "a", 5, replayed("20261201T000000.000Z")), record(0, 3, "a", 6, replayed("20261201T000000.000Z"))},
			handled: []string{"e5", "e6"},
		},
		"a replay of what came before the consumer is handled, once": {
			before: []consume.Record{record(0, 0, "a", 5)},
			again: []consume.Record{
				record(0, 1, "a", 4, replayed("20261201T000000.000Z")), record(0, 2, "a", 4, replayed("20261202T000000.000Z")),
			},
			handled: []string{"e5", "e4"}, kept: 1,
		},
		"a dead letter that is published late is handled, once": {
			before:  []consume.Record{record(0, 0, "a", 5), record(0, 1, "a", 7)},
			again:   []consume.Record{record(0, 2, "a", 6, replayed("dead-letter")), record(0, 3, "a", 6, replayed("dead-letter"))},
			handled: []string{"e5", "e7", "e6"}, kept: 1,
		},
		"each event of a batch is judged by its own place": {
			before: []consume.Record{record(0, 0, "a", 5), record(0, 1, "a", 7)},
			again: []consume.Record{
				foreign(0, 2, "a", "x"), record(0, 3, "a", 5, replayed("20261201T000000.000Z")), record(0, 4, "a", 7, replayed("20261201T000000.000Z")),
			},
			handled: []string{"e5", "e7", "x"}, kept: 1,
		},
		"what a take-over found missing is handled": {
			before:  []consume.Record{record(0, 0, "a", 5)},
			again:   []consume.Record{record(0, 1, "a", 3, replayed("take-over"))},
			handled: []string{"e5", "e3"}, kept: 1,
		},
		"events of a foreign producer are in the ledger": {
			before:  []consume.Record{foreign(0, 0, "a", "x"), foreign(0, 1, "a", "y")},
			again:   []consume.Record{foreign(0, 2, "a", "x"), foreign(0, 3, "a", "z")},
			handled: []string{"x", "y", "z"}, kept: 3,
		},
		"a sequence of another form is not trusted": {
			before:  []consume.Record{foreign(0, 0, "a", "x", stream("aa"), sequence("9"))},
			again:   []consume.Record{foreign(0, 1, "a", "y", stream("aa"), sequence("10"))},
			handled: []string{"x", "y"}, kept: 2,
		},
		"another stream has an order of its own": {
			before:  []consume.Record{record(0, 0, "a", 5)},
			again:   []consume.Record{foreign(0, 1, "a", "other", stream("bb"), sequence("0000000000000001-00000000"))},
			handled: []string{"e5", "other"},
		},
		"one event twice in a batch": {
			before:  []consume.Record{record(0, 0, "a", 5), record(0, 1, "a", 6), record(0, 2, "a", 5), record(0, 3, "a", 6), record(0, 4, "a", 7)},
			again:   []consume.Record{record(0, 5, "a", 8)},
			handled: []string{"e5", "e6", "e7", "e8"},
		},
		"no key": {
			before:  []consume.Record{keyless(foreign(0, 0, "", "x")), keyless(foreign(0, 1, "", "y"))},
			again:   []consume.Record{keyless(foreign(0, 2, "", "x"))},
			handled: []string{"x", "y"}, kept: 2,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, 1)
			w.handle(0, c.before...)
			w.handle(0, c.again...)
			assert.Equal(t, c.handled, w.ids())
			assert.Equal(t, c.kept, w.count(ledger))
		})
	}
}

func stream(id string) consume.Header {
	return consume.Header{Name: "streamer-stream", Value: []byte(id)}
}
func sequence(s string) consume.Header { return consume.Header{Name: "ce_sequence", Value: []byte(s)} }
func keyless(r consume.Record) consume.Record {
	r.Key = nil
	return r
}

// A replay from the table has no sequence, so that nothing says whether its events
// were handled: the operator does.
func TestUnsequencedReplay(t *testing.T) {
	t.Parallel()
	again := foreign(0, 1, "a", "e5", stream("00000000000000aa"), replayed("20261201T000000.000Z"))
	again2 := foreign(0, 2, "a", "e9", stream("00000000000000aa"), replayed("20261201T000000.000Z"))
	for decision, want := range map[consume.Unsequenced][]string{
		consume.HandleOnce: {"e5", "e5", "e9"}, consume.PassOver: {"e5"}, consume.Refuse: {"e5"},
	} {
		t.Run(string(decision), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, 1)
			w.handle(0, record(0, 0, "a", 5))
			config := w.config()
			config.Unsequenced = decision
			for range 2 {
				r := w.start(config, w.pgx())
				p := r.assign(0)
				err := p.Deliver(r.ctx, again)
				if decision == consume.Refuse {
					oneSentence(t, err, "nothing says whether its event e5 was handled", "set Unsequenced")
					oneSentence(t, r.failure(), "replayed from the table", "set Unsequenced")
					r.close(p)
					continue
				}
				r.deliver(p, again2)
				r.settled(0, 3)
				r.close(p)
				r.stop()
				assert.NoError(t, r.failure())
				w.committed[0] = 1
			}
			assert.Equal(t, want, w.ids())
		})
	}
}

// Where ids are kept although a range covers them, even what comes in another
// history is a repeat.
func TestKeptIDs(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	config := w.config()
	config.Keep = 1 << 40
	r := w.start(config, w.pgx())
	p := r.assign(0)
	r.deliver(p, record(0, 0, "a", 5), foreign(0, 1, "a", "e5", stream("bb"), sequence("0000000000000001-00000000")))
	r.settled(0, 2)
	r.close(p)
	assert.Equal(t, []string{"e5"}, w.ids())
	assert.Equal(t, 1, w.count(ledger))
}
