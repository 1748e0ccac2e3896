package verify

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"hash/maphash"
	"slices"

	"github.com/outboxstream/streamer/replication"
)

func hashID(seed maphash.Seed, id []byte) uint64 { return maphash.Bytes(seed, id) }

// judge examines one bucket after the other. Its memory is reused.
type judge struct {
	comparison *Comparison
	buffer     []byte
	refs       []ref
	group      []entry

	// The group by kind.
	rows, records, replays, keys []*entry
	excuse                       Excuse
}

// ref is an entry in the buffer.
type ref struct {
	hash uint64
	at   int
	size int
}

// bucket judges all events whose IDs are in it.
func (j *judge) bucket(i int) (err error) {
	if j.buffer, err = j.comparison.spill.read(i, j.buffer); err != nil {
		return err
	}
	if err := j.index(); err != nil {
		return err
	}
	for start := 0; start < len(j.refs); {
		end := start + 1
		for end < len(j.refs) && j.refs[end].hash == j.refs[start].hash {
			end++
		}
		if err := j.same(j.refs[start:end]); err != nil {
			return err
		}
		start = end
	}
	return nil
}

// index finds the entries and sorts them by the hashes of their IDs.
func (j *judge) index() error {
	j.refs = j.refs[:0]
	var e entry
	for at := 0; at < len(j.buffer); {
		size, n := binary.Uvarint(j.buffer[at:])
		if n <= 0 || size > uint64(len(j.buffer)-at-n) {
			return errEntry
		}
		at += n
		if err := e.decode(j.buffer[at : at+int(size)]); err != nil {
			return err
		}
		hash := hashID(j.comparison.seed, e.id)
		if e.kind == entryKey {
			hash = ^binary.BigEndian.Uint64(e.id) // not among IDs
		}
		j.refs = append(j.refs, ref{hash, at, int(size)})
		at += int(size)
	}
	slices.SortFunc(j.refs, func(a, b ref) int { return cmp.Or(cmp.Compare(a.hash, b.hash), cmp.Compare(a.at, b.at)) })
	return nil
}

// same judges entries whose IDs have the same hash: nearly always of one ID.
func (j *judge) same(refs []ref) error {
	j.group = slices.Grow(j.group[:0], len(refs))[:len(refs)]
	for i, r := range refs {
		if err := j.group[i].decode(j.buffer[r.at : r.at+r.size]); err != nil {
			return err
		}
	}
	slices.SortStableFunc(j.group, compareIDs)
	for rest := j.group; len(rest) > 0; {
		n := 1
		for n < len(rest) && compareIDs(rest[n], rest[0]) == 0 {
			n++
		}
		if err := j.event(rest[:n]); err != nil {
			return err
		}
		rest = rest[n:]
	}
	return nil
}

func compareIDs(a, b entry) int {
	if a, b := a.kind == entryKey, b.kind == entryKey; a != b {
		if a {
			return 1
		}
		return -1
	}
	return bytes.Compare(a.id, b.id)
}

// event judges all entries of one event, or of one key.
func (j *judge) event(group []entry) error {
	j.sort(group)
	if len(j.keys) > 0 {
		return j.scattered()
	}
	c := j.comparison
	c.counts.Rows += int64(len(j.rows))
	switch published := len(j.records)+len(j.replays) > 0; {
	case len(j.rows) > 0 && !published:
		return j.absent()
	case len(j.rows) > 0:
		c.counts.Published += int64(len(j.rows))
	case published:
		if err := j.unmatched(); err != nil {
			return err
		}
	}
	if err := j.repeated(); err != nil {
		return err
	}
	return j.altered()
}

// sort separates the group by kind; records by position, then by place.
func (j *judge) sort(group []entry) {
	j.rows, j.records, j.replays, j.keys, j.excuse = j.rows[:0], j.records[:0], j.replays[:0], j.keys[:0], 0
	for i := range group {
		e := &group[i]
		switch e.kind {
		case entryRow:
			if !j.comparison.options.Union || !slices.ContainsFunc(j.rows, e.sameRow) {
				j.rows = append(j.rows, e)
			}
		case entryRecord:
			j.records = append(j.records, e)
		case entryReplay:
			j.replays = append(j.replays, e)
		case entryKey:
			j.keys = append(j.keys, e)
		case entryExcuse:
			j.excuse = max(j.excuse, e.excuse)
		}
	}
	slices.SortFunc(j.records, compareRecords)
	slices.SortFunc(j.keys, compareRecords)
}

func (e *entry) sameRow(other *entry) bool {
	return e.facts == other.facts && e.position == other.position
}

func compareRecords(a, b *entry) int {
	return cmp.Or(a.position.Compare(b.position), cmp.Compare(a.place, b.place), cmp.Compare(a.offset, b.offset))
}

// absent judges rows without a record.
func (j *judge) absent() error {
	c := j.comparison
	for _, row := range j.rows {
		switch {
		case row.has(unreadable):
			c.counts.Unreadable++
		case j.excuse == DeadLettered:
			c.counts.DeadLettered++
		case j.excuse == InFlight || c.options.Undecided:
			c.counts.InFlight++
		case row.has(undated):
			c.counts.Undated++
		case !row.has(inRange):
			c.counts.Outside++
		case c.expired(row):
			c.counts.Expired++
		default:
			if err := c.collector.found(c.missing(row)); err != nil {
				return err
			}
		}
	}
	return nil
}

// expired reports whether Kafka may have deleted the row's record: the row is
// not certainly younger than the oldest remaining record.
func (c *Comparison) expired(row *entry) bool {
	at := &c.places[row.place]
	if at.log != nil {
		return at.log.forgot(row)
	}
	for _, log := range c.logs { // the partition is unknown
		if log.name.topic == at.topic && log.forgot(row) {
			return true
		}
	}
	return false
}

func (l *Log) forgot(row *entry) bool {
	if l.complete == 0 {
		return false
	}
	if row.position != (replication.Position{}) && l.complete != never {
		return row.position.Compare(l.completeFrom) < 0
	}
	return row.time == 0 || row.time < l.complete
}

func (c *Comparison) missing(row *entry) Finding {
	at := c.places[row.place]
	f := Finding{Kind: Missing, EventID: eventID(row.id), Topic: at.topic, Committed: microTime(row.time)}
	if at.partition >= 0 {
		f.Partition = &at.partition
	}
	f.setPosition(row.position)
	return f
}

func (f *Finding) setPosition(p replication.Position) {
	if p != (replication.Position{}) {
		f.Position, f.Sequence = p.String(), sequence(p)
	}
}

// about begins a finding about a record.
func (c *Comparison) about(kind Kind, e *entry) Finding {
	f := Finding{Kind: kind, EventID: eventID(e.id), At: c.at(e.place, e.offset), Committed: microTime(e.time)}
	f.setPosition(e.position)
	return f
}

func (c *Comparison) at(i uint32, offset int64) *Place {
	return &Place{c.places[i].topic, c.places[i].partition, offset}
}

// unmatched judges records without a row.
func (j *judge) unmatched() error {
	c := j.comparison
	for i, e := range j.records {
		switch {
		case !e.has(inRange) || i > 0 && e.position == j.records[i-1].position:
		case c.options.Opened != 0 && e.position.Commit >= c.options.Opened:
			c.counts.Newer++
		case c.options.Strict:
			if err := c.collector.found(c.about(Phantom, e)); err != nil {
				return err
			}
		default:
			c.counts.Unmatched++
		}
	}
	return nil
}

// repeated judges records after the first. The first of each position must not
// have been overtaken. A table without a unique ID may hold several events of
// one ID: up to as many positions as there are rows are no repeats.
func (j *judge) repeated() error {
	c := j.comparison
	positions, first := 0, 0
	for i, e := range j.records {
		if i > 0 && e.position == j.records[first].position {
			if err := j.report(e, c.repetition(e, j.records[first])); err != nil {
				return err
			}
			continue
		}
		first = i
		if positions++; positions > max(1, len(j.rows)) {
			if err := j.report(e, c.repetition(e, j.records[0])); err != nil {
				return err
			}
		}
		if !e.has(behind) {
			continue
		}
		f := c.about(OutOfOrder, e)
		f.Other, f.OtherPosition = c.at(e.place, e.ahead), e.overtaken.String()
		if err := j.report(e, f); err != nil {
			return err
		}
	}
	return nil
}

func (j *judge) report(e *entry, f Finding) error {
	if !e.has(inRange) {
		return nil
	}
	return j.comparison.collector.found(f)
}

func (c *Comparison) repetition(e, first *entry) Finding {
	f := c.about(Repeated, e)
	f.Other, f.OtherPosition = c.at(first.place, first.offset), first.position.String()
	return f
}

// altered compares every record with its row, or with the first record of the
// event where there is no row.
func (j *judge) altered() error {
	for _, e := range slices.Concat(j.records, j.replays) {
		f, wrong := j.compare(e)
		if !wrong {
			continue
		}
		if err := j.report(e, f); err != nil {
			return err
		}
	}
	return nil
}

func (j *judge) compare(e *entry) (Finding, bool) {
	c := j.comparison
	for _, row := range j.rows {
		if row.facts.sameAs(&e.facts) {
			return Finding{}, false
		}
	}
	f := c.about(Altered, e)
	if len(j.rows) > 0 {
		f.Differs = j.rows[0].facts.differs(&e.facts)
		return f, true
	}
	if len(j.records) == 0 {
		return f, false
	}
	first := j.records[0]
	if first == e || first.facts.sameAs(&e.facts) {
		return f, false
	}
	f.Differs, f.Other = first.facts.differs(&e.facts), c.at(first.place, first.offset)
	return f, true
}

// scattered judges a key that was seen in several places.
func (j *judge) scattered() error {
	c := j.comparison
	first := j.keys[0]
	told := []uint32{first.place}
	for _, e := range j.keys[1:] {
		if slices.Contains(told, e.place) {
			continue
		}
		told = append(told, e.place)
		f := c.about(Scattered, e)
		f.EventID, f.Other = "", c.at(first.place, first.offset)
		if err := c.collector.found(f); err != nil {
			return err
		}
	}
	return nil
}
