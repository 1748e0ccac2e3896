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

// ErrOtherHistory tells that what comes out of the slot is not what was
// published before.
var ErrOtherHistory = errors.New("this is not the history that was published")

// Passage answers the one question of a stream that is read again: was this row
// published before? It begins with what a checkpoint says and what was found in
// Kafka, and lives as long as its producer; a connection to PostgreSQL may end and
// a new one begin again at the checkpoint any number of times meanwhile.
//
// Positions alone prove nothing: after a fail-over or a restore other transactions
// reuse them. So whatever is passed over has to come by as it was. The rows that
// were dealt with in this process are compared by a running digest, those from
// before by landmarks. The log is one line: if its highest published row comes by
// unchanged, so has everything below it. Until then nothing may be confirmed.
//
// A Passage belongs to the goroutine that reads the stream. A nil *Passage passes
// nothing over.
type Passage struct {
	// dealt is the last row that was dealt with, whatever became of it: nothing at
	// or below it is published again. read is the last row that has come by.
	dealt, read Point
	base        replication.Position // of the session: what lies at or below it was published before the checkpoint
	awaited     []Landmark           // of the session, in stream order
	at          *Landmark            // of the row that came by last, if it is one that was found in Kafka

	landmarks []Landmark // found in Kafka
	single    map[replication.Position]struct{}
	written   map[string][]replication.Position // by topic and partition: everything up to there was published
	horizon   replication.Position              // above it, nothing was found
}

// Point is a place in the stream, and the digest of what has come by up to there
// since the process began. Digests of two processes have nothing in common.
type Point struct {
	Position replication.Position
	Digest   uint64
}

// Landmark is a row that was published and must come by again.
type Landmark struct {
	Position replication.Position
	// EventID is compared, empty or not, unless there is a Digest.
	EventID string
	// CommitTime is in microseconds since the Unix epoch, 0 if it is not known.
	CommitTime int64
	// Topic and Partition are where it was found; Partition is -1 for any. Without
	// a Topic it is known from a checkpoint or from this process.
	Topic     string
	Partition int32
	// Digest is that of everything up to here, 0 if it is not known.
	Digest uint64
}

// seed makes digests of one process comparable, those of another meaningless.
var seed = maphash.MakeSeed()

// NewPassage begins behind a checkpoint: what lies at or below published.Position
// was published before. found is what was read back from Kafka. written is what a
// predecessor in this process has had acknowledged, from Producer.Written. The
// Passage owns found.Published.
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
			continue // of another number of partitions: keys were elsewhere
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

// Resume begins a session that reads from the checkpoint whose last row is from.
// The landmarks lie at or below that, or were left by a predecessor, and must come
// by as well.
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

// Pass takes notice of the row that has come by: its position, its event ID as far
// as it has one, and when it was committed, in microseconds since the Unix epoch.
// It reports whether the row was dealt with before. An error is ErrOtherHistory.
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

// digest goes on from that of the last row. It is never 0.
func (p *Passage) digest(at replication.Position, eventID []byte, commitTime int64) uint64 {
	d := p.read.Digest
	for _, part := range [...]uint64{maphash.Bytes(seed, eventID), uint64(at.Commit), uint64(at.Ordinal), uint64(commitTime)} {
		high, low := bits.Mul64(d^part, 0x9e3779b97f4a7c15)
		d = high ^ low
	}
	return max(1, d)
}

// Dealt tells that the row that came by last has been dealt with.
func (p *Passage) Dealt() {
	p.dealt = p.read
	if len(p.single) > 0 {
		delete(p.single, p.dealt.Position)
	}
}

// Reached tells that every transaction whose commit record begins below lsn has
// come by. It is to be called before that is marked as something that may be
// confirmed. An error is ErrOtherHistory.
func (p *Passage) Reached(lsn replication.LSN) error {
	if len(p.awaited) > 0 && p.awaited[0].Position.Commit < lsn {
		return p.awaited[0].missing()
	}
	return nil
}

// Proven reports whether everything that has to come by again has. Before that,
// nothing may be confirmed: what is confirmed cannot be read again.
func (p *Passage) Proven() bool { return len(p.awaited) == 0 }

// Furthest is the highest row that has to come by again, if there is one.
func (p *Passage) Furthest() (replication.Position, bool) {
	if p.Proven() {
		return replication.Position{}, false
	}
	return p.awaited[len(p.awaited)-1].Position, true
}

// LastRead is the last row that has come by in this session.
func (p *Passage) LastRead() Point { return p.read }

// LastDealt is the last row that was dealt with.
func (p *Passage) LastDealt() Point { return p.dealt }

// resuming reports whether the stream has not come to the last row that was found
// in Kafka.
func (p *Passage) resuming() bool { return p != nil && p.dealt.Position.Compare(p.horizon) < 0 }

// Alone reports whether the row was found by itself, in whatever partition.
func (p *Passage) Alone(at replication.Position) bool {
	if p == nil || len(p.single) == 0 {
		return false
	}
	_, published := p.single[at]
	return published
}

// holds reports whether a partition, of so many of its topic, has the row that came
// by last. A row that was found in another partition is ErrOtherHistory.
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

// writtenTo is up to where a partition holds everything. The map never changes.
func (p *Passage) writtenTo(topic string, id int32, partitions int) replication.Position {
	if p == nil || len(p.written[topic]) != partitions {
		return replication.Position{}
	}
	return p.written[topic][id]
}

// missing is the refusal where a landmark has not come by as it was.
func (l *Landmark) missing() error {
	const remedy = "compare the outbox table with Kafka (`streamer verify`), then decide with `streamer checkpoint set`"
	what := fmt.Sprintf("event %q was published with sequence %s", l.EventID, wire.FormatSequence(l.Position))
	switch {
	case l.Digest != 0:
		what = "rows up to sequence " + wire.FormatSequence(l.Position) + " were handed to Kafka before the connection to PostgreSQL was lost"
	case l.Topic != "":
		what = fmt.Sprintf("topic %q holds event %q with sequence %s", l.Topic, l.EventID, wire.FormatSequence(l.Position))
	}
	return failure.Refuse(fmt.Errorf("%w: %s, but the slot has something else there: this server was restored from a backup, was promoted without having received it, or is another one: %s",
		ErrOtherHistory, what, remedy))
}
