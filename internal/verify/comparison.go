package verify

import (
	"bytes"
	"context"
	"encoding/binary"
	"hash/maphash"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/outboxstream/streamer/replication"
)

// Options of a comparison.
type Options struct {
	// TempDir is the folder for the temporary file; empty is the system's choice.
	TempDir string
	// Expect is roughly how many rows and records there will be.
	Expect int64
	// Attributes are the extensions that are compared.
	Attributes []string
	// BySource means that IDs are unique within their source only, as where several
	// tables are published.
	BySource bool
	// Streams are the identities under which the streamer published.
	Streams []string
	// Strict reports a record without a row as a finding. Otherwise it is only
	// counted: rows may be deleted from an outbox at any time.
	Strict bool
	// Union treats equal rows, from overlapping recordings, as one row.
	Union bool
	// Opened is the end of the WAL just before the rows were read: a record at or
	// above it may belong to a row that was not seen. 0 is no limit.
	Opened replication.LSN
	// Span limits what is reported about records. Written is the same span in
	// times, and limits what is reported about rows.
	Span, Written Span
	// Undecided treats all rows without a record as in flight, because it is
	// unknown which rows are.
	Undecided bool
	// Limit is how many findings of each kind are reported; 0 is all, in no
	// particular order.
	Limit int
}

// Excuse is why a row may have no record.
type Excuse uint8

// The excuses.
const (
	// InFlight rows are not confirmed as published yet.
	InFlight Excuse = iota + 1
	// DeadLettered rows went to a dead-letter topic instead.
	DeadLettered
)

// Counts says what was compared.
type Counts struct {
	Rows      int64 `json:"rows"`
	Published int64 `json:"published"` // rows with a record
	Records   int64 `json:"records"`   // of the given streams, repeats included
	Replays   int64 `json:"replays"`   // of the given streams, published again on purpose
	Foreign   int64 `json:"foreign"`   // other records in the same topics
	Unmatched int64 `json:"unmatched"` // records of the given streams without a row, no finding unless strict
	Newer     int64 `json:"newer"`     // records of the given streams that may be younger than the rows read
	// Rows without a record for which there is a reason:
	InFlight     int64 `json:"in_flight"`     // not confirmed yet
	DeadLettered int64 `json:"dead_lettered"` // in the dead-letter topic
	Expired      int64 `json:"expired"`       // deleted by Kafka's retention or compaction, or missing before: indistinguishable
	Outside      int64 `json:"outside"`       // outside the span
	Undated      int64 `json:"undated"`       // unknown whether in the span
	Unreadable   int64 `json:"unreadable"`    // tombstones in structured mode

	Findings map[Kind]int64 `json:"findings"`
}

// Total is the number of findings.
func (c Counts) Total() (n int64) {
	for _, count := range c.Findings {
		n += count
	}
	return n
}

// Comparison takes rows and records and reports what is wrong.
type Comparison struct {
	options    Options
	seed       maphash.Seed
	attributes map[string]bool
	streams    map[string]bool
	spill      *spill
	collector  collector
	counts     Counts
	scratch    []byte // of AddRow and Excuse

	mu     sync.Mutex // guards the fields below while partitions are read
	places []place
	byName map[placeName]uint32
	logs   []*Log
}

type placeName struct {
	topic     string
	partition int32
}

// place is a partition, or a topic where the partition is unknown (partition
// -1).
type place struct {
	placeName
	log *Log
}

// New opens a comparison; Close must follow.
func New(o Options, report func(Finding) error) *Comparison {
	c := &Comparison{
		options: o, seed: maphash.MakeSeed(), attributes: map[string]bool{}, streams: map[string]bool{},
		spill: newSpill(o.TempDir, o.Expect), collector: collector{limit: o.Limit, report: report}, byName: map[placeName]uint32{},
	}
	for _, name := range o.Attributes {
		c.attributes[name] = true
	}
	for _, id := range o.Streams {
		c.streams[id] = true
	}
	return c
}

// Close removes the temporary file.
func (c *Comparison) Close() { c.spill.close() }

// SpilledBytes is the size of the temporary file.
func (c *Comparison) SpilledBytes() int64 { return c.spill.bytes() }

// Undecided sets Options.Undecided.
func (c *Comparison) Undecided() { c.options.Undecided = true }

// AddRow takes an event that should be in Kafka. partition is the one to which
// its key belongs, -1 if unknown. AddRow is not for concurrent use.
func (c *Comparison) AddRow(r *Row, partition int32) error {
	e := entry{
		kind:     entryRow,
		id:       c.options.identity(r.ID, r.Source),
		facts:    r.facts(c.seed, c.attributes),
		place:    c.place(string(r.Topic), partition),
		position: r.Position,
	}
	if !r.Written.IsZero() {
		e.time = r.Written.UnixMicro()
	}
	in, told := c.inSpan(r)
	e.mark(inRange, in)
	e.mark(undated, !told)
	e.mark(unreadable, r.Unreadable)
	return c.add(&e)
}

func (e *entry) mark(f entryFlags, on bool) {
	if on {
		e.flags |= f
	}
}

// Excuse records that the row with this ID, in this source, may have no record.
// It is not for concurrent use.
func (c *Comparison) Excuse(id, source []byte, why Excuse) error {
	return c.add(&entry{kind: entryExcuse, id: c.options.identity(id, source), excuse: why})
}

// identity is what a row and its record have in common. A NUL, which neither
// part can hold, separates them.
func (o *Options) identity(id, source []byte) []byte {
	if !o.BySource {
		return id
	}
	return slices.Concat(id, []byte{0}, source)
}

// eventID is the ID in an identity.
func eventID(identity []byte) string {
	id, _, _ := bytes.Cut(identity, []byte{0})
	return string(id)
}

func (c *Comparison) add(e *entry) error {
	c.scratch = e.append(c.scratch[:0])
	return c.spill.add(maphash.Bytes(c.seed, e.id), c.scratch)
}

func (c *Comparison) place(topic string, partition int32) uint32 {
	c.mu.Lock()
	defer c.mu.Unlock()
	name := placeName{topic, partition}
	i, known := c.byName[name]
	if !known {
		i = uint32(len(c.places))
		c.places = append(c.places, place{placeName: name})
		c.byName[name] = i
	}
	return i
}

// Compare judges everything that was added. progress may be nil; it is called
// with the share that is done.
func (c *Comparison) Compare(ctx context.Context, progress func(done, of int)) (Counts, error) {
	for _, log := range c.logs {
		c.counts.Records += log.records
		c.counts.Replays += log.replays
		c.counts.Foreign += log.foreign
		for _, f := range log.malformed {
			if err := c.collector.found(f); err != nil {
				return c.counts, err
			}
		}
		c.collector.counts[Malformed] += log.unshown
	}
	j := judge{comparison: c}
	for i := range c.spill.buckets {
		if err := ctx.Err(); err != nil {
			return c.counts, context.Cause(ctx)
		}
		if err := j.bucket(i); err != nil {
			return c.counts, err
		}
		if progress != nil {
			progress(i+1, len(c.spill.buckets))
		}
	}
	c.counts.Findings = map[Kind]int64{}
	for kind, n := range c.collector.counts {
		if n > 0 {
			c.counts.Findings[Kind(kind)] = n
		}
	}
	return c.counts, c.collector.flush()
}

// keyHash stands for a key of a topic; keys themselves are not kept.
func (c *Comparison) keyHash(topic string, key []byte) uint64 {
	var h maphash.Hash
	h.SetSeed(c.seed)
	_, _ = h.WriteString(topic)
	_ = h.WriteByte(0)
	_, _ = h.Write(key)
	return h.Sum64()
}

func (c *Comparison) addKey(hash uint64, e *entry, scratch []byte) ([]byte, error) {
	var id [8]byte
	binary.BigEndian.PutUint64(id[:], hash)
	key := entry{kind: entryKey, id: id[:], place: e.place, offset: e.offset, position: e.position, time: e.time}
	scratch = key.append(scratch[:0])
	return scratch, c.spill.add(hash, scratch)
}

// never is later than any row.
const never = math.MaxInt64

func microTime(micro int64) time.Time {
	if micro == 0 {
		return time.Time{}
	}
	return time.UnixMicro(micro).UTC()
}
