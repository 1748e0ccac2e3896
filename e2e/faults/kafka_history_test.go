package faults

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Some faults destroy what Kafka had acknowledged: a leader that was not in
// sync, a topic that is deleted. What was there before is then for Kafka to
// answer for; the streamer must lose nothing else, and must say what happened.

// destroyed makes the audit begin again with the topics as they are now. What
// it had seen before may be missing.
func (a *audit) destroyed() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.excused = map[string]bool{}
	for id := range a.seen {
		a.excused[id] = true
	}
	clear(a.seen)
	clear(a.last)
	clear(a.home)
	clear(a.sequences)
	clear(a.reader.next)
	a.found, a.examples = findings{}, nil
}

// missingThough is the number of events that were there before and are not any
// more.
func (a *audit) missingThough() (n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for id := range a.excused {
		if _, there := a.seen[id]; !there {
			n++
		}
	}
	return n
}

// judgeAfter tolerates that what was there before the destruction is missing,
// and gaps in the numbers of aggregates that come from it. The streamer's log
// must say it.
func (r *run) judgeAfter(f findings, says ...string) {
	r.t.Helper()
	excused := r.audit.excused
	require.NotEmpty(r.t, excused, "nothing was destroyed")
	assert.Zero(r.t, f.Phantom, "never committed")
	assert.Zero(r.t, f.Altered, "altered")
	gone := 0
	r.audit.journal.truth(func(id string, e *event) {
		if _, there := r.audit.seen[id]; there {
			return
		}
		if excused[id] {
			gone++
			return
		}
		assert.Fail(r.t, "lost", "event %s (%s number %d) is not in Kafka and has never been", id, e.aggregate, e.seq)
	})
	// They are Kafka's loss, and the run has not failed.
	r.result.Note = fmt.Sprintf("%d acknowledged events were destroyed with the log, and the streamer says so", gone)
	r.result.Lost, r.result.Misordered, r.result.Early = 0, 0, 0
	r.requireOrder()
	r.t.Logf("%d of %d events that were there before are gone, %d came again", gone, len(excused), f.Repeated)
	log := r.streamer.log()
	for _, pattern := range says {
		assert.Regexp(r.t, pattern, log, "the streamer does not say what happened")
	}
}

// requireOrder reads everything again and asserts that the first publications
// of each aggregate have the order of their commits, in which ce_sequence
// ascends, whatever partitions they are in; and that an aggregate that has
// changed its partition never goes back.
func (r *run) requireOrder() {
	r.t.Helper()
	firsts := map[string][]record{} // by key
	seen := map[string]bool{}
	topics := r.audit.reader.topics
	reader := newReader(r.kafka, topics...)
	defer func() { _ = reader.close() }()
	require.NoError(r.t, reader.read(r.ctx, func(one record) {
		if id := one.header("ce_id"); !seen[id] {
			seen[id] = true
			firsts[string(one.key)] = append(firsts[string(one.key)], one)
		}
	}))
	for key, records := range firsts {
		// Within a partition the sort changes nothing, or else the order is wrong.
		sorted := slices.SortedStableFunc(slices.Values(records), func(a, b record) int {
			return cmp.Compare(a.header("ce_sequence"), b.header("ce_sequence"))
		})
		r.requireAscent(key, sorted)
	}
}

func (r *run) requireAscent(key string, sorted []record) {
	r.t.Helper()
	last := map[int32]int64{} // by partition: the offset
	left := map[int32]bool{}
	var number int64
	for i, one := range sorted {
		e, undone := r.audit.journal.lookup(one.header("ce_id"))
		if e == nil || undone {
			continue // counted as a phantom
		}
		assert.Greater(r.t, e.seq, number, "%s: order of %s by ce_sequence", one.where(), key)
		number = e.seq
		if offset, begun := last[one.partition]; begun {
			assert.Greater(r.t, one.offset, offset, "%s: order of %s in its partition", one.where(), key)
		}
		last[one.partition] = one.offset
		if i > 0 && sorted[i-1].partition != one.partition {
			left[sorted[i-1].partition] = true
			assert.False(r.t, left[one.partition], "%s: %s is back in a partition it has left", one.where(), key)
		}
	}
}
