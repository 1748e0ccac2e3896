package faults

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"sync"

	"github.com/IBM/sarama"

	"github.com/outboxstream/streamer/internal/kafkatest"
)

// lsn is a position in the WAL of PostgreSQL.
type lsn uint64

func (l lsn) String() string { return fmt.Sprintf("%X/%X", uint64(l)>>32, uint32(l)) }

// findings are what an audit has found. All zero is good.
type findings struct {
	Lost       int // committed, not in Kafka
	Phantom    int // in Kafka, never inserted or rolled back
	Repeated   int // in Kafka more than once
	Altered    int // not what was inserted, or a repeat that differs
	Misordered int // before an earlier event of its aggregate, or in two partitions
	Early      int // confirmed to PostgreSQL before it was in Kafka
}

// audit compares Kafka with the journal, as records appear. Its methods may be
// called from any goroutine.
type audit struct {
	journal *journal

	mu        sync.Mutex
	reader    *kafkatest.Reader
	seen      map[string][sha256.Size]byte // by event id: the whole record
	last      map[string]int64             // by key: the highest number seen
	home      map[string]int32             // by key: its partition
	sequences map[string]string            // by partition: the highest ce_sequence
	published map[*transaction]bool        // transactions known to be complete in Kafka
	snapshot  bool                         // rows from before the slot are published first
	streaming bool                         // an event of the stream is in Kafka
	excused   map[string]bool              // event ids that Kafka has lost: the run does not wait for them
	found     findings
	examples  []string
}

func newAudit(j *journal, r *kafkatest.Reader) *audit {
	return &audit{
		journal: j, reader: r, seen: map[string][sha256.Size]byte{}, last: map[string]int64{},
		home: map[string]int32{}, sequences: map[string]string{}, published: map[*transaction]bool{},
	}
}

// follow reads the new records in Kafka.
func (a *audit) follow(ctx context.Context) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.reader.Read(ctx, func(m *sarama.ConsumerMessage) { a.judge(record{m}) })
}

// count raises one of the counters and keeps the first examples.
func (a *audit) count(counter *int, format string, arguments ...any) {
	*counter++
	const enough = 12
	if len(a.examples) < enough {
		a.examples = append(a.examples, fmt.Sprintf(format, arguments...))
	}
}

// judge checks one record.
func (a *audit) judge(r record) {
	id := r.header("ce_id")
	a.streaming = a.streaming || r.header("ce_snapshot") == ""
	e, undone := a.journal.lookup(id)
	if e == nil || undone {
		a.count(&a.found.Phantom, "%s: event %s was never committed (inserted: %t)", r.where(), id, e != nil)
		return
	}
	sum := fingerprint(r)
	if first, repeated := a.seen[id]; repeated {
		a.count(&a.found.Repeated, "%s: event %s (%s number %d) again", r.where(), id, e.aggregate, e.seq)
		if first != sum {
			a.count(&a.found.Altered, "%s: event %s differs from its first publication", r.where(), id)
		}
		return
	}
	a.seen[id] = sum
	a.compare(r, e)
	a.order(r, e)
}

// compare looks for differences from what was inserted.
func (a *audit) compare(r record, e *event) {
	switch {
	case sha256.Sum256(r.Value) != e.sum:
		a.count(&a.found.Altered, "%s: the payload is not what was inserted", r.where())
	case string(r.Key) != e.aggregate || r.header("ce_subject") != e.aggregate:
		a.count(&a.found.Altered, "%s: key or subject is not aggregate %s", r.where(), e.aggregate)
	case r.header("ce_type") != e.kind:
		a.count(&a.found.Altered, "%s: type is not %s", r.where(), e.kind)
	}
}

// order checks the numbers within the aggregate, its partition, and the
// positions in the record itself.
func (a *audit) order(r record, e *event) {
	if last := a.last[e.aggregate]; e.seq != last+1 {
		a.count(&a.found.Misordered, "%s: number %d of %s comes after %d", r.where(), e.seq, e.aggregate, last)
	}
	a.last[e.aggregate] = max(e.seq, a.last[e.aggregate])
	if home, known := a.home[e.aggregate]; known && home != r.Partition {
		a.count(&a.found.Misordered, "%s: %s was in partition %d before", r.where(), e.aggregate, home)
	}
	a.home[e.aggregate] = r.Partition
	partition := fmt.Sprintf("%s/%d", r.Topic, r.Partition)
	if sequence := r.header("ce_sequence"); sequence <= a.sequences[partition] {
		a.count(&a.found.Misordered, "%s: ce_sequence %s comes after %s", r.where(), sequence, a.sequences[partition])
	} else {
		a.sequences[partition] = sequence
	}
}

// fingerprint is a checksum of everything a consumer sees of a record, except
// its place and the history that it belongs to. An operator may change that
// history.
func fingerprint(r record) [sha256.Size]byte {
	var all bytes.Buffer
	fmt.Fprintf(&all, "%q %q %d", r.Key, r.Value, r.Timestamp.UnixMilli())
	for _, h := range r.Headers {
		if string(h.Key) == "streamer-stream" {
			continue
		}
		fmt.Fprintf(&all, " %q=%q", h.Key, h.Value)
	}
	return sha256.Sum256(all.Bytes())
}

// confirmed checks that everything below a position that PostgreSQL was told to
// forget is in Kafka. It follows Kafka first, so the caller must have read the
// position before.
func (a *audit) confirmed(ctx context.Context, position lsn) error {
	if err := a.follow(ctx); err != nil {
		return err
	}
	a.compareConfirmed(position)
	return nil
}

func (a *audit) compareConfirmed(position lsn) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.snapshot && !a.streaming {
		return // the slot begins after rows that are not published yet
	}
	for _, id := range a.journal.upTo(position, a.published) {
		if _, there := a.seen[id]; !there {
			a.count(&a.found.Early, "event %s is not in Kafka, but the slot is confirmed up to %s", id, position)
		}
	}
}

// size returns the number of different events seen in Kafka.
func (a *audit) size() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.seen)
}

// missing returns the number of committed events that follow has not read from
// Kafka yet.
func (a *audit) missing() (n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.journal.truth(func(id string, _ *event) {
		if _, there := a.seen[id]; !there && !a.excused[id] {
			n++
		}
	})
	return n
}

// soFar returns what is known before everything has been read.
func (a *audit) soFar() (findings, []string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.found, a.examples
}

// conclude returns the findings once everything has been read. What is missing
// counts as lost. If the streamer has refused to continue, only missing events
// before a published one count.
func (a *audit) conclude(refused bool) (findings, []string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	reached := map[string]int64{} // by aggregate: the last number in Kafka
	a.journal.truth(func(id string, e *event) {
		if _, there := a.seen[id]; there {
			reached[e.aggregate] = max(reached[e.aggregate], e.seq)
		}
	})
	a.journal.truth(func(id string, e *event) {
		_, there := a.seen[id]
		if !there && (!refused || e.seq < reached[e.aggregate]) {
			a.count(&a.found.Lost, "event %s (%s number %d, commit before %s) is not in Kafka", id, e.aggregate, e.seq, e.transaction.upper)
		}
	})
	for id := range a.seen {
		if _, undone := a.journal.lookup(id); undone {
			a.count(&a.found.Phantom, "event %s was rolled back and is in Kafka", id)
		}
	}
	return a.found, a.examples
}
