package model

import (
	"slices"
	"time"

	"github.com/IBM/sarama"
)

// applyLocked handles a request as the broker would.
func (m *Cluster) applyLocked(n *Node, c *call) *sarama.ProduceResponse {
	response := &sarama.ProduceResponse{Version: 8, Blocks: map[string]map[int32]*sarama.ProduceResponseBlock{}}
	for _, b := range c.batches {
		block := m.applyBatch(n, b)
		if b.fault.Kind == DropBlock {
			continue
		}
		if response.Blocks[b.topic] == nil {
			response.Blocks[b.topic] = map[int32]*sarama.ProduceResponseBlock{}
		}
		response.Blocks[b.topic][b.partition] = block
	}
	return response
}

func (m *Cluster) applyBatch(n *Node, b *batch) *sarama.ProduceResponseBlock {
	block := &sarama.ProduceResponseBlock{Offset: -1}
	p := m.partition(b.topic, b.partition)
	if p == nil {
		block.Err = sarama.ErrUnknownTopicOrPartition
		return block
	}
	m.reorganise(p, b)
	if p.leader != n.id {
		block.Err = sarama.ErrNotLeaderForPartition
		return block
	}
	if b.fault.Kind == ErrorBefore {
		block.Err = b.fault.Code
		return block
	}
	if block.Err = m.judge(b, block); block.Err == sarama.ErrNoError {
		end := int64(len(p.Log))
		if block.Err = m.write(p, b); int64(len(p.Log)) > end {
			block.Offset = end // for a batch that it already has, the model leaves the offset open
		}
	}
	if b.fault.Kind == ErrorAfter {
		block.Err = b.fault.Code
	}
	return block
}

// reorganise changes the cluster as a fault requires.
func (m *Cluster) reorganise(p *Partition, b *batch) {
	switch b.fault.Kind {
	case Move:
		p.leader = (p.leader + 1) % m.brokers
	case Leaderless:
		next := (p.leader + 1) % m.brokers
		p.leader = -1
		time.AfterFunc(20*time.Second, func() {
			m.Lock()
			defer m.Unlock()
			p.leader = next
		})
	case Growth:
		m.GrowLocked(m.Topics[b.topic], 2)
	default:
	}
}

func (m *Cluster) judge(b *batch, block *sarama.ProduceResponseBlock) sarama.KError {
	if m.MaxRecords > 0 && len(b.records) > m.MaxRecords {
		return sarama.ErrMessageSizeTooLarge
	}
	for i, r := range b.records {
		if code, bad := m.Poison[r.EventID()]; bad && b.topic != "dead" {
			if code != sarama.ErrMessageSizeTooLarge {
				block.RecordErrors = []sarama.ProduceResponseRecordError{{BatchIndex: int32(i)}}
			}
			return code
		}
	}
	return sarama.ErrNoError
}

// write checks the sequence as Kafka does and appends.
func (m *Cluster) write(p *Partition, b *batch) sarama.KError {
	last := nextSequence(b.first, len(b.records)-1)
	s := p.states[b.id]
	if s != nil && time.Since(s.at) > m.Expiry {
		s = nil
	}
	switch {
	case s == nil:
		s = &State{epoch: b.epoch}
		p.states[b.id] = s
	case b.epoch < s.epoch:
		return sarama.ErrInvalidProducerEpoch
	case b.epoch > s.epoch:
		if b.first != 0 {
			return sarama.ErrOutOfOrderSequenceNumber
		}
		s = &State{epoch: b.epoch}
		p.states[b.id] = s
	default:
		if slices.Contains(s.batches, [2]int32{b.first, last}) {
			return sarama.ErrNoError
		}
		if b.first != s.next {
			return sarama.ErrOutOfOrderSequenceNumber
		}
	}
	s.next, s.at = nextSequence(last, 1), b.newest
	if now := time.Now(); now.Before(s.at) {
		s.at = now
	}
	s.batches = append(s.batches, [2]int32{b.first, last})
	s.batches = s.batches[max(0, len(s.batches)-5):]
	for _, r := range b.records {
		m.stamp++
		r.Stamp = m.stamp
		p.Log = append(p.Log, r)
	}
	return sarama.ErrNoError
}

// nextSequence is the sequence number n records later; they wrap from 2³¹−1 to 0.
func nextSequence(sequence int32, n int) int32 {
	return int32((int64(sequence) + int64(n)) & (1<<31 - 1))
}
