package faults

import (
	"crypto/sha256"
	"fmt"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/stretchr/testify/assert"
)

// The audit judges the streamer, so it is judged first. Each kind of damage is
// made by hand, and the audit must find it and name its kind.
func TestAudit(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		damage  func(b *bench)
		refused bool
		want    findings
	}{
		"nothing wrong":                  {damage: func(b *bench) { b.publishAll() }},
		"an event is missing at the end": {damage: func(b *bench) { b.publish("a1", "a2", "b1") }, want: findings{Lost: 1}},
		"an event is missing in the middle": {
			damage: func(b *bench) { b.publish("a1", "a3", "b1") },
			want:   findings{Lost: 1, Misordered: 1},
		},
		"the end is missing after a refusal": {damage: func(b *bench) { b.publish("a1", "a2") }, refused: true},
		"a gap is left by a refusal": {
			damage: func(b *bench) { b.publish("a1", "a3") }, refused: true,
			want: findings{Lost: 1, Misordered: 1},
		},
		"an event is there twice": {damage: func(b *bench) { b.publishAll(); b.publish("a2") }, want: findings{Repeated: 1}},
		"a repeat has another timestamp": {
			damage: func(b *bench) { b.publishAll(); b.late("a2") },
			want:   findings{Repeated: 1, Altered: 1},
		},
		"two events have changed places": {damage: func(b *bench) { b.publish("a2", "a1", "a3", "b1") }, want: findings{Misordered: 3}},
		"a rolled back event is there": {
			damage: func(b *bench) { b.publishAll(); b.publish("rolled back") },
			want:   findings{Phantom: 1},
		},
		"an event of an undone savepoint": {damage: func(b *bench) { b.publishAll(); b.publish("undone") }, want: findings{Phantom: 1}},
		"an event that nobody inserted":   {damage: func(b *bench) { b.publishAll(); b.publish("invented") }, want: findings{Phantom: 1}},
		"an event whose commit was lost": {
			damage: func(b *bench) { b.publishAll(); b.publish("in doubt, not there") },
			want:   findings{Phantom: 1},
		},
		"an event in doubt that was committed": {damage: func(b *bench) { b.publishAll(); b.commitDoubtful() }, want: findings{Lost: 1}},
		"a changed payload": {
			damage: func(b *bench) { b.records["a2"].Value = []byte("other"); b.publishAll() },
			want:   findings{Altered: 1},
		},
		"a wrong key": {
			damage: func(b *bench) { b.records["a2"].Key = []byte("b"); b.publishAll() },
			want:   findings{Altered: 1},
		},
		"a key in two partitions": {
			damage: func(b *bench) { b.records["a3"].Partition = 1; b.publishAll() },
			want:   findings{Misordered: 1},
		},
		"confirmed before it was published": {
			damage: func(b *bench) { b.publish("a1"); b.confirm(20); b.publish("a2", "a3", "b1") },
			want:   findings{Early: 1},
		},
		"confirmed when it was published": {damage: func(b *bench) { b.publish("a1", "a2"); b.confirm(20); b.publish("a3", "b1") }},
		"confirmed early and counted only once": {
			damage: func(b *bench) { b.confirm(10); b.confirm(15); b.publishAll() },
			want:   findings{Early: 1},
		},
		"published, then forgotten by a restore": {damage: func(b *bench) { b.publishAll(); b.forget("b1") }, want: findings{Phantom: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench()
			test.damage(b)
			b.journal.resolve(b.present, 100)
			got, examples := b.audit.conclude(test.refused)
			assert.Equal(t, test.want, got, "%v", examples)
		})
	}
}

// bench is an audit with a journal and records made by hand.
type bench struct {
	journal *journal
	audit   *audit
	records map[string]record
	present map[string]bool // tokens in table commits
	offset  int64
}

// newBench has four committed events, a1 to a3 and b1, whose commits end at
// 10, 20, 30 and 40, and some that were not committed.
func newBench() *bench {
	b := &bench{journal: newJournal(), records: map[string]record{}, present: map[string]bool{}}
	b.audit = newAudit(b.journal, nil)
	for i, id := range []string{"a1", "a2", "a3"} {
		b.insert(id, "a", int64(i+1), committed)
	}
	b.insert("b1", "b", 1, committed)
	b.insert("rolled back", "a", 4, rolledBack)
	b.insert("in doubt, not there", "a", 4, unknown)
	b.insert("undone", "c", 1, committed)
	b.journal.withdraw([]string{"undone"})
	b.records["invented"] = b.record("invented", "c", 90)
	return b
}

func (b *bench) insert(id, aggregate string, seq int64, end outcome) {
	tx := &transaction{token: id}
	e := &event{aggregate: aggregate, seq: seq, kind: "t", sum: sha256.Sum256([]byte("payload of " + id)), transaction: tx}
	b.journal.note(id, e)
	upper := lsn(10 * (len(b.records) + 1))
	b.records[id] = b.record(id, aggregate, upper)
	b.present[id] = end == committed
	if end == unknown {
		upper = 0
	}
	b.journal.settle(tx, end, upper)
}

func (b *bench) record(id, aggregate string, at lsn) record {
	r := record{&sarama.ConsumerMessage{
		Topic: "t", Key: []byte(aggregate), Value: []byte("payload of " + id), Timestamp: time.UnixMilli(1_700_000_000_000),
	}}
	for name, value := range map[string]string{
		"ce_id": id, "ce_subject": aggregate,
		"ce_type": "t", "ce_sequence": fmt.Sprintf("%016x-%08x", uint64(at), 1),
	} {
		r.Headers = append(r.Headers, &sarama.RecordHeader{Key: []byte(name), Value: []byte(value)})
	}
	return r
}

func (b *bench) publish(ids ...string) {
	for _, id := range ids {
		published := *b.records[id].ConsumerMessage
		published.Offset = b.offset
		b.offset++
		b.audit.judge(record{&published})
	}
}

func (b *bench) publishAll() { b.publish("a1", "a2", "a3", "b1") }

// late publishes an event again with another timestamp.
func (b *bench) late(id string) {
	b.records[id].Timestamp = b.records[id].Timestamp.Add(time.Millisecond)
	b.publish(id)
}

func (b *bench) commitDoubtful() { b.present["in doubt, not there"] = true }

func (b *bench) forget(id string) { b.present[id] = false }

func (b *bench) confirm(position lsn) { b.audit.compareConfirmed(position) }
