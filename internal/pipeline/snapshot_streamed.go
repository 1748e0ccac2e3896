package pipeline

import (
	"cmp"
	"fmt"
	"hash/maphash"
	"math"
	"slices"

	"github.com/outboxstream/streamer/decoder"
	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/replication"
)

// streamedIDs are the IDs of the rows that the slot delivers, among those whose
// keys can be the keys of old rows. There may be more of them than fit into
// memory. Then only those with the lowest keys are kept, and the slot has to be
// read again when the snapshot has come that far.
type streamedIDs struct {
	main, tail []streamedID // sorted
	fresh      []streamedID // not yet sorted
	bounded    bool
	bound      int64 // rows of a higher rank are not covered
	most       int   // IDs in memory
	tied       int   // more than that, because all are of one rank
}

// streamedID is a hash of an ID. Two IDs with the same hash would be taken for
// the same: with 128 bits that does not happen.
type streamedID struct {
	high, low uint64
	rank      int64 // replication.Order.Rank of the row
}

// mostStreamed is how many IDs are kept in memory. Each takes 24 bytes, and
// sorting takes some of them twice.
const mostStreamed = 256 << 10

// tiedStreamed is how many may have the same rank: they cannot be told apart.
const tiedStreamed = 4

var idSeeds = [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}

func hashOf(id []byte) streamedID {
	return streamedID{high: maphash.Bytes(idSeeds[0], id), low: maphash.Bytes(idSeeds[1], id)}
}

func compareIDs(a, b streamedID) int {
	return cmp.Or(cmp.Compare(a.high, b.high), cmp.Compare(a.low, b.low))
}

// covers reports whether the IDs of all rows of a rank are known.
func (s *streamedIDs) covers(rank int64) bool { return !s.bounded || rank <= s.bound }

// empty reports whether nothing is known to be in the stream.
func (s *streamedIDs) empty() bool { return len(s.main)+len(s.tail)+len(s.fresh) == 0 }

// clear forgets all IDs, before the slot is read again.
func (s *streamedIDs) clear() {
	s.main, s.tail, s.fresh, s.bounded, s.tied = s.main[:0], s.tail[:0], s.fresh[:0], false, 0
}

// add notes an ID.
func (s *streamedIDs) add(id []byte, rank int64) error {
	if !s.covers(rank) {
		return nil
	}
	entry := hashOf(id)
	entry.rank = rank
	s.fresh = append(s.fresh, entry)
	if len(s.main)+len(s.tail)+len(s.fresh) < max(s.most, s.tied) {
		return nil
	}
	return s.narrow()
}

// narrow drops the upper half.
func (s *streamedIDs) narrow() error {
	s.merge()
	ranks := make([]int64, len(s.main))
	for i, entry := range s.main {
		ranks[i] = entry.rank
	}
	slices.Sort(ranks)
	bound := ranks[len(ranks)/2]
	if bound == ranks[len(ranks)-1] { // the upper half is of one rank
		at, _ := slices.BinarySearch(ranks, bound)
		if at == 0 {
			if s.tied = 2 * len(ranks); s.tied <= tiedStreamed*s.most {
				return nil
			}
			return failure.Refuse(failure.Advise(
				fmt.Errorf("more than %d rows that were written since the slot began are too alike in the column of snapshot.order_by", len(ranks)-1),
				"name another column in snapshot.order_by",
			))
		}
		bound = ranks[at-1]
	}
	s.bounded, s.bound = true, bound
	s.main = slices.DeleteFunc(s.main, func(entry streamedID) bool { return entry.rank > bound })
	return nil
}

// merge sorts everything into one list.
func (s *streamedIDs) merge() {
	s.main = append(append(s.main, s.tail...), s.fresh...)
	s.tail, s.fresh = s.tail[:0], s.fresh[:0]
	slices.SortFunc(s.main, compareIDs)
}

// settle prepares for has. The IDs of a moment are few beside those that are
// known, so they are kept separately until they have become many.
func (s *streamedIDs) settle() {
	if len(s.fresh) == 0 {
		return
	}
	if 8*(len(s.tail)+len(s.fresh)) > len(s.main) {
		s.merge()
		return
	}
	s.tail = append(s.tail, s.fresh...)
	s.fresh = s.fresh[:0]
	slices.SortFunc(s.tail, compareIDs)
}

// has reports whether an ID was added. settle must have been called.
func (s *streamedIDs) has(id []byte) bool {
	if s.empty() {
		return false
	}
	entry := hashOf(id)
	if _, found := slices.BinarySearchFunc(s.main, entry, compareIDs); found {
		return true
	}
	_, found := slices.BinarySearchFunc(s.tail, entry, compareIDs)
	return found
}

// orderExtension is the name under which a decoder reads the column by which
// rows are ordered.
const orderExtension = "order"

// streamedDecoder returns a decoder for the columns of the key. It leaves text
// in the encoding of the database, as the rows of the table are.
func (t *tenure) streamedDecoder() *decoder.Decoder {
	q := t.config.Snapshot.Query
	return decoder.New(decoder.Mapping{
		Schema: t.config.Mappings[0].Schema, Table: t.config.Mappings[0].Table,
		Columns: map[decoder.Attribute]string{decoder.ID: q.ID}, Extensions: map[string]string{orderExtension: q.OrderBy},
		RelationID: t.tables[0].OID, RelationSince: t.tables[0].Since(),
	})
}

// rankOf is the rank of a key of the stream. A key that cannot be compared is
// never left out.
func rankOf(o replication.Order, k replication.Key) int64 {
	if o.Check(k) != nil {
		return math.MinInt64
	}
	return o.Rank(k)
}
