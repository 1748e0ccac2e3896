package router

import (
	"cmp"
	"maps"
	"slices"

	"github.com/outboxstream/streamer/replication"
)

// run is a stretch of acknowledged records in a partition.
type run struct {
	base, end int64 // offsets; base is -1 if the broker did not say
	last      replication.Position
}

// partitionLog is what is known about a partition's records. A checkpoint
// stores the mark, so that the next start can read back the events above the
// checkpoint.
type partitionLog struct {
	mark  int64 // no event of the stream above the last checkpoint is before it
	end   int64 // end of the acknowledged records
	above []run // acknowledged, not yet below a checkpoint
}

// mostRuns bounds partitionLog.above. Beyond it neighbours are merged, and the
// next start reads back more than necessary.
const mostRuns = 1024

// add records an acknowledgement. lost is the number of offsets by which the
// partition has gone back.
func (l *partitionLog) add(w run) (lost int64) {
	if w.base >= 0 {
		lost = l.end - w.base
		l.mark = min(l.mark, w.base)
		l.end = w.end
	}
	l.above = append(l.above, w)
	if n := len(l.above); n > 1 && l.above[n-2].base > w.base {
		// A batch that was sent again is acknowledged after the batches that
		// follow it. It also sorts first if the broker does not say where it
		// is.
		slices.SortStableFunc(l.above, func(a, b run) int { return cmp.Compare(a.base, b.base) })
	}
	if len(l.above) >= mostRuns {
		half := l.above[:0]
		for i := 0; i+1 < len(l.above); i += 2 {
			half = append(half, l.above[i].with(l.above[i+1]))
		}
		l.above = half
	}
	return lost
}

// with merges two runs. As far as is known, w begins first.
func (w run) with(other run) run {
	w.end = max(w.end, other.end)
	if other.last.Compare(w.last) > 0 {
		w.last = other.last
	}
	return w
}

// markAt moves the mark to where events above the checkpoint can begin.
func (l *partitionLog) markAt(checkpoint replication.LSN) int64 {
	end := l.mark
	for len(l.above) > 0 && l.above[0].last.Commit < checkpoint {
		if l.above[0].base >= 0 {
			end = max(end, l.above[0].end)
		}
		l.above = l.above[1:]
	}
	switch {
	case len(l.above) > 0: // the first begins before all others, or at an unknown offset
		l.mark = max(l.mark, l.above[0].base)
	case end > l.mark: // if the partition has gone back, it ends before its old records
		l.mark = max(l.mark, min(end, l.end))
	}
	return l.mark
}

func newPartitionLog(f FoundPartition) partitionLog {
	l := partitionLog{mark: f.Mark, end: f.End}
	if f.End > f.Mark {
		l.above = []run{{base: f.Mark, end: f.End, last: f.Last}}
	}
	return l
}

// Marks returns the marks to store with a checkpoint at lsn: the offset from
// which each partition may hold an event above the checkpoint. lsn must not be
// lower than in the previous call.
func (p *Producer) Marks(lsn replication.LSN) map[string]Marks {
	p.mu.Lock()
	defer p.mu.Unlock()
	marks := map[string]Marks{}
	for name, found := range p.dormant {
		m := Marks{ID: found.ID, Offsets: make([]int64, len(found.Partitions)), Mixed: above(found.Mixed, lsn)}
		for i, part := range found.Partitions {
			l := newPartitionLog(part)
			m.Offsets[i] = l.markAt(lsn)
		}
		marks[name] = m
	}
	maps.Copy(marks, p.missing)
	for _, t := range p.known {
		if !t.admitted {
			continue
		}
		m := Marks{ID: t.id, Offsets: make([]int64, len(t.partitions)), Mixed: above(t.mixed, lsn)}
		for i, part := range t.partitions {
			if part.suspect == nil { // otherwise the partition may hold unacknowledged records
				part.log.markAt(lsn)
			}
			m.Offsets[i] = part.log.mark
		}
		marks[t.name] = m
	}
	return marks
}

// above reports whether an event is above a checkpoint.
func above(at replication.Position, checkpoint replication.LSN) bool {
	return at != replication.Position{} && at.Commit >= checkpoint
}

// Unstored reports whether events for a topic wait until a checkpoint with its
// marks is stored. Without that checkpoint a successor would not know that
// there is something to read back.
func (p *Producer) Unstored() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.unstored) > 0
}

// Stored records that a checkpoint with these marks is stored.
func (p *Producer) Stored(marks map[string]Marks) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for t := range maps.Clone(p.unstored) {
		if m := marks[t.name]; m.ID == t.id && len(m.Offsets) == len(t.partitions) {
			delete(p.unstored, t)
			t.ready.Store(true)
			p.announceLocked()
		}
	}
}
