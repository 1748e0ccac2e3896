package router

import (
	"errors"
	"fmt"

	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/replication"
)

// ErrOtherHistory tells that what comes out of the slot is not what was
// published before.
var ErrOtherHistory = errors.New("this is not the history that was published")

// resumption is what has been read back and has not come by again.
type resumption struct {
	published map[replication.Position]struct{}
	landmarks []Landmark
}

func newResumption(f Found) *resumption {
	if len(f.Published) == 0 && len(f.Landmarks) == 0 {
		return nil
	}
	return &resumption{published: f.Published, landmarks: f.Landmarks}
}

// pass tells whether the event was published before. The highest event of each
// partition must come by again as it was published, else what has been read
// back says nothing about this stream, and skipping by it would lose events.
// part is nil where the partition does not matter.
func (r *resumption) pass(at replication.Position, eventID string, part *partition) (published bool, err error) {
	if len(r.landmarks) > 0 {
		next := r.landmarks[0]
		order := at.Compare(next.Position)
		same := order == 0 && eventID == next.EventID &&
			(next.Partition < 0 || part == nil || part.topic.name == next.Topic && part.id == next.Partition)
		if order > 0 || order == 0 && !same {
			return false, failure.Refuse(fmt.Errorf("%w: topic %q holds event %q with sequence %s, but the slot has something else there: this server lacks what was published: compare the outbox table with Kafka (`streamer verify`), then decide with `streamer checkpoint set`",
				ErrOtherHistory, next.Topic, next.EventID, FormatSequence(next.Position)))
		}
		if same {
			r.landmarks = r.landmarks[1:]
		}
	}
	_, published = r.published[at]
	delete(r.published, at)
	return published, nil
}

func (r *resumption) over() bool { return len(r.landmarks) == 0 && len(r.published) == 0 }

// FormatSequence is the position as in the sequence attribute.
func FormatSequence(p replication.Position) string {
	return string(appendSequence(nil, p))
}
