package model

import (
	"time"

	"github.com/IBM/sarama"
)

// ownership is what the transaction coordinator knows about a transactional ID.
type ownership struct {
	id    int64
	epoch int16
}

// InitProducerID returns the next epoch of a transactional ID: a producer with
// an earlier epoch can start no transaction any more.
func (m *Cluster) InitProducerID(transactionalID string) (id int64, epoch int16) {
	m.Lock()
	defer m.Unlock()
	if o := m.owners[transactionalID]; o != nil {
		o.epoch++
		return o.id, o.epoch
	}
	m.ids++
	m.owners[transactionalID] = &ownership{id: m.ids}
	return m.ids, 0
}

// Abort writes the marker of an aborted, empty transaction into each partition.
// From then on, batches of an earlier epoch are refused there. A marker takes
// an offset but is no record.
func (m *Cluster) Abort(transactionalID string, id int64, epoch int16, partitions map[string][]int32) error {
	m.Lock()
	defer m.Unlock()
	if o := m.owners[transactionalID]; o == nil || o.id != id || o.epoch != epoch {
		return sarama.ErrInvalidProducerEpoch
	}
	for topic, ids := range partitions {
		for _, part := range ids {
			if m.partition(topic, part) == nil {
				return sarama.ErrUnknownTopicOrPartition
			}
		}
	}
	for topic, ids := range partitions {
		for _, part := range ids {
			p := m.partition(topic, part)
			s := p.states[id]
			if s == nil || s.epoch != epoch {
				s = &State{epoch: epoch}
				p.states[id] = s
			}
			s.at = time.Now()
			p.Log = append(p.Log, Record{Marker: true})
		}
	}
	return nil
}

// Restart simulates a broker's restart: it forgets producers whose newest
// record has aged.
func (m *Cluster) Restart() {
	m.Lock()
	defer m.Unlock()
	for _, t := range m.Topics {
		for _, p := range t.Partitions {
			for id, s := range p.states {
				if time.Since(s.at) > m.Expiry {
					delete(p.states, id)
				}
			}
		}
	}
}
