package faults

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Some faults destroy what Kafka had acknowledged: a leader that was not in
// sync, a topic that is deleted. Kafka is responsible for what was there
// before. The streamer must lose nothing else, and must say what happened.

// destroyed makes the audit begin again with the topics as they are now. What
// the audit had seen before may be missing.
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
	a.reader.Rewind()
	a.found, a.examples = findings{}, nil
}

// missingThough returns the number of events that were there before and no
// longer are.
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

// judgeAfter tolerates missing events that were there before the destruction,
// and the gaps in the numbers of aggregates that they leave. The streamer's log
// must mention the loss.
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
	// Kafka lost them. The run has not failed.
	r.result.Note = fmt.Sprintf("%d acknowledged events were destroyed with the log, and the streamer says so", gone)
	r.result.Lost, r.result.Misordered, r.result.Early = 0, 0, 0
	r.requireOrder()
	r.t.Logf("%d of %d events that were there before are gone, %d came again", gone, len(excused), f.Repeated)
	log := r.streamer.log()
	for _, pattern := range says {
		assert.Regexp(r.t, pattern, log, "the streamer does not say what happened")
	}
}

// requireOrder reads everything again and checks the first publication of each
// event of an aggregate. These must have the order of their commits, with
// ascending ce_sequence, whatever partitions they are in. An aggregate that has
// changed its partition must never go back.
func (r *run) requireOrder() {
	r.t.Helper()
	firsts := map[string][]record{} // by key
	seen := map[string]bool{}
	r.readAgain(func(one record) {
		if id := one.header("ce_id"); !seen[id] {
			seen[id] = true
			firsts[string(one.Key)] = append(firsts[string(one.Key)], one)
		}
	})
	for key, records := range firsts {
		// Within a partition the sort changes nothing. Otherwise the order is
		// wrong.
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
		if offset, begun := last[one.Partition]; begun {
			assert.Greater(r.t, one.Offset, offset, "%s: order of %s in its partition", one.where(), key)
		}
		last[one.Partition] = one.Offset
		if i > 0 && sorted[i-1].Partition != one.Partition {
			left[sorted[i-1].Partition] = true
			assert.False(r.t, left[one.Partition], "%s: %s is back in a partition it has left", one.where(), key)
		}
	}
}
