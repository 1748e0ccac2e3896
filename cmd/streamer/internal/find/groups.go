package find

import (
	"context"
	"strings"

	"github.com/outboxstream/streamer/cmd/streamer/internal/console"
	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/router/kafka"
)

// Group says how far a consumer group is from a record.
type Group struct {
	Group string `json:"group"`
	// State is Kafka's: Empty means that nobody consumes. It is empty where Kafka does
	// not say.
	State     string `json:"state,omitempty"`
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	Offset    int64  `json:"offset"` // of the record
	// Committed is the offset that the group reads next, null if it has committed none
	// in this partition.
	Committed *int64 `json:"committed_offset"`
	Passed    bool   `json:"passed"`
	// Before is how many offsets the group has to read before the record, Lag how
	// many to the end of the partition. Some of them may hold no record.
	Before int64 `json:"records_before"`
	Lag    int64 `json:"lag"`
}

// lookAtGroups compares the consumer groups with the records.
func (s *search) lookAtGroups(ctx context.Context) error {
	partitions := map[string][]int32{}
	for _, e := range s.events {
		for _, r := range e.Records {
			if partitions[r.Topic] == nil {
				for _, log := range s.partitions(ctx, r.Topic) {
					partitions[r.Topic] = append(partitions[r.Topic], log.Partition)
				}
			}
		}
	}
	if len(partitions) == 0 {
		return nil
	}
	found, err := s.kafka.Groups(ctx, partitions)
	switch {
	case err != nil:
		s.note("consumer groups: %s", failure.Describe(err))
	case len(found.Untold) > 0:
		s.note("consumer groups %s: their offsets are hidden from the streamer's principal: grant it Describe on them",
			strings.Join(found.Untold, ", "))
	case !found.Complete:
		s.note("consumer groups that the streamer's principal may not describe, if there are any: " +
			"grant it Describe on the groups, or on the cluster")
	}
	for _, e := range s.events {
		for _, r := range e.Records {
			end := s.endOf(r)
			for _, g := range found.Groups {
				if consumes(g, r.Topic) {
					e.Groups = append(e.Groups, compare(g, r, end))
				}
			}
		}
	}
	return nil
}

// consumes reports whether a group has committed offsets in a topic.
func consumes(g kafka.Group, topic string) bool {
	for at := range g.Offsets {
		if at.Topic == topic {
			return true
		}
	}
	return false
}

func (s *search) endOf(r Record) int64 {
	for _, log := range s.logs[r.Topic] {
		if log.Partition == r.Partition {
			return log.End
		}
	}
	return r.Offset + 1
}

func compare(g kafka.Group, r Record, end int64) Group {
	c := Group{Group: g.Name, State: g.State, Topic: r.Topic, Partition: r.Partition, Offset: r.Offset}
	next, ok := g.Offsets[kafka.TopicPartition{Topic: r.Topic, Partition: r.Partition}]
	if !ok {
		return c
	}
	c.Committed, c.Passed = &next, next > r.Offset
	c.Before, c.Lag = max(0, r.Offset-next), max(0, end-next)
	return c
}

// distance says in words where a group is.
func (g Group) distance() string {
	idle := ""
	if g.State == "Empty" || g.State == "Dead" {
		idle = ", and nobody consumes in it"
	}
	switch {
	case g.Committed == nil:
		return "has committed no offset in this partition" + idle
	case g.Passed:
		return "has passed it" + idle
	case g.Before == 0:
		return "has not passed it: it is the next one" + idle
	}
	return "has not reached it: " + console.Grouped(g.Before) + " records before it" + idle
}
