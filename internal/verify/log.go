package verify

import (
	"bytes"
	"time"

	"github.com/outboxstream/streamer/replication"
	"github.com/outboxstream/streamer/router/kafka"
	"github.com/outboxstream/streamer/router/wire"
)

// Log takes the records of one partition, in the order of their offsets. It is
// not for concurrent use; several logs of a comparison are.
type Log struct {
	comparison *Comparison
	place      uint32
	name       placeName
	compacted  bool
	begins     bool // the next record of the streams is the first that is left

	// complete is the time from which on nothing was deleted, in microseconds;
	// completeFrom is the position. Both are 0 where everything is still there.
	complete     int64
	completeFrom replication.Position

	highest map[string]*summit // of each stream: shards write side by side

	records, replays, foreign int64
	malformed                 []Finding
	unshown                   int64 // further malformed records

	event   event
	others  attributeSet
	seen    [seenKeys]uint64
	scratch []byte
}

const (
	// seenKeys is how many keys a log remembers, so that a frequent key takes
	// little room. It must be a power of two.
	seenKeys = 1024
	// keptMalformed bounds how many records that are no events a log remembers.
	keptMalformed = 100
)

// OpenLog begins a partition. compacted says that the topic may drop records at
// any place. OpenLog may be called from several goroutines.
func (c *Comparison) OpenLog(l kafka.Log, compacted bool) *Log {
	log := &Log{
		comparison: c, name: placeName{l.Topic, l.Partition}, compacted: compacted,
		// A log that begins after the start is not about what was there before.
		begins:  l.Start > 0 && l.From == l.Start,
		others:  attributeSet{seed: c.seed, names: c.attributes},
		highest: map[string]*summit{},
	}
	log.place = c.place(l.Topic, l.Partition)
	if log.begins || compacted {
		log.complete = never // until a record shows the time
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.places[log.place].log = log
	c.logs = append(c.logs, log)
	return log
}

// Add takes the next record.
func (l *Log) Add(r *kafka.LogRecord) error {
	l.begins = l.begins || r.AfterGap
	l.others.sum = 0
	l.event.readHeaders(r.Headers, &l.others)
	if !l.event.stream || !l.comparison.streams[string(l.event.streamID)] {
		l.foreign++
		return nil
	}
	if l.event.deadLetter {
		return l.bury()
	}
	wrong := l.event.read(r.Value, &l.others)
	if l.event.tombstone {
		l.records++
		return nil
	}
	var position replication.Position
	if wrong == nil && len(l.event.sequence) > 0 { // a record replayed from the table has none
		position, wrong = wire.ParseSequence(string(l.event.sequence))
	}
	if wrong != nil {
		l.malform(r)
		return nil //nolint:nilerr // it is a finding
	}
	return l.add(r, position)
}

func (l *Log) add(r *kafka.LogRecord, position replication.Position) error {
	c := l.comparison
	at := l.event.committed(r.Time)
	e := entry{
		kind: entryRecord, id: c.options.identity(l.event.id, l.event.source), place: l.place, offset: r.Offset,
		position: position, time: at.UnixMicro(),
	}
	l.noteStart(&e)
	l.facts(r, &e.facts)
	e.mark(inRange, c.options.Span.record(position, at))
	if l.event.replay {
		e.kind = entryReplay
		l.replays++
	} else {
		l.records++
		l.order(&e)
	}
	l.scratch = e.append(l.scratch[:0])
	if err := c.spill.add(l.hash(e.id), l.scratch); err != nil {
		return err
	}
	if e.kind == entryReplay || !e.has(inRange) {
		return nil
	}
	return l.addKey(r.Key, &e)
}

// bury records a row that went to the dead letters. A dead letter without an ID
// excuses the rows without one.
func (l *Log) bury() error {
	e := entry{kind: entryExcuse, id: l.comparison.options.identity(l.event.rowID, l.event.rowSource), excuse: DeadLettered}
	l.scratch = e.append(l.scratch[:0])
	return l.comparison.spill.add(l.hash(e.id), l.scratch)
}

func (l *Log) hash(id []byte) uint64 { return hashID(l.comparison.seed, id) }

// noteStart records from where on the partition is complete.
func (l *Log) noteStart(e *entry) {
	if l.begins && !l.compacted {
		// Timestamps of records are truncated to milliseconds.
		l.complete, l.completeFrom = e.time+time.Millisecond.Microseconds(), e.position
	}
	l.begins = false
}

// summit is the record with the highest position so far.
type summit struct {
	position replication.Position
	offset   int64
}

// order compares a record with earlier ones of the same stream.
func (l *Log) order(e *entry) {
	highest := l.highest[string(l.event.streamID)] // no copy: the compiler takes care of that
	if highest == nil {
		highest = &summit{}
		l.highest[string(l.event.streamID)] = highest
	}
	if e.position.Compare(highest.position) > 0 {
		*highest = summit{e.position, e.offset}
		return
	}
	e.mark(behind, true)
	e.overtaken, e.ahead = highest.position, highest.offset
}

func (l *Log) facts(r *kafka.LogRecord, f *facts) {
	seed := l.comparison.seed
	f.set(factTopic, seed, []byte(l.name.topic))
	key := r.Key
	if key == nil {
		key = []byte{} // a null key is known, and wrong
	}
	f.set(factKey, seed, key)
	f.set(factType, seed, l.event.typ)
	f.set(factSubject, seed, l.event.subject)
	f.set(factSource, seed, l.event.source)
	f.set(factTime, seed, l.event.time)
	f.set(factContentType, seed, l.event.contentType)
	payload := HashPayload(l.event.data, l.event.hasData)
	f[factPayload] = payload.fact()
	f[factAttributes] = l.others.fact()
}

// addKey records that the key was seen here, not necessarily each time.
func (l *Log) addKey(key []byte, e *entry) (err error) {
	hash := l.comparison.keyHash(l.name.topic, key)
	seen := &l.seen[hash&(seenKeys-1)]
	if *seen == hash {
		return nil
	}
	*seen = hash
	l.scratch, err = l.comparison.addKey(hash, e, l.scratch)
	return err
}

// malform records that a record of the streams is no event.
func (l *Log) malform(r *kafka.LogRecord) {
	l.records++
	if !l.comparison.options.Span.time(r.Time) {
		return
	}
	if len(l.malformed) == keptMalformed {
		l.unshown++
		return
	}
	l.malformed = append(l.malformed, Finding{
		Kind: Malformed, EventID: string(bytes.Clone(l.event.id)), Committed: r.Time.UTC().Truncate(time.Microsecond),
		At: &Place{l.name.topic, l.name.partition, r.Offset},
	})
}
