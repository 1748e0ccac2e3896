package router

import (
	"errors"
	"fmt"
	"hash/maphash"
	"math/bits"
	"slices"

	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/internal/mutation"
	"github.com/outboxstream/streamer/replication"
	"github.com/outboxstream/streamer/router/wire"
)

// ErrOtherHistory means that the rows from the slot are not the rows that were
// published before.
var ErrOtherHistory = errors.New("this is not the history that was published")

// Passage answers one question about a stream that is read again: was this row
// published before? It begins with the checkpoint and with what was found in
// Kafka. It lives as long as its producer. Meanwhile the connection to
// PostgreSQL may end any number of times, and a new connection begins again at
// the checkpoint.
//
// Positions alone prove nothing: after a failover or a restore other
// transactions reuse them. So every row that is skipped must reappear
// unchanged. Rows that this process has handled are compared by a running
// digest, earlier rows by landmarks. The WAL is linear: if its highest
// published row reappears unchanged, so has everything below it. Until then
// nothing may be confirmed.
//
// A Passage belongs to the goroutine that reads the stream. A nil *Passage
// skips nothing.
type Passage struct {
	// dealt is the last row that was handled, whatever the result: nothing at
	// or below it is published again. read is the last row that the stream
	// delivered.
	dealt, read Point
	base        replication.Position // of the session: rows at or below it were published before the checkpoint
	awaited     []Landmark           // of the session, in stream order
	at          *Landmark            // of the last row read, if that was found in Kafka

	landmarks []Landmark // found in Kafka
	single    map[replication.Position]struct{}
	written   map[string][]replication.Position // by topic and partition: everything up to this was published
	horizon   replication.Position              // nothing was found above it
}

// Point is a place in the stream and the digest of the rows up to it since the
// process began. Digests of two processes cannot be compared.
type Point struct {
	Position replication.Position
	Digest   uint64
}

// Landmark is a row that was published and must reappear in the stream.
type Landmark struct {
	Position replication.Position
	// EventID is compared, even if it is empty, unless there is a Digest.
	EventID string
	// CommitTime is in microseconds since the Unix epoch, 0 if it is unknown.
	CommitTime int64
	// Topic and Partition are where the row was found. Partition is -1 for any.
	// Without a Topic the row is known from a checkpoint or from this process.
	Topic     string
	Partition int32
	// Digest is the digest of all rows up to this one, 0 if it is unknown.
	Digest uint64
	// Key is the row's place in the order of a snapshot; empty for rows from the
	// stream.
	Key string
}

// seed makes the digests of one process comparable. Digests of another process
// are meaningless.
var seed = maphash.MakeSeed()

// NewPassage returns a Passage that begins after a checkpoint: everything at or
// below published.Position was published before. found is what was read back
// from Kafka. written is what Kafka acknowledged to a predecessor in this
// process, from Producer.Written. The Passage owns found.Published.
func NewPassage(published Point, found Found, written map[string][]replication.Position) *Passage {
	p := &Passage{
		dealt: published, landmarks: found.Landmarks, single: found.Published,
		written: map[string][]replication.Position{},
	}
	for topic, t := range found.Topics {
		for _, part := range t.Partitions {
			p.written[topic] = append(p.written[topic], part.Written)
		}
	}
	for topic, left := range written {
		if len(p.written[topic]) != len(left) {
			if p.written[topic] == nil {
				p.written[topic] = slices.Clone(left)
			}
			continue // the number of partitions differs: keys were elsewhere
		}
		for id, at := range left {
			p.written[topic][id] = later(p.written[topic][id], at)
		}
	}
	for _, partitions := range p.written {
		for _, at := range partitions {
			p.horizon = later(p.horizon, at)
		}
	}
	for at := range p.single {
		p.horizon = later(p.horizon, at)
	}
	p.Resume(published)
	return p
}

// Resume begins a session that reads from the checkpoint whose last row is
// from. landmarks are at or below from, or were left by a predecessor. They
// must reappear as well.
func (p *Passage) Resume(from Point, landmarks ...Landmark) {
	p.read, p.base, p.at = from, from.Position, nil
	p.awaited = slices.Clone(landmarks)
	if mutation.Active(mutation.OutliveHistory) {
		p.awaited = nil
		return
	}
	for _, l := range p.landmarks {
		if l.Position.Compare(p.dealt.Position) > 0 {
			p.awaited = append(p.awaited, l)
		}
	}
	if p.dealt.Position.Compare(from.Position) > 0 {
		p.awaited = append(p.awaited, Landmark{Position: p.dealt.Position, Digest: p.dealt.Digest})
	}
	slices.SortStableFunc(p.awaited, func(a, b Landmark) int { return a.Position.Compare(b.Position) })
}

// Pass processes the row that was just read. eventID is its event ID, if it has
// one. commitTime is in microseconds since the Unix epoch. Pass reports whether
// the row was handled before. An error is ErrOtherHistory.
func (p *Passage) Pass(at replication.Position, eventID []byte, commitTime int64) (published bool, err error) {
	if at.Compare(p.base) > 0 {
		p.read = Point{at, p.digest(at, eventID, commitTime)}
	}
	p.at = nil
	for len(p.awaited) > 0 {
		l := &p.awaited[0]
		order := at.Compare(l.Position)
		if order < 0 {
			break
		}
		if order > 0 || !p.matches(l, eventID, commitTime) {
			return false, l.missing()
		}
		if l.Topic != "" {
			p.at = l
		}
		p.awaited = p.awaited[1:]
	}
	return at.Compare(p.dealt.Position) <= 0, nil
}

func (p *Passage) matches(l *Landmark, eventID []byte, commitTime int64) bool {
	if l.Digest != 0 {
		return l.Digest == p.read.Digest
	}
	return l.EventID == string(eventID) && (l.CommitTime == 0 || l.CommitTime == commitTime)
}

// digest continues the digest of the last row. It is never 0.
func (p *Passage) digest(at replication.Position, eventID []byte, commitTime int64) uint64 {
	d := p.read.Digest
	for _, part := range [...]uint64{maphash.Bytes(seed, eventID), uint64(at.Commit), uint64(at.Ordinal), uint64(commitTime)} {
		high, low := bits.Mul64(d^part, 0x9e3779b97f4a7c15)
		d = high ^ low
	}
	return max(1, d)
}

// Dealt records that the last row read has been handled.
func (p *Passage) Dealt() {
	p.dealt = p.read
	if len(p.single) > 0 {
		delete(p.single, p.dealt.Position)
	}
}

// Reached tells the Passage that every transaction whose commit record begins
// below lsn has been read. It must be called before lsn is marked as
// confirmable. An error is ErrOtherHistory.
func (p *Passage) Reached(lsn replication.LSN) error {
	if len(p.awaited) > 0 && p.awaited[0].Position.Commit < lsn {
		return p.awaited[0].missing()
	}
	return nil
}

// Proven reports whether every row that must reappear has reappeared. Before
// that, nothing may be confirmed: confirmed rows cannot be read again.
func (p *Passage) Proven() bool { return len(p.awaited) == 0 }

// Furthest returns the highest row that must still reappear, if there is one.
func (p *Passage) Furthest() (replication.Position, bool) {
	if p.Proven() {
		return replication.Position{}, false
	}
	return p.awaited[len(p.awaited)-1].Position, true
}

// LastRead returns the last row read in this session.
func (p *Passage) LastRead() Point { return p.read }

// LastDealt returns the last row that was handled.
func (p *Passage) LastDealt() Point { return p.dealt }

// resuming reports whether the stream has not yet reached the last row that was
// found in Kafka.
func (p *Passage) resuming() bool { return p != nil && p.dealt.Position.Compare(p.horizon) < 0 }

// Alone reports whether the row was found as a single event, in any partition.
func (p *Passage) Alone(at replication.Position) bool {
	if p == nil || len(p.single) == 0 {
		return false
	}
	_, published := p.single[at]
	return published
}

// holds reports whether a partition has the last row read. partitions is the
// topic's partition count. A row that was found in another partition is
// ErrOtherHistory.
func (p *Passage) holds(at replication.Position, topic string, id int32, partitions int) (bool, error) {
	if p == nil || at.Compare(p.horizon) > 0 {
		return false, nil
	}
	if l := p.at; l != nil && l.Partition >= 0 && (l.Topic != topic || l.Partition != id) {
		p.awaited = append([]Landmark{*l}, p.awaited...) // it has not reappeared after all
		return false, l.missing()
	}
	return at.Compare(p.writtenTo(topic, id, partitions)) <= 0, nil
}

// writtenTo returns the position up to which a partition holds everything. The
// map never changes.
func (p *Passage) writtenTo(topic string, id int32, partitions int) replication.Position {
	if p == nil || len(p.written[topic]) != partitions {
		return replication.Position{}
	}
	return p.written[topic][id]
}

// missing returns the refusal for a landmark that has not reappeared unchanged.
func (l *Landmark) missing() error {
	const remedy = "compare the outbox table with Kafka (`streamer verify`), then decide with `streamer checkpoint set`"
	what := fmt.Sprintf("event %q was published with sequence %s", l.EventID, wire.FormatSequence(l.Position))
	switch {
	case l.Digest != 0:
		what = "rows up to sequence " + wire.FormatSequence(l.Position) + " were handed to Kafka before the connection to PostgreSQL was lost"
	case l.Topic != "":
		what = fmt.Sprintf("topic %q holds event %q with sequence %s", l.Topic, l.EventID, wire.FormatSequence(l.Position))
	}
	return failure.Refuse(failure.Advise(
		fmt.Errorf("%w: %s, but the slot has something else there: this server was restored from a backup, "+
			"was promoted without having received it, or is another one", ErrOtherHistory, what),
		remedy,
	))
}
