package pipeline

import (
	"fmt"
	"time"

	"github.com/outboxstream/streamer/checkpoint"
	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/replication"
	"github.com/outboxstream/streamer/router"
)

// seam is what an interrupted snapshot has left in Kafka. Each partition holds a
// prefix of the rows that are routed to it, in the order of their keys, so the
// key of its last record says which ones it has. Rows cannot be counted: some
// may have been deleted since. Positions do not help either, for the same
// reason.
type seam struct {
	mark    string // of the records
	order   replication.Order
	last    map[string][]replication.Key // by topic and partition; nil: none
	pending int                          // partitions in last with a key
	buried  map[string]struct{}          // keys of dead letters
	ordinal uint32                       // the highest in any partition
	key     replication.Key              // of the row that is being appended
}

// newSeam takes from found what belongs to the snapshot of r. It is nil without
// a snapshot. What a stream would have to see again is not needed: the rows may
// be gone.
func newSeam(r resumePoint, found *router.Found, letters string) (*seam, error) {
	if !r.Snapshot.Pending() {
		return nil, nil
	}
	s := &seam{
		mark: r.Snapshot.Begun.Format(time.RFC3339), order: r.order, last: map[string][]replication.Key{}, buried: found.Keys,
		ordinal: r.Snapshot.Ordinal,
	}
	for topic, t := range found.Topics {
		if before := r.Topics[topic]; topic != letters && len(before.Offsets) != len(t.Partitions) {
			return nil, partitionsChanged(r.Snapshot, topic, len(before.Offsets), len(t.Partitions))
		}
		s.last[topic] = make([]replication.Key, len(t.Partitions))
	}
	for _, l := range found.Landmarks {
		if err := checkOldLandmark(l, r.LSN-1); err != nil {
			return nil, err
		}
		s.ordinal = max(s.ordinal, l.Position.Ordinal)
		if l.Partition < 0 {
			continue
		}
		key, err := s.order.Parse(l.Key)
		if err != nil {
			return nil, failure.Refuse(fmt.Errorf("topic %q partition %d: %w", l.Topic, l.Partition, err))
		}
		s.last[l.Topic][l.Partition] = key
		s.pending++
	}
	for at := range found.Published {
		s.ordinal = max(s.ordinal, at.Ordinal)
	}
	found.Landmarks, found.Published = nil, nil
	return s, nil
}

func partitionsChanged(s *checkpoint.Snapshot, topic string, before, now int) error {
	return failure.Refuse(failure.Advise(
		fmt.Errorf(
			"the snapshot of table %s is not finished, but topic %q has %d partitions and had %d: keys have moved", s.Table, topic, now, before,
		),
		"%s", "give the topic its former number of partitions, "+snapshotRemedy))
}

// held reports whether a partition has the row that is being appended. Once a
// partition is past its last key, it has none of the rows that follow.
func (s *seam) held(topic string, partition int32) bool {
	if s.pending == 0 {
		return false
	}
	last := s.last[topic]
	if int(partition) >= len(last) || last[partition] == nil {
		return false
	}
	if s.order.Compare(s.key, last[partition]) <= 0 {
		return true
	}
	last[partition] = nil
	s.pending--
	return false
}

// isBuried reports whether a row became a dead letter before.
func (s *seam) isBuried(key []byte) bool {
	_, is := s.buried[string(key)]
	return is
}
