package router

import (
	"fmt"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/internal/kafkatest/model"
	"github.com/outboxstream/streamer/replication"
	"github.com/outboxstream/streamer/router/kafka"
)

// modelled is the model broker as a producer uses it.
type modelled struct{ *model.Cluster }

func newModel(nodes int) *modelled { return &modelled{model.New(nodes)} }

// newOrders returns a model broker with the topic of orders.
func newOrders(nodes, partitions int) *modelled {
	m := newModel(nodes)
	m.Topic(orders, partitions)
	return m
}

func (m *modelled) Leader(topic string, partition int32) (kafka.Connection, error) {
	node, err := m.Cluster.Leader(topic, partition)
	if err != nil {
		return nil, err
	}
	return node, nil
}

// ID returns a different producer id for each producer.
func (m *modelled) ID() (int64, int16) { return m.NewProducerID(), 0 }

func (m *modelled) Admit(topic string, partitions int) (kafka.Admission, error) {
	return kafka.Admission{TopicID: m.Topics[topic].ID, Ends: m.Ends(topic, partitions)}, nil
}

func (m *modelled) Renew() (time.Duration, error) { return time.Hour, nil }
func (m *modelled) Lapsed() error                 { return nil }
func (m *modelled) Remembers() time.Duration      { return m.Expiry }

// checkMarks proves that every event above the checkpoint is at or above the
// mark of its partition, except for those inherited from a predecessor.
func (m *modelled) checkMarks(
	t require.TestingT, marks map[string]Marks, checkpoint replication.LSN, inherited map[string][]replication.Position,
) {
	m.Lock()
	defer m.Unlock()
	for name, topic := range m.Topics {
		for id, p := range topic.Partitions {
			if id >= len(marks[name].Offsets) {
				continue // nothing has been written to it
			}
			for offset, r := range p.Log[:min(int64(len(p.Log)), marks[name].Offsets[id])] {
				var n int
				if _, err := fmt.Sscanf(r.EventID(), "event-%d", &n); err == nil &&
					(id >= len(inherited[name]) || commitOf(n) > inherited[name][id].Commit) {
					require.Less(t, commitOf(n), checkpoint, "%s of topic %s partition %d is at %d, below the mark", r.EventID(), name, id, offset)
				}
			}
		}
	}
}
